"""Laws of every algorithm: whatever is a row of ALGORITHMS obeys them.

A new algorithm is tested here by being listed.
"""

from itertools import pairwise

import autograd.numpy as anp
import numpy as np
import pytest

from tinymaml import maml, params
from tinymaml.algorithms import ALGORITHMS, available
from tinymaml.algorithms.algorithm import FEW_SHOT, RL
from tinymaml.check.chain import case_of
from tinymaml.check.differences import slope, slopes_error
from tinymaml.experiments import problem
from tinymaml.experiments.pointnav import PointNav
from tinymaml.experiments.sine import Sine
from tinymaml.fewshot import drawn
from tinymaml.harness import checkpoints, loop
from tinymaml.harness.evaluation import chunk_scores
from tinymaml.harness.metrics import read_metrics
from tinymaml.speed.workers import engine
from trainings import results_of


# Small values of experiments' and algorithms' options, taken where there is such an option.
SMALL = {
    **{"hidden": (3,), "shots": 4, "tasks": 5, "chunk": 2, "iterations": 5},
    **{"inner_steps": 2, "checkpoint_every": 2, "validate_every": 2},
    **{"validation_tasks": 3, "regressors": 4, "points": 4, "wave": 2, "context": 2},
    **{"inner_batch": 3},
    **{"cg_steps": 2},
    **{"trajectories": 3, "horizon": 4, "surrogate": "naive"},
}
KINDS = {FEW_SHOT: Sine, RL: PointNav}
CASES = [
    (setting, name)
    for setting, kind in KINDS.items()
    for name in available(setting, kind.offers)
]
every = pytest.mark.parametrize(("setting", "name"), CASES)
FEW = [name for setting, name in CASES if setting == FEW_SHOT]
few_shot = pytest.mark.parametrize("name", FEW)


def config_of(setting, name, **changes):
    """A small configuration of an experiment with an algorithm."""
    kind, method = KINDS[setting], ALGORITHMS[name]
    options = {**kind.options_for(method)}
    small = {k: v for k, v in SMALL.items() if k in options and k not in method.ignores}
    return kind(**small | {"algorithm": name} | changes)


def method_defaults(name):
    """The options of the experiment that an algorithm has other defaults of."""
    return ALGORITHMS[name].defaults({})


def generic(config, tasks):
    """Something to differentiate at: w (tasks, M) off its zeros, in config's precision."""
    case = case_of(config.method, problem(config), tasks)
    return case.w.astype(config.dtype)


def differentiated(config, tasks):
    """The same; but one net a task, for an algorithm that trains one for each."""
    w, method = generic(config, tasks), config.method
    if method.iterate:
        w = np.stack([method.start(one, problem(config)) for one in w])
    return w


def task_of(config, tasks):
    """The losses of some training tasks, side by side."""
    family = problem(config)
    return family.task(drawn(family, 0, "train", 0, tasks))


def test_each_is_used_somewhere():
    """Rejects a row that no experiment can train, and two of the same name."""
    assert {name for _, name in CASES} == {*ALGORITHMS}
    assert len({row.label for row in ALGORITHMS.values()}) >= len(ALGORITHMS) - 1


@pytest.mark.parametrize("name", [n for n in FEW if ALGORITHMS[n].objective])
@pytest.mark.parametrize("steps", [1, 3])
def test_gradient_is_that_of_the_objective(name, steps):
    """Rejects a gradient that is off in any one entry of w, step sizes and the like
    included: against central differences along every axis, in float64."""
    changes = {"dtype": "float64", "activation": "tanh", "inner_steps": steps}
    changes = {k: v for k, v in changes.items() if k not in ALGORITHMS[name].ignores}
    config = config_of(FEW_SHOT, name, **changes)
    case = case_of(config.method, problem(config), 2)
    loss, gradient = config.method.gradient(*case.args)
    assert gradient.shape == case.w.shape
    assert loss == pytest.approx(float(case.objective(case.w)), rel=1e-12)
    axes = [*np.eye(case.w.size).reshape(-1, *case.w.shape)]
    value = lambda at: float(case.objective(at))  # noqa: E731
    assert slopes_error(value, case.w, axes, gradient) < 1e-8
    some, whole = axes[::5], np.linalg.norm(gradient)
    measured = np.array([slope(value, case.w, axis).value for axis in some])
    claimed = np.array([np.sum(gradient * axis) for axis in some])
    assert np.abs(measured - claimed).max() < 1e-7 * whole


