"""Results: what is pooled over runs, and the intervals over tasks and over seeds."""

from pathlib import Path

import numpy as np
import pytest

from tinymaml.errors import UsageError
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.omniglot import Omniglot
from tinymaml.experiments.pointnav import PointNav
from tinymaml.experiments.sine import Sine
from tinymaml.harness import evaluation, loop, results
from tinymaml.harness.checkpoints import Kept, size
from tinymaml.harness.evaluation import evaluate, fingerprint
from tinymaml.harness.results import (
    Result,
    diverged,
    judge,
    over_seeds,
    over_tasks,
    pooled,
    unimproved,
)
from tinymaml.losses import ACCURACY, MSE
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
    """Rejects an interval over runs and tasks together, 1.96 for few tasks or runs, and
    the interval over tasks of one run only.

    Two runs of three tasks. Task means 1, 3, 5: variance 4, so 4.303 * 2 / sqrt(3). Run
    means 2, 4: standard error 1, one degree of freedom, so 12.706.
    """
    scores = np.array([[[0.0, 2, 4]], [[2, 4, 6]]])
    mean, half = over_tasks(scores)
    assert mean == pytest.approx([3])
    assert half == pytest.approx([4.3026527 * 2 / np.sqrt(3)])
    assert over_seeds(scores) == pytest.approx([12.7062047])


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
    expected = 2.0095752 * scores[0].std(-1, ddof=1) / np.sqrt(50)
    np.testing.assert_allclose(half, expected, rtol=1e-7)


def test_divergence_is_no_warning():
    """Rejects numbers that overflow with a warning: warnings are errors here."""
    scores = np.full((2, 1, 3), np.float32(1e30))
    scores[0, 0, 0] = np.inf
    mean, _ = over_tasks(scores)
    assert not np.isfinite(mean).any()
    assert not np.isfinite(over_seeds(scores)).any()


def test_diverged_tasks_are_counted():
    """Rejects a mean that is not finite without a word, divergence on the way that came
    to an end, a median of those only that stayed finite, and one in which an accuracy that
    is nan is the best."""
    scores = np.array([[1.0, 1, 1, 1], [np.inf, 2, 3, 4], [1.0, 2, 3, 4]])
    assert diverged(MSE, scores) == []
    scores[-1] = [1.0, np.nan, np.inf, 3]
    assert diverged(MSE, scores) == ["2 of 4 tasks diverged; the median is not finite"]
    scores[-1] = [1.0, np.nan, 5, 2]
    assert diverged(MSE, scores) == ["1 of 4 tasks diverged; the median is 3.5000"]
    scores[-1] = [0.1, np.nan, 0.5, 0.2]
    assert diverged(ACCURACY, scores) == ["1 of 4 tasks diverged; the median is 15.00 %"]


# ----- Did training help? -----

PRETRAINED = Sine(algorithm="pretrained", validation_tasks=100)
SPREAD = np.linspace(-3, 3, 100)  # of tasks: half of its 95 % interval is 0.34


@pytest.fixture
def scored(monkeypatch):
    """Let `evaluate` give made-up scores; return how to ask for the line on them."""

    def line(config, before, after, untrained, tasks=100):
        trained = np.ones(size(config), np.float32)

        def evaluate(config, theta, split, tasks, steps, engine):
            assert split == "val"
            rows = [before, after] if (theta == trained).all() else [0.0, untrained]
            return np.stack([np.broadcast_to(row, tasks) for row in rows])

        monkeypatch.setattr(evaluation, "evaluate", evaluate)
        return unimproved(config, Kept(9, trained, 0.0), 1, tasks, Here())

    return line


def test_a_gain_within_the_interval_is_none(scored):
    """Rejects a table without a word on a net that is not better after its steps, or no
    better than the untrained net; and the word of one where the other is due."""
    for before, after, untrained, other in (
        (3.6, 3.5, 4.1, "3.6000 before them"),
        (5.0, 3.0, 3.0, "3.0000 from the untrained net"),
        (3.0, 3.5, 4.1, "3.0000 before them"),
    ):
        told = scored(PRETRAINED, before + SPREAD, after + SPREAD, untrained + SPREAD)
        start = f"no clear improvement: on 100 validation tasks MSE {after:.4f} after 1 "
        assert len(told) == 1
        assert told[0].startswith(f"{start}gradient steps, {other} (half of")


