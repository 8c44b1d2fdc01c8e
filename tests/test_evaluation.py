"""Evaluation: the interval, the fixed tasks, the scores after each step, the reports."""

import json

import numpy as np
import pytest
from autograd import grad

from tinymaml import evaluation, losses, runs, train
from tinymaml.data import sine as curves
from tinymaml.evaluation import as_json, as_table, evaluate, interval
from tinymaml.experiments import problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.fewshot import stream
from tinymaml.workers import Here


CONFIG = Sine(hidden=(8,), shots=5, queries=3, alpha=0.05, dtype="float64")
# The same task alone and among others: only the order of sums in a product differs.
ROUNDING = 1e-12


@pytest.fixture(scope="module")
def theta():
    """Parameters off the zeros, whose gradients are not small."""
    rng = np.random.default_rng(0)
    return 0.5 * rng.standard_normal(train.initial_state(CONFIG).theta.shape)


# ----- The interval -----


def test_interval_is_that_of_a_hand_computation():
    """Rejects ddof = 0, a missing square root of n, and another quantile.

    Of 1, 2, 3, 4: variance 5/3, standard error sqrt(5/12), times 1.96.
    """
    mean, half = interval(np.array([[1.0, 2, 3, 4], [7, 7, 7, 7], [0, 0, 0, 1]]))
    np.testing.assert_array_equal(mean, [2.5, 7, 0.25])
    expected = [1.96 * np.sqrt(5 / 12), 0, 1.96 * 0.25]
    np.testing.assert_allclose(half, expected, rtol=1e-15)


def test_interval_covers_the_mean_as_often_as_it_says():
    """Rejects a half-width of one standard error, or the width of the whole interval.

    2000 samples of 600; a share of 95 % has a standard deviation of 0.5 %, bound 4.
    """
    rng = np.random.default_rng(0)
    mean, half = interval(rng.standard_normal((2000, 600)))
    assert abs(np.mean(np.abs(mean) < half) - 0.95) < 0.02


def test_interval_of_single_precision_is_computed_in_double():
    """Rejects sums in float32, in which the square of 1e20 is infinite."""
    scores = np.array([[0, 1e20, 2e20]], np.float32)
    mean, half = interval(scores)
    assert mean == pytest.approx([1e20], rel=1e-6)
    assert half == pytest.approx([1.96e20 / np.sqrt(3)], rel=1e-6)


# ----- The tasks and their scores -----


def by_hand(theta, split, task, steps):
    """One task's scores, from its own stream, one at a time, loss and step in full."""
    family = problem(CONFIG)
    rng = stream(0, split, 0, task)
    x, y, x_query, y_query = curves.sample(rng, 5, 3, "float64")
    told = []
    for _ in range(steps + 1):
        residual = family.model.apply(theta, x_query) - y_query
        told.append(np.mean(residual**2))
        loss = grad(lambda at: losses.mse(family.model.apply(at, x), y))
        theta = theta - 0.05 * loss(theta)
    return told


@pytest.mark.parametrize("split", ["val", "test"])
def test_tasks_are_of_the_split_asked_for(theta, split, monkeypatch):
    """Rejects held-out tasks drawn from the training classes."""
    asked = []
    family = problem(CONFIG)

    def noting(split, rng):
        asked.append(split)
        return family.sample(split, rng)

    monkeypatch.setattr(evaluation, "problem", lambda _: family._replace(sample=noting))
    evaluate(CONFIG, theta, split, 3, 1, Here())
    assert asked == [split] * 3


def test_scores_are_those_of_each_task_alone(theta):
    """Rejects scores on the support, steps on the query, a score one step late, tasks
    that adapt from each other's parameters, and another order of the tasks."""
    scores = evaluate(CONFIG, theta, "test", 23, 3, Here())
    assert scores.shape == (4, 23)
    expected = np.transpose([by_hand(theta, "test", task, 3) for task in range(23)])
    np.testing.assert_allclose(scores, expected, rtol=ROUNDING)


@pytest.mark.parametrize("steps", [0, 1])
def test_number_of_steps(theta, steps):
    """Rejects a path that is one step too long or short; after none, theta itself."""
    scores = evaluate(CONFIG, theta, "val", 3, steps, Here())
    assert scores.shape == (steps + 1, 3)
    expected = [by_hand(theta, "val", task, 0)[0] for task in range(3)]
    np.testing.assert_allclose(scores[0], expected, rtol=ROUNDING)
    assert steps == 0 or (scores[1] != scores[0]).all()


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_chunks_do_not_matter(theta, chunk, monkeypatch):
    """Rejects a last chunk that is dropped or filled up, and chunks out of order."""
    whole = evaluate(CONFIG, theta, "test", 23, 2, Here())
    monkeypatch.setattr(Glyphs, "test_chunk", chunk)
    chunked = evaluate(CONFIG, theta, "test", 23, 2, Here())
    np.testing.assert_allclose(chunked, whole, rtol=ROUNDING)