@pytest.mark.parametrize("order", ["exact", "first"])
def test_a_context_vector_has_the_gradient_of_its_order(order):
    """Rejects an option `order` that has no effect: first order is grad Q(theta_K)."""
    config = config_of(FEW_SHOT, "context", dtype="float64", order=order, alpha=0.5)
    family, w = problem(config), generic(config, 3)
    task = task_of(config, range(3))
    expected = {"exact": maml.meta_gradient, "first": maml.first_order}[order]
    loss, gradient = config.method.gradient(w, task, family)
    assert loss == expected(w, task, family.alpha, 2)[0]
    np.testing.assert_array_equal(gradient, expected(w, task, family.alpha, 2)[1])
    others = {"exact": maml.first_order, "first": maml.meta_gradient}[order]
    assert np.any(gradient != others(w, task, family.alpha, 2)[1])


@few_shot
def test_tasks_side_by_side_are_tasks_alone(name):
    """Rejects a leak between tasks: a mean over them, or a step size that they share."""
    config = config_of(FEW_SHOT, name, dtype="float64")
    family, method = problem(config), config.method
    w = differentiated(config, 3)
    loss, together, *figures = method.gradient(w, task_of(config, range(3)), family)
    losses = []
    for i in range(3):
        task = task_of(config, range(i, i + 1))
        one, alone, *own = method.gradient(w[i : i + 1], task, family)
        losses.append(one)
        for figure, mine in zip(figures, own, strict=True):
            np.testing.assert_allclose(mine[0], figure[i], rtol=1e-8)
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-10, atol=1e-12)
    assert loss == pytest.approx(sum(losses), rel=1e-12)


@every
def test_single_precision_stays(setting, name):
    """Rejects a step size, a mask or a constant that raises float32 to float64."""
    config = config_of(setting, name)
    family, method = problem(config), config.method
    w = differentiated(config, 2)
    loss, gradient, *figures = method.gradient(w, task_of(config, range(2)), family)
    assert {figure.dtype.name for figure in figures} <= {"float32"}
    assert gradient.dtype == w.dtype == np.float32
    assert np.asarray(loss).dtype == np.float32
    start = np.stack([method.start(one, family) for one in generic(config, 2)])
    thetas = method.adapt(start, task_of(config, range(2)), family, 2)
    assert {theta.dtype.name for theta in thetas} == {"float32"}


@every
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_adapting_returns_every_theta(setting, name, steps):
    """Rejects a step too few or too many, a first theta that is not the one adapted from,
    and thetas that the net cannot take."""
    config = config_of(setting, name, dtype="float64")
    family, method = problem(config), config.method
    size = params.count(family.model.shapes)
    start = np.stack([method.start(one, family) for one in generic(config, 2)])
    thetas = method.adapt(start, task_of(config, range(2)), family, steps)
    assert len(thetas) == steps + 1
    assert all(theta.shape == (2, size) for theta in thetas)
    np.testing.assert_array_equal(thetas[0], start[:, :size])
    changed = [np.any(a != b) for a, b in pairwise(thetas)]
    assert all(changed)
    longer = method.adapt(start, task_of(config, range(2)), family, steps + 1)
    for theta, same in zip(thetas, longer, strict=False):
        np.testing.assert_array_equal(theta, same)


