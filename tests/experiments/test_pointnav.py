"""2D navigation as an experiment: its runs, its evaluation, its errors."""

import json

import numpy as np
import pytest

from processes import here, one_error
from tinymaml import maml
from tinymaml.experiments import acting, problem
from tinymaml.experiments.pointnav import PointNav
from tinymaml.harness import checkpoints, evaluation, loop
from tinymaml.harness.metrics import read_metrics
from tinymaml.speed.workers import Here, engine
from trainings import begin, results


SMALL = PointNav(
    iterations=4,
    tasks=5,
    trajectories=4,
    horizon=8,
    hidden=(6,),
    chunk=2,
    checkpoint_every=2,
    test_tasks=5,
    test_trajectories=3,
    test_steps=3,
)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The folder of a run in one go."""
    path = tmp_path_factory.mktemp("straight")
    begin(path, SMALL)
    return path


# ----- Runs -----


@pytest.mark.parametrize("outer", ["trpo", "adam"])
def test_going_on_gives_the_bytes_of_one_go(tmp_path, straight, outer):
    """Rejects trajectories that depend on what was drawn before."""
    config = SMALL.with_changes({"outer": outer})
    begin(tmp_path / "whole", config)
    begin(tmp_path / "parts", config.with_changes({"iterations": 3}))
    begin(tmp_path / "parts", config)
    assert results(tmp_path / "parts") == results(tmp_path / "whole")
    assert (results(straight) == results(tmp_path / "whole")) == (outer == "trpo")


def test_workers_do_not_change_a_bit(tmp_path, straight):
    """Rejects sums in order of arrival, and trajectories kept by one worker only."""
    theta = checkpoints.load(straight, SMALL, last=True).theta
    alone = evaluation.evaluate(SMALL, theta, "test", 5, 2, Here())
    with engine(2) as pool:
        begin(tmp_path, SMALL, pool)
        scores = evaluation.evaluate(SMALL, theta, "test", 5, 2, pool)
    assert results(tmp_path) == results(straight)
    assert scores.tobytes() == alone.tobytes()


def test_every_diagnostic_is_recorded(straight):
    """Rejects a run of which one cannot tell why it failed."""
    records = read_metrics(straight)
    assert len(records) == 4
    for record in records:
        assert list(record) == [
            *("iteration", "loss", "return_before", "return_after", "improvement", "kl"),
            *("backtracks", "refused", "std", "second_order"),
        ]
        assert record["kl"] <= SMALL.max_kl
    assert {record["iteration"] for record in records} == {1, 2, 3, 4}


def test_a_seed_is_another_run(tmp_path, straight):
    """Rejects a seed that nothing uses."""
    begin(tmp_path, SMALL.with_changes({"seed": 1}))
    assert results(tmp_path) != results(straight)


def test_it_learns(tmp_path):
    """Rejects a sign, a scale or a step with which returns after adapting do not rise."""
    config = PointNav(iterations=15, tasks=10, trajectories=10, horizon=50, hidden=(32, 32))
    begin(tmp_path, config)
    records = read_metrics(tmp_path)
    after = [record["return_after"] for record in records]
    before = [record["return_before"] for record in records]
    assert np.mean(after[:2]) < -24  # about as far off as standing still: -19
    assert np.mean(after[-3:]) > -14
    assert np.mean(after[-3:]) > np.mean(before[-3:]) + 4


# ----- Evaluation -----


def drawn(config=SMALL):
    """Two held-out tasks and the first theta for each."""
    family = problem(config)
    theta = np.tile(loop.initial_state(config).theta, (2, 1))
    return (
        family,
        evaluation.held_out(config, "test", range(2)),
        theta,
    )


def test_step_sizes_when_tested():
    """Rejects a first step that is halved (CAVIA's), and steps that shrink on."""
    assert acting.halved(4).ravel().tolist() == [1, 0.5, 0.5, 0.5]
    assert acting.halved(1).ravel().tolist() == [1]
    assert acting.halved(0).shape == (0, 1, 1)


def test_evaluation_adapts_as_the_paper_does():
    """Rejects training's step sizes, and the number of trajectories of training."""
    family, draws, theta = drawn()
    task = family.task(draws)
    thetas = maml.path(theta, task, 0.1 * acting.halved(3), 3)
    expected = [family.score(theta_k, draws) for theta_k in thetas]
    theta_0 = loop.initial_state(SMALL).theta
    scores = evaluation.evaluate(SMALL, theta_0, "test", 2, 3, Here())
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert [met.actions.shape[1] for met in task.path] == [SMALL.test_trajectories] * 3


def test_scores_are_undiscounted_returns_of_fresh_trajectories():
    """Rejects a score on what was adapted on, a discounted one, a sum over trajectories."""
    family, draws, theta = drawn()
    task = family.task(draws)
    assert task.path == []
    task.support(theta)
    [met] = task.path
    far = family.score(theta, draws)
    assert (np.abs(far - met.returns) > 1e-3).all()
    assert met.returns == pytest.approx(met.rewards.sum(axis=2).mean(axis=1))
    free = problem(SMALL.with_changes({"discount": 0.0})).score(theta, draws)
    assert free.tolist() == far.tolist()


def test_the_report_has_anchors(tmp_path, monkeypatch):
    """Rejects a return that nobody can compare with anything."""
    monkeypatch.chdir(tmp_path)
    config = PointNav(iterations=0, test_tasks=2, test_trajectories=2, test_steps=1)
    begin(tmp_path / "run", config)
    told = here("evaluate", "run")
    assert told.code == 0
    for line in ("standing still: -38.26", "clairvoyant: -0.51", "-11.68 +- 2.2"):
        assert line in told.out
    found = json.loads(here("evaluate", "run", "--json").out)
    assert found["anchors"] == config.anchors
    assert len(found["mean"]) == len(found["half_width_95"]) == 2
    assert found["score"] == "return"


def test_a_baselines_step_size_is_tuned_on_validation_goals(tmp_path, monkeypatch):
    """Rejects a step size that a policy trained without inner step was never meant for."""
    monkeypatch.chdir(tmp_path)
    config = SMALL.with_changes({"algorithm": "pretrained", "validation_tasks": 2})
    begin(tmp_path / "run", config)
    told = here("evaluate", "run", "--steps", "1")
    assert "the best of 18 on 2 validation tasks" in told.out
    told = here("train", "pointnav", "--algorithm", "pretrained", "--alpha", "0.1")
    assert (told.code, "has no effect" in told.err) == (2, True)


# ----- What goes wrong -----


@pytest.mark.parametrize(
    "given",
    [
        ("--discount", "1.01"),
        ("--discount", "-0.1"),
        ("--horizon", "0"),
        ("--trajectories", "0"),
        ("--max-kl", "0"),
        ("--surrogate", "dice"),
        ("--reward", "distance"),
        ("--fisher-stride", "0"),
    ],
)
def test_options_out_of_range_write_nothing(tmp_path, monkeypatch, given):
    """Rejects a run that begins with what cannot be."""
    monkeypatch.chdir(tmp_path)
    told = here("train", "pointnav", *given)
    assert told.code == 2
    assert given[1] in told.err
    assert not list(tmp_path.iterdir())


def test_divergence_is_told_in_one_line(tmp_path, monkeypatch):
    """Rejects a traceback, and a policy of nan that is trained on."""
    monkeypatch.chdir(tmp_path)
    few = ("--tasks", "2", "--trajectories", "2", "--horizon", "3", "--iterations", "2")
    told = here("train", "pointnav", *few, "--alpha", "1e9", "--outer", "adam")
    assert told.code == 1
    assert "diverged" in one_error(told)