def test_tasks_are_the_same_for_every_run(theta):
    """Rejects tasks keyed by the run's seed or its iterations, or drawn in one stream:
    results of two runs would then be of different tasks."""
    first = evaluate(CONFIG, theta, "test", 20, 1, Here())
    changes = {"seed": 5, "iterations": 3, "tasks": 2, "test_tasks": 7, "beta": 1.0}
    other = evaluate(CONFIG.with_changes(changes), theta, "test", 20, 1, Here())
    np.testing.assert_array_equal(first, other)
    # And the first tasks of a longer list.
    longer = evaluate(CONFIG, theta, "test", 40, 1, Here())
    np.testing.assert_array_equal(first, longer[:, :20])
    assert len(np.unique(longer[0])) == 40


def test_splits_have_tasks_of_their_own(theta):
    """Rejects a validation on the test tasks."""
    told = [evaluate(CONFIG, theta, s, 20, 0, Here()) for s in ("train", "val", "test")]
    assert len(np.unique(told)) == 60


def test_evaluation_does_not_change_the_training(tmp_path):
    """Rejects an evaluation that draws from the training's stream (law 25): the
    checkpoints with and without validation are equal to the bit."""
    told = []
    for every in (0, 2):
        config = CONFIG.with_changes(
            {"iterations": 6, "validate_every": every, "validation_tasks": 3}
        )
        folder = tmp_path / str(every)
        folder.mkdir()
        train.train(folder, config, Here(), lambda *_: None)
        told.append((folder / runs.CHECKPOINT).read_bytes())
        validated = ["validation" in r for r in runs.read_metrics(folder)]
        assert validated == ([False, True] * 3 if every else [False] * 6)
    assert told[0] == told[1]


def test_theta_is_not_changed(theta):
    """Rejects steps in place, after which the next evaluation starts elsewhere."""
    before = theta.copy()
    evaluate(CONFIG, theta, "test", 5, 3, Here())
    np.testing.assert_array_equal(theta, before)


def test_divergence_is_told_by_the_scores(theta):
    """Rejects a crash or a warning when steps diverge: warnings are errors here."""
    config = CONFIG.with_changes({"alpha": 1e6})
    scores = evaluate(config, theta, "test", 4, 10, Here())
    assert not np.isfinite(scores[-1]).all()
    told = json.loads(as_json(config, "test", 0, scores), parse_constant=pytest.fail)
    assert told["mean"][-1] is None
    assert told["mean"][0] == pytest.approx(scores[0].mean())


# ----- The reports -----


SCORES = np.array([[0.25, 0.75], [0.5, 1.0], [1.0, 1.0]])


def test_json_has_the_numbers_in_full():
    """Rejects rounded numbers, a missing split or iteration, an unfinished last line."""
    text = as_json(Glyphs(), "val", 70, SCORES)
    assert text.endswith("}\n")
    mean, half = interval(SCORES)
    assert json.loads(text) == {
        "experiment": "glyphs",
        "score": "accuracy",
        "split": "val",
        "iteration": 70,
        "tasks": 2,
        "mean": mean.tolist(),
        "half_width_95": half.tolist(),
    }


def test_table_of_accuracies_is_in_per_cent():
    """Rejects shares that are shown as per cent, and half-widths on another scale.

    Standard error of 0.25, 0.75: 0.25; 1.96 of it is 49 %.
    """
    assert as_table(Glyphs(), SCORES, (0, 2)).splitlines() == [
        "gradient steps   accuracy on 2 tasks (95 % interval)",
        "             0   50.00 +- 49.00 %",
        "             2   100.00 +- 0.00 %",
    ]


def test_table_of_errors_has_no_unit_and_leaves_out_steps_not_made():
    """Rejects an index error when fewer steps were made than the table would show."""
    assert as_table(Sine(), SCORES, Sine.shown_steps).splitlines() == [
        "gradient steps   MSE on 2 tasks (95 % interval)",
        "             0   0.5000 +- 0.4900",
        "             1   0.7500 +- 0.4900",
        "             2   1.0000 +- 0.0000",
    ]
