"""Fine-tuning: the step size is chosen on validation tasks, after the last step."""

import numpy as np
import pytest

from tinymaml.experiments import problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.harness import evaluation, loop
from tinymaml.harness.checkpoints import Kept, size
from tinymaml.harness.evaluation import choice, tuned
from tinymaml.harness.results import judge
from tinymaml.speed.workers import Here


STEP_SIZES = Sine.step_sizes
CONFIG = Sine(algorithm="pretrained", hidden=(8,), validation_tasks=4)
THETA = np.zeros(1, np.float32)


def with_alpha(config, alpha):
    """The options after the choice of a step size, which is no option while it is tuned."""
    return config.restored(config.values() | {"alpha": alpha})


@pytest.fixture
def scored(monkeypatch):
    """Let `evaluate` give made-up scores: (alpha, split) -> rows; return what it saw."""
    seen = []

    def use(scores):
        def evaluate(config, theta, split, tasks, steps, engine):
            seen.append((split, tasks, steps))
            return np.array(scores(config.alpha, split), np.float32)

        monkeypatch.setattr(evaluation, "evaluate", evaluate)
        return seen

    return use


def far_from(best: float, alpha: float) -> float:
    return abs(np.log(alpha / best))


def test_the_best_on_validation_tasks_is_chosen(scored):
    """Rejects tuning on test or training tasks: they would have chosen another."""
    best = {"train": 0.001, "val": 0.05, "test": 1.0}
    seen = scored(lambda alpha, split: [[9, 9], [far_from(best[split], alpha)] * 2])
    assert tuned(CONFIG, THETA, 1, Here()) == with_alpha(CONFIG, 0.05)
    assert seen == [("val", 4, 1)] * len(STEP_SIZES)


def test_the_last_step_decides(scored):
    """Rejects the score before any step, and the average over steps."""
    scored(lambda alpha, _: [[far_from(1.0, alpha)] * 2, [far_from(0.01, alpha) / 9] * 2])
    assert tuned(CONFIG, THETA, 1, Here()).alpha == 0.01


def test_accuracy_is_to_be_high(scored):
    """Rejects a search for the least, whatever the score is."""
    scored(lambda alpha, _: [[0, 0], [1 / (1 + far_from(0.2, alpha))] * 2])
    config = Glyphs(algorithm="random", validation_tasks=4)
    assert tuned(config, THETA, 1, Here()).alpha == 0.2


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
def test_a_step_size_that_diverges_is_not_chosen(scored, lost):
    """Rejects an argmin that returns the first nan, and sums that overflow float32, with
    which all of them were as bad as the first."""

    def scores(alpha):
        return [lost, 1] if alpha >= 0.01 else [3e38 if alpha == 0.002 else 3.3e38] * 2

    scored(lambda alpha, _: [[0, 0], scores(alpha)])
    assert tuned(CONFIG, THETA, 1, Here()).alpha == 0.002


def test_what_is_not_to_be_tuned_stays(scored):
    """Rejects tuning what MAML was trained with, and tuning steps that are not taken."""
    seen = scored(lambda *_: [[0, 0], [0, 0]])
    for algorithm in ("maml", "fomaml", "maml-low-memory"):
        config = Sine(algorithm=algorithm, alpha=0.3)
        assert tuned(config, THETA, 10, Here()) is config
    assert tuned(CONFIG, THETA, 0, Here()) is CONFIG
    told = CONFIG.with_changes({"tune": False})
    assert tuned(told, THETA, 10, Here()) is told
    assert seen == []


@pytest.mark.parametrize("algorithm", ["random", "oracle"])
def test_the_choice_on_real_tasks(algorithm, monkeypatch):
    """Rejects a step size that is not used: the score of each, computed apart. Only
    validation tasks are drawn."""
    config = CONFIG.with_changes({"algorithm": algorithm, "validation_tasks": 30})
    rng = np.random.default_rng(0)
    theta = 0.2 * rng.standard_normal(size(config)).astype("float32")
    costs = []
    for alpha in STEP_SIZES:
        one = with_alpha(config, alpha)
        last = evaluation.evaluate(one, theta, "val", 30, 3, Here())[-1]
        costs.append(np.mean(last, dtype=float))
    costs = np.where(np.isfinite(costs), costs, np.inf)
    assert 0 < costs.argmin() < len(STEP_SIZES) - 1  # the best lies within the grid
    asked = []

    def noting(config):
        family = problem(config)

        def sample(split, streams, tasks):
            asked.append(split)
            return family.sample(split, streams, tasks)

        return family._replace(sample=sample)

    monkeypatch.setattr(evaluation, "problem", noting)
    assert tuned(config, theta, 3, Here()).alpha == STEP_SIZES[costs.argmin()]
    assert {*asked} == {"val"}


def test_step_sizes_are_a_grid():
    """Rejects a grid with gaps or out of order."""
    assert STEP_SIZES[0] == 1e-5
    assert STEP_SIZES[-1] == 5
    ratios = np.divide(STEP_SIZES[1:], STEP_SIZES[:-1])
    assert ((ratios >= 1.9) & (ratios <= 2.6)).all()


# ----- What is told -----


def test_the_tuned_step_size_is_told(scored):
    """Rejects a table of a baseline that does not say how it was adapted."""
    seen = scored(lambda *_: [[0, 0], [0, 0]])
    assert choice(CONFIG, THETA, 0, Here()) == (CONFIG, [])
    assert choice(Sine(), THETA, 10, Here()) == (Sine(), [])
    assert seen == []
    for best, end in ((0.02, ""), *((x, ", at an end of the range") for x in (1e-5, 5))):
        scored(lambda alpha, _, best=best: [[9, 9], [far_from(best, alpha)] * 2])
        remark = f"step size {best:g}, the best of 18 on 4 validation tasks{end}"
        found = choice(CONFIG, THETA, 1, Here())
        assert found == (with_alpha(CONFIG, best), [remark])


def test_no_step_size_is_the_best_of_none(scored):
    """Rejects a choice, and its remark, where the score of every step size is nan."""
    scored(lambda *_: [[0, 0], [1, np.nan]])
    assert choice(CONFIG, THETA, 1, Here()) == (
        with_alpha(CONFIG, 1e-5),
        [
            "step size 1e-05, not tuned: the score of all 18 is not finite on 4 validation"
            " tasks"
        ],
    )


def test_the_regressors_that_fit_are_counted():
    """Rejects a table of averaged regressors that were not trained to the end."""
    config = Sine(
        algorithm="averaged", tune=False, hidden=(3,), regressors=5, points=4, alpha=0.5
    )
    kept = Kept(0, loop.initial_state(config).theta, 0.0)
    remarks = judge(config, kept, "val", 2, 1, [], Here()).remarks
    last = "0 of 5 regressors have an MSE below 0.02 on their own curve"
    assert remarks == (last,)
    tuned_one = config.with_changes({"tune": True, "validation_tasks": 2})
    remarks = judge(tuned_one, kept, "val", 2, 1, [], Here()).remarks
    assert [remark.split()[0] for remark in remarks] == ["step", "0"]
