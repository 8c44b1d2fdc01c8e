"""The analysis of feature reuse as text and JSON: every figure in its place and unit."""

import json

import numpy as np

from tinymaml.experiments.glyphs import Glyphs
from tinymaml.harness.reuse import Reuse
from tinymaml.report import reuse
from tinymaml.summary import interval


FIGURES = [
    *(
        ("accuracy", "before"),
        ("accuracy", "after"),
        ("frozen", "conv0"),
        ("NIL", "before"),
    ),
    *(("NIL", "after"), ("head step", "2"), ("head", "reach"), ("change", "conv0")),
    *(("gradient", "conv0"), ("CKA", "conv0"), ("CCA", "conv0")),
]
NAMES = [
    *("accuracy before adaptation", "accuracy after adaptation"),
    *("accuracy, frozen up to conv0", "NIL before adaptation", "NIL after adaptation"),
    *("accuracy, head alone, step x 2", "head: reach", "relative change of conv0"),
    *("norm of first gradient of conv0", "CKA of conv0", "CCA of conv0"),
]
PER_CENT = 6  # the first rows


def made(seed, iteration):
    """Return random figures of five tasks."""
    rng = np.random.default_rng(seed)
    found = {key: rng.random(5) for key in FIGURES}
    config = Glyphs(iterations=90, test_queries=7, queries=4)
    return Reuse(config, iteration, "test", 3, "beef", ("conv0", "head"), found)


PAIR = made(0, 60), made(1, 0)


def test_a_row_a_figure():
    """Rejects a half-width on another scale than its mean, the untrained net's figure for
    the trained one's, and rows under each other's name."""
    lines = reuse.as_text({"run": PAIR}).splitlines()
    assert lines[0] == (
        "run: Glyphs, 5-way 1-shot, MAML, 1 inner step, 60 iterations; 5 test tasks,"
        " 7 queries per class, 3 gradient steps"
    )
    assert lines[2].split() == ["run", "untrained"]
    for number, (key, name) in enumerate(zip(FIGURES, NAMES, strict=True)):
        cells = []
        for one in PAIR:
            mean, half = interval(one.figures[key])
            text = f"{mean:.3f} +- {half:.3f}"
            if number < PER_CENT:
                text = f"{100 * mean:.1f} +- {100 * half:.1f} %"
            cells.append(text)
        assert lines[3 + number].split("   ")[0] == name
        assert [x.strip() for x in lines[3 + number].split("   ")[1:] if x] == cells


def test_training_tasks_have_their_own_queries():
    """Rejects the number of queries at test for tasks of the training classes."""
    title = reuse.title(PAIR[0]._replace(split="train"))
    assert "5 train tasks, 4 queries per class" in title


def test_the_json_is_of_the_theta_and_of_its_net_before():
    """Rejects the length of the training for the iteration of the theta, and figures of
    one net for those of the other."""
    [found] = json.loads(reuse.as_json({"run": PAIR}))
    about = {k: x for k, x in found.items() if k not in ("figures", "untrained", "verdict")}
    assert about == {
        **{"run": "run", "experiment": "glyphs", "algorithm": "maml", "iterations": 60},
        **{"split": "test", "tasks": 5, "tasks_sha256": "beef", "steps": 3},
        "layers": ["conv0", "head"],
    }
    for name, one in zip(("figures", "untrained"), PAIR, strict=True):
        for group, row in FIGURES:
            mean, half = interval(one.figures[group, row])
            expected = {"mean": mean, "half_width_95": half, "not_finite": 0}
            assert found[name][group][row] == expected
    assert {*found["verdict"]} == {"reuse", "reused", "suffice", "changed"}
