"""Predictions as text and data: rows, accuracy, and what is not finite."""

import csv
import io
import json

import numpy as np

from tinymaml.report import predictions
from tinymaml.report.predictions import Prediction, Predictions


SURE, UNSURE, LOST = [0.1, 0.9], [0.75, 0.25], [np.nan, np.nan]


def made(*rows, sizes=(("a", 1), ("b", 3))):
    """Answers about files 0, 1, ...: each row has a label, and the probabilities."""
    each = [
        Prediction(f"{i}.png", label, np.array(p)) for i, (label, *p) in enumerate(rows)
    ]
    return Predictions("runs/x", 2, dict(sizes), "a head", each)


def test_the_table_has_the_answers_and_marks_mistakes():
    """Rejects a class that stands in the row of another, and a mistake before adaptation
    that is marked as one after it."""
    found = made((1, UNSURE, SURE), (0, UNSURE, SURE), (None, SURE, UNSURE))
    assert predictions.as_text(found).splitlines() == [
        "runs/x: 3 images, 2 classes of 1 to 3 support images each, 2 steps",
        "a head",
        "query   class   before   probability   after   probability",
        "0.png   b       a        75.0 %        b       90.0 %",
        "1.png   a       a        75.0 %        b       90.0 %        wrong",
        "2.png           b        90.0 %        a       75.0 %",
        "accuracy: before 50.00 +- 635.31 %, after 50.00 +- 635.31 % (1 of 2)",
    ]


def test_no_interval_without_a_difference():
    """Rejects "100 +- 0 %" of two queries, and an accuracy where no class is known."""
    text = predictions.as_text(made((1, UNSURE, SURE), (1, UNSURE, SURE)))
    assert text.endswith("accuracy: before 0.00 %, after 100.00 % (2 of 2)")
    assert "accuracy" not in predictions.as_text(made((None, SURE, SURE)))
    alone = json.loads(predictions.as_json(made((1, UNSURE, SURE))))["accuracy"]
    assert alone["after"] == {"mean": 1.0, "half_width_95": None}


def test_an_output_that_is_not_finite_is_no_answer():
    """Rejects the first class for a net that diverged, and NaN in JSON."""
    found = made((0, SURE, LOST), (1, SURE, SURE))
    assert "?       not finite" in predictions.as_text(found)
    assert "after not finite (1 of 2)" in predictions.as_text(found)
    read = json.loads(predictions.as_json(found))
    after = {"class": None, "probabilities": {"a": None, "b": None}}
    assert read["queries"][0]["after"] == after
    (row, _) = csv.DictReader(io.StringIO(predictions.as_csv(found)))
    assert (row["after"], row["after_probability"]) == ("", "")


def test_a_name_that_cannot_be_printed_is_escaped():
    """Rejects a file's name that moves the cursor, or that ends the command."""
    one = made((None, SURE, SURE))
    named = one._replace(each=[one.each[0]._replace(file="\x1b[2J\udcff.png")])
    assert "\\x1b[2J\\udcff.png" in predictions.as_text(named)
    assert "\\x1b[2J\\udcff.png" in predictions.as_csv(named)
