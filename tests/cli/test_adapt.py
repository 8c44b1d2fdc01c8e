"""`tinymaml adapt`: points of one's own task, read from a file."""

import csv
import io
import json

import numpy as np
import pytest

from processes import here, one_error, tree
from tinymaml import study


SMALL = {"hidden": (5,), "tasks": 3, "iterations": 2}
POINTS = "x,y\n-1.5,0.3\n 2.0 , -0.8\n\n0.5,\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A trained sine net in the folder "run", where commands run."""
    monkeypatch.chdir(tmp_path)
    return study.train(study.options("sine", **SMALL), folder="run")


def write(tmp_path, text):
    """Write points.csv."""
    (tmp_path / "points.csv").write_bytes(text.encode() if isinstance(text, str) else text)


def test_all_forms_have_the_numbers_of_the_net(run, tmp_path):
    """Rejects the support points as queries only, other steps, and rounded JSON."""
    write(tmp_path, POINTS)
    x, y = np.array([[-1.5], [2.0], [0.5]]), np.array([[0.3], [-0.8]])
    before, after = (run.adapt(x[:2], y, steps)(x)[:, 0].tolist() for steps in (0, 4))
    assert before != after
    told = json.loads(here("adapt", "run", "points.csv", "--steps", "4", "--json").out)
    assert told["steps"] == 4
    assert [one["inputs"] for one in told["points"]] == x.tolist()
    assert [one["targets"] for one in told["points"]] == [[0.3], [-0.8], [None]]
    assert [one["before"][0] for one in told["points"]] == before
    assert [one["after"][0] for one in told["points"]] == after
    rows = [
        *csv.reader(
            io.StringIO(here("adapt", "run", "points.csv", "--csv", "--steps", "4").out)
        )
    ]
    assert rows[0] == ["x", "y", "before", "after"]
    assert [row[1] for row in rows[1:]] == ["0.3", "-0.8", ""]
    assert [float(row[3]) for row in rows[1:]] == after
    table = here("adapt", "run", "points.csv", "--steps", "4").out
    assert table.startswith("run: adapted to 2 of 3 points, 4 steps\n")
    assert f"{after[2]:.4f}" in table


def test_steps_are_those_of_the_run(run, tmp_path):
    """Rejects another number of steps than in the run's evaluation."""
    write(tmp_path, POINTS)
    asked = here("adapt", "run", "points.csv", "--json", "--steps", run.config.test_steps)
    assert here("adapt", "run", "points.csv", "--json").out == asked.out


def test_a_step_size_that_is_tuned_elsewhere_is_noted(tmp_path, monkeypatch):
    """Rejects a pretrained net that is adapted with an arbitrary step size in silence."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, POINTS)
    for algorithm, words in (
        ("pretrained", "the step size 0.01 is not tuned here"),
        ("maml", ""),
    ):
        study.train(study.options("sine", **SMALL, algorithm=algorithm), folder=algorithm)
        assert words in here("adapt", algorithm, "points.csv").err
    assert here("adapt", "maml", "points.csv").err == ""


WRONG = {
    "three": ("1,2,3\n", "line 1 of 'points.csv' has not 1 inputs and 1 targets, or none"),
    "text": ("x,y\n1,2\none,2\n", "line 3 of 'points.csv' has not only finite numbers"),
    "nan": ("x,y\n1,nan\n", "line 2 of 'points.csv' has not only finite numbers"),
    "no input": ("1,2\n,2\n", "line 2 of 'points.csv' has not only finite numbers"),
    "no targets": ("1,\n2,\n", "'points.csv': no line has inputs and targets"),
    "empty": ("", "'points.csv': no line has inputs and targets"),
    "no text": (b"\xff\xfe\x00", "'points.csv' is not a readable csv file"),
    "huge": ("1e30,2\n", "'points.csv': the adaptation diverged; alpha 0.01 is too large"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_one_line(run, tmp_path, name):
    """Rejects a traceback, a line that is skipped in silence, and a prediction of nan."""
    text, expected = WRONG[name]
    write(tmp_path, text)
    before = tree(tmp_path)
    told = here("adapt", "run", "points.csv")
    assert told.code == 1
    assert expected in one_error(told)
    assert tree(tmp_path) == before


def test_a_run_that_is_no_regression_is_refused(tmp_path, monkeypatch):
    """Rejects points for a net of images, and two forms at once."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, POINTS)
    told = here("adapt", "kept:omniglot-5w1s", "points.csv")
    assert (told.code, one_error(told)) == (
        2,
        "Error: a run of omniglot is no regression of points",
    )
    assert here("adapt", "kept:omniglot-5w1s", "points.csv", "--csv", "--json").code == 2
