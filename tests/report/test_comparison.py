"""Different runs in one table: only those that were scored on the same tasks."""

import numpy as np

from tinymaml.experiments.pointnav import PointNav
from tinymaml.experiments.sine import Sine
from tinymaml.harness.results import Result
from tinymaml.report import comparison


NAN = float("nan")


def result_of(config, scores, sha256="beef", split="test", iterations=(70,)):
    """A result with scores (k, tasks) or (runs, k, tasks)."""
    scores = np.array(scores, float)
    scores = scores if scores.ndim == 3 else scores[None]
    seeds = tuple(range(len(scores)))
    rest = sha256, scores, None, (), ()
    return Result(config, config, split, seeds, iterations, (NAN,), *rest)


THREE = [[0.0, 1.0], [0.5, 0.5], [0.25, 0.25]]
MAML = result_of(Sine(), THREE)
ANIL = result_of(Sine(algorithm="anil"), THREE[:2])


def test_runs_on_the_same_tasks_have_one_table():
    """Rejects a table for each, a score after other steps, and a step that a run lacks."""
    title, table = comparison.blocks([MAML, ANIL])
    assert title == "Sine, 10 shots: MSE on the same 2 test tasks (95 % interval)"
    assert table == [
        ["run", "0 steps", "1 step", "2 steps"],
        [
            "MAML, 2 inner steps",
            *("0.5000 +- 6.3531", "0.5000 +- 0.0000", "0.2500 +- 0.0000"),
        ],
        ["ANIL, 5 inner steps", "0.5000 +- 6.3531", "0.5000 +- 0.0000", ""],
    ]


def test_other_tasks_are_not_compared():
    """Rejects one table of other shots, another split, another experiment, or all."""
    five = result_of(Sine(shots=5), THREE, sha256="cafe")
    *_, last = comparison.blocks([MAML, five, ANIL])
    assert last.startswith("not compared, on other tasks: sine --shots 5, 70 iterations")
    val = result_of(Sine(algorithm="anil"), THREE, split="val")
    more = result_of(Sine(algorithm="anil"), THREE, sha256="more test tasks")
    walks = result_of(PointNav(), THREE)
    for others in ([five], [val], [five, val], [more], [walks]):
        (line,) = comparison.blocks([MAML, *others])
        assert line == "no comparison: the tasks of these runs differ"


def test_two_lists_of_tasks_have_two_tables():
    """Rejects rows of other tasks in the table of the first."""
    five = [
        result_of(Sine(shots=5, algorithm=name), THREE, sha256="cafe")
        for name in ("maml", "fomaml")
    ]
    found = comparison.blocks([MAML, five[0], ANIL, five[1]])
    titles = [block for block in found if isinstance(block, str)]
    assert [title.partition(":")[0] for title in titles if title] == [
        "Sine, 10 shots",
        "Sine, 5 shots",
    ]
    assert [len(block) for block in found if isinstance(block, list)] == [3, 3]


def test_returns_in_other_worlds_are_not_compared():
    """Rejects returns of 50 and of 100 time steps side by side: the goals, and their hash,
    are the same."""
    far = result_of(PointNav(), THREE)
    for options in ({"horizon": 50}, {"reward": "negative_squared_distance"}):
        (line,) = comparison.blocks([far, result_of(PointNav(**options), THREE)])
        assert line.startswith("no comparison")
    slow = result_of(PointNav(alpha=0.2), THREE)
    assert len(comparison.blocks([far, slow])) == 2


def test_seeds_and_iterations_are_named_where_they_differ():
    """Rejects pooled seeds beside one without a word, and other lengths of training."""
    two = result_of(Sine(algorithm="anil"), [THREE, THREE], iterations=(70, 80))
    title, (heads, _, row) = comparison.blocks([MAML, two])
    assert title.endswith("(95 % interval over tasks, then over seeds)")
    assert heads[:2] == ["run", "iterations"]
    assert row[:2] == ["ANIL, 5 inner steps, 2 seeds", "70, 80"]
    assert row[2].count("+-") == 2