def test_what_helped_is_no_plateau(scored):
    """Rejects the line on what learned, intervals of unpaired tasks beside the untrained
    net, the least taken for the best, and an oracle that is to adapt."""
    assert scored(PRETRAINED, 3.0 + SPREAD, 2.0 + SPREAD, 4.0 + SPREAD) == []
    assert scored(PRETRAINED, 9.0 + SPREAD, 3.9 + SPREAD, 4.0 + SPREAD) == []
    images = Glyphs(validation_tasks=100)
    assert scored(images, 0.2, 0.9 + SPREAD / 10, 0.5 + SPREAD / 10) == []
    assert scored(images, 0.9, 0.2 + SPREAD / 10, 0.5 + SPREAD / 10) != []
    oracle = PRETRAINED.with_changes({"algorithm": "oracle"})
    assert scored(oracle, SPREAD, SPREAD, 4.0 + SPREAD) == []


def test_the_advice_is_one_that_can_help(scored):
    """Rejects larger steps for what became worse, an option that is not used, and advice
    on regressors that fit but whose average is poor."""
    plateau = [3.6 + SPREAD, 3.5 + SPREAD, 4.1 + SPREAD]
    worse = [3.6 + SPREAD, 5.5 + SPREAD, 4.1 + SPREAD]
    assert scored(PRETRAINED, *plateau)[0].endswith("a larger --beta or another --seed")
    assert "a smaller --beta" in scored(PRETRAINED, *worse)[0]
    walk = PointNav(validation_tasks=100)
    assert "--max-kl" in scored(walk, *plateau[::-1])[0]
    assert "--beta" in scored(walk.with_changes({"outer": "adam"}), *plateau[::-1])[0]
    average = PRETRAINED.with_changes({"algorithm": "averaged", "regressors": 2})
    assert scored(average, *plateau)[0].endswith(")")


def test_where_nothing_can_be_said_nothing_is(scored, monkeypatch):
    """Rejects a line on what was not trained or did not adapt, a verdict on scores that
    are not finite, and silence as if they had improved; a crash without validation
    classes; and more tasks than were asked for."""
    lost = np.where(np.arange(100) == 7, np.inf, 3.0)
    assert scored(PRETRAINED, 3.0, lost, 4.0) == [
        "improvement unknown: on 100 validation tasks MSE after 1 gradient steps is not"
        " finite in 1 of 100"
    ]
    assert scored(PRETRAINED, 3.0, 2.0 + SPREAD, lost) == []
    [line] = scored(PRETRAINED, 3.0, 3.0, 4.0, tasks=7)
    assert "on 7 validation tasks" in line

    def none(*_):
        raise UsageError("these data have no 'val' classes")

    monkeypatch.setattr(evaluation, "evaluate", none)
    theta = np.ones(size(PRETRAINED), np.float32)
    assert unimproved(PRETRAINED, Kept(9, theta, 0.0), 1, 100, Here()) == []
    monkeypatch.setattr(evaluation, "evaluate", None)
    assert unimproved(PRETRAINED, Kept(0, theta, 0.0), 1, 100, Here()) == []
    assert unimproved(PRETRAINED, Kept(9, theta, 0.0), 0, 100, Here()) == []


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


@pytest.mark.parametrize(
    ("changes", "together"),
    [
        *(({"data": "b.npz"}, True), ({"replay": False}, True), ({"test": False}, True)),
        *(({"tasks": 3}, False), ({"chunk": 5}, False), ({"iterations": 9}, False)),
        *(({"checkpoint_every": 9}, False), ({"test_tasks": 9}, False)),
    ],
)
def test_runs_of_one_kind_differ_in_their_seeds(changes, together):
    """Rejects runs that are told apart by where their data are or by what changes no bit,
    and one mean over runs that were trained or are tested differently."""
    one = Omniglot(data="a.npz")
    other = one.with_changes({"seed": 1, **changes})
    found = results.alike([(Path("a"), one), (Path("b"), other)])
    assert found == ([[0, 1]] if together else [[0], [1]])


# ----- One run -----


@pytest.mark.parametrize(
    ("asked", "final"),
    [
        *(({}, True), ({"split": "val"}, False), ({"tasks": 5}, False)),
        *(({"steps": 1}, False), ({"shots": 5}, False), ({"shots": 10}, True)),
    ],
)
def test_only_the_run_s_own_evaluation_is_final(asked, final):
    """Rejects an evaluation.json of other tasks, steps or shots than the run's own."""
    config = Sine(hidden=(3,), test_tasks=6, test_steps=2)
    how = {"split": "test", "tasks": 6, "steps": 2, "alone_steps": ()} | asked
    kept = Kept(0, loop.initial_state(config).theta, 0.25)
    found = judge(config, kept, engine=Here(), **how)
    assert results.is_final(found) == final
    assert not results.is_final(pooled([found, found]))


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
    monkeypatch.setattr(evaluation, "evaluate_alone", lambda *args: asked.append(args))
    assert judge(images, Kept(0, theta, 0.25), "test", 3, 1, [], Here()).alone is None
    assert not asked