@every
def test_what_is_learned_has_the_shapes_that_it_says(setting, name):
    """Rejects a size, initial values and shapes that do not agree: a checkpoint would be
    refused, or its rows named wrongly."""
    config = config_of(setting, name)
    family, method = problem(config), config.method
    first, second = (method.init(np.random.default_rng(s), family) for s in (0, 1))
    assert first.shape == (method.size(family),)
    assert first.dtype == np.float64
    assert params.count(method.shapes(family)) == first.size == checkpoints.size(config)
    assert np.any(first != second)
    state = loop.initial_state(config)
    assert state.theta.dtype == np.float32
    assert state.theta.shape == state.moments.m.shape == first.shape


@few_shot
def test_only_what_it_says_moves(name):
    """Rejects inner steps that change what `moved` does not name."""
    config = config_of(FEW_SHOT, name, dtype="float64")
    family, method = problem(config), config.method
    start = np.stack([method.start(one, family) for one in generic(config, 2)])
    thetas = method.adapt(start, task_of(config, range(2)), family, 2)
    named = params.mask(family.model.shapes, method.moved(family.model, config)) > 0
    changed = (thetas[-1] != thetas[0]).any(axis=0)
    assert not changed[~named].any()
    assert changed[named].any()


@few_shot
def test_adaptation_is_not_changed_by_the_outside(name):
    """Rejects an objective and an adaptation that differ: MAML's loss after its steps is
    the query loss of the theta that validation would score."""
    row = ALGORITHMS[name]
    if row.objective is None or not row.inner_loop:
        pytest.skip("its objective has no inner loop")
    last_loss_alone = {"multi_step_loss": False} if name == "maml++" else {}
    config = config_of(FEW_SHOT, name, dtype="float64", **last_loss_alone)
    case = case_of(row, problem(config), 2)
    theta = row.adapt(*case.args, config.inner_steps)[-1]
    assert float(anp.sum(case.task.query(theta)(theta))) == float(case.objective(case.w))


# ----- The same bytes -----


@every
def test_stopping_changes_no_byte(tmp_path, setting, name):
    """Rejects an algorithm that keeps something outside its state, and a recording of its
    NumPy calls that decides by values."""
    # The outer step sizes of a schedule depend on the length of the run.
    constant = {"schedule": "constant"} if "schedule" in method_defaults(name) else {}
    config = config_of(setting, name, **constant)
    straight = results_of(tmp_path / "straight", config)
    stops = () if "iterations" in config.method.ignores else (1, 2, 3)
    for stop in stops:
        results_of(tmp_path / "parts", config.with_changes({"iterations": stop}))
    assert results_of(tmp_path / "parts", config) == straight
    eager = config.with_changes({"replay": False})
    assert results_of(tmp_path / "eager", eager) == straight
    records = read_metrics(tmp_path / "straight")
    assert all(np.isfinite(record["loss"]) for record in records)
    assert len(records) == config.iterations


def test_workers_change_no_byte(tmp_path):
    """Rejects chunks cut by the number of workers, and an algorithm that a worker cannot
    find by its name."""
    with engine(2) as pool:
        for setting, name in CASES:
            config = config_of(setting, name)
            alone = results_of(tmp_path / f"{setting}-{name}-alone", config)
            found = results_of(tmp_path / f"{setting}-{name}", config, pool)
            assert found == alone, name


@few_shot
def test_validation_scores_the_thetas_of_adapt(name):
    """Rejects a validation that adapts by another rule than the record's own."""
    config = config_of(FEW_SHOT, name, dtype="float64")
    family, method = problem(config), config.method
    start = method.start(generic(config, 1)[0], family)
    episodes = drawn(family, 0, "val", 0, range(3))
    thetas = method.adapt(np.tile(start, (3, 1)), family.task(episodes), family, 2)
    expected = np.stack([family.score(theta, episodes) for theta in thetas])
    found = chunk_scores(config, start, "val", 2, range(3))
    np.testing.assert_array_equal(found, expected)
