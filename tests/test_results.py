"""Results: what is pooled over runs, and the intervals over tasks and over seeds."""

import numpy as np
import pytest

from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.harness import loop, results
from tinymaml.harness.evaluation import evaluate, fingerprint
from tinymaml.harness.results import Result, judge, over_seeds, over_tasks, pooled
from tinymaml.harness.thetas import Kept
from tinymaml.speed.workers import Here


def result(seed=0, sha256="a", alone=None, **more):
    """A result of one run with 3 steps and 4 tasks."""
    scores = np.random.default_rng(seed).uniform(size=(1, 4, 4))
    told = (
        (seed,),
        (10 * seed,),
        (float("nan"),),
        sha256,
        scores,
        alone,
        (3,),
        (f"r{seed}",),
    )
    return Result(Sine(), Sine(), "test", *told)._replace(**more)


# ----- Intervals -----


def test_intervals_by_hand():
    """Rejects an interval over runs and tasks together, 1.96 for three runs, and the
    interval over tasks of one run only.

    Two runs of three tasks. Task means 1, 3, 5: variance 4, so 1.96 * 2 / sqrt(3). Run
    means 2, 4: standard error 1, one degree of freedom, so 12.706.
    """
    scores = np.array([[[0.0, 2, 4]], [[2, 4, 6]]])
    mean, half = over_tasks(scores)
    assert mean == pytest.approx([3])
    assert half == pytest.approx([1.96 * 2 / np.sqrt(3)])
    assert over_seeds(scores) == pytest.approx([12.706])


@pytest.mark.parametrize("runs", [2, 3, 5, 31, 40])
def test_interval_over_seeds_covers_as_often_as_it_says(runs):
    """Rejects a normal quantile, with which three runs cover 81 %, and a row of the
    table that is one off.

    4000 draws: a share of 95 % has a standard deviation of 0.35 %.
    """
    means = np.random.default_rng(0).standard_normal((runs, 4000, 1))
    covered = np.abs(means.mean(axis=(0, 2))) < over_seeds(means)
    assert covered.mean() == pytest.approx(0.95, abs=0.015)


def test_one_run_has_the_interval_of_its_tasks():
    """Rejects an average over tasks where one over runs is due."""
    scores = np.random.default_rng(0).uniform(size=(1, 3, 50))
    mean, half = over_tasks(scores)
    np.testing.assert_allclose(mean, scores[0].mean(-1))
    np.testing.assert_allclose(half, 1.96 * scores[0].std(-1, ddof=1) / np.sqrt(50))


def test_divergence_is_no_warning():
    """Rejects numbers that overflow with a warning: warnings are errors here."""
    scores = np.full((2, 1, 3), np.float32(1e30))
    scores[0, 0, 0] = np.inf
    mean, _ = over_tasks(scores)
    assert not np.isfinite(mean).any()
    assert not np.isfinite(over_seeds(scores)).any()


def test_diverged_tasks_are_counted():
    """Rejects a mean that is not finite without a word, divergence on the way that came
    to an end, and a median of those only that stayed finite."""
    scores = np.array([[1.0, 1, 1, 1], [np.inf, 2, 3, 4], [1.0, 2, 3, 4]])
    assert results.diverged(scores) == []
    scores[-1] = [1.0, np.nan, np.inf, 3]
    assert results.diverged(scores) == ["2 of 4 tasks diverged; the median is inf"]
    scores[-1] = [1.0, np.nan, 5, 2]
    assert results.diverged(scores) == ["1 of 4 tasks diverged; the median is 3.5000"]


# ----- Several runs -----


def test_pooled_runs_keep_what_each_is():
    """Rejects results out of order, and remarks of the first run only."""
    alone = [np.full((1, 1, 4), seed) for seed in range(3)]
    together = pooled([result(seed, alone=alone[seed]) for seed in range(3)])
    assert together.seeds == (0, 1, 2)
    assert together.iterations == (0, 10, 20)
    assert len(together.validations) == 3
    assert together.remarks == ("seed 0: r0", "seed 1: r1", "seed 2: r2")
    assert pooled([result(1)]).remarks == ("r1",)
    for seed in range(3):
        np.testing.assert_array_equal(together.scores[seed], result(seed).scores[0])
        assert (together.alone[seed] == seed).all()
    assert pooled([result(1)]).seeds == (1,)


def test_results_of_other_tasks_are_not_pooled():
    """Rejects an interval over seeds of different tasks."""
    with pytest.raises(ValueError, match="different tasks"):
        pooled([result(0), result(1, sha256="b")])


# ----- One run -----


def test_judge_tells_what_was_asked(monkeypatch):
    """Rejects the hash of another list, and a model whose examples do not see each other
    judged twice."""
    config = Sine(hidden=(3,), seed=7)
    theta = loop.initial_state(config).theta
    told = judge(config, Kept(5, theta, 0.25), "val", 6, 2, [2], Here())
    assert (told.seeds, told.iterations, told.validations) == ((7,), (5,), (0.25,))
    assert told.tasks_sha256 == fingerprint(config, "val", 6, Here())
    expected = evaluate(config, theta, "val", 6, 2, Here())
    np.testing.assert_array_equal(told.scores, expected[None])
    assert told.alone is None
    images = Glyphs(filters=2)
    theta = loop.initial_state(images).theta
    told = judge(images, Kept(0, theta, 0.25), "test", 3, 1, [1], Here())
    assert told.alone.shape == (1, 1, 3)
    asked = []
    monkeypatch.setattr(results, "evaluate_alone", lambda *args: asked.append(args))
    assert judge(images, Kept(0, theta, 0.25), "test", 3, 1, [], Here()).alone is None
    assert not asked
