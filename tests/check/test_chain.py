"""The verifier passes right gradients, and rejects the wrong ones that it is for."""

import importlib
import json
import sys

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st

from places import ROOT
from problems import SMOOTH, make, problems, query_after
from tinymaml import maml, ops
from tinymaml.algorithms import ALGORITHMS
from tinymaml.algorithms.mamls import MAML
from tinymaml.check import chain, classify
from tinymaml.check.differences import (
    Slopes,
    difference,
    relative_error,
    slope,
    slopes_error,
)
from tinymaml.cli.check import verify
from tinymaml.experiments import MODULES
from tinymaml.experiments.sine import Sine
from tinymaml.maml import Task
from tinymaml.report.check import as_text


def black_box(problem):
    """Return (meta_loss, meta_gradient, theta, adapt) of a problem, as flat callables."""
    _, *rest = problem.args
    return (
        lambda theta: float(query_after(theta, *rest)),
        lambda theta: maml.meta_gradient(theta, *rest)[1],
        problem.theta,
        lambda theta: maml.adapt(theta, *rest),
    )


def first_order(problem):
    """Return the first-order gradient as a flat callable."""
    _, *rest = problem.args
    return lambda theta: maml.first_order(theta, *rest)[1]


CURVED = {
    "activations": SMOOTH,
    "steps": st.integers(1, 3),
    "lead": (),
    "batch_norm": False,
}


# ----- classify -----


@given(problems(**CURVED))
def test_exact_gradients_are_called_exact(problem):
    """Rejects a verdict that depends on the net, the loss, K or a vector alpha."""
    verdict = classify(*black_box(problem), number=6)
    assert verdict.kind == "exact"
    assert verdict.error < 1e-7
    assert not verdict.rate < 1.9


@given(problems(**CURVED))
def test_first_order_gradients_are_called_first_order(problem):
    """Rejects a check that FOMAML passes, and one that takes it for any wrong gradient."""
    loss, exact, theta, adapt = black_box(problem)
    claimed = first_order(problem)
    apart = difference(claimed(theta), exact(theta))
    verdict = classify(loss, claimed, theta, adapt, number=6)
    if apart > 1e-3:
        assert verdict.kind == "first-order"
        assert verdict.alignment == pytest.approx(1, abs=1e-6)
        assert classify(loss, claimed, theta, number=4).kind == "neither"
    # Six directions estimate the size of the error within a factor of a few.
    assert verdict.error < 5 * apart + 1e-6


SUBTLE = {
    "half the second-order term": lambda g, v: (g + v) / 2,
    "sign of alpha H": lambda g, v: 2 * v - g,
    "one part in ten thousand": lambda g, v: g * (1 + 1e-4),
    "one coordinate forgotten": lambda g, v: np.where(np.arange(g.size) == 1, 0, g),
    "sum for mean": lambda g, v: 4 * g,
    "zeros": lambda g, v: 0 * g,
    "descent for ascent": lambda g, v: -g,
}


@pytest.mark.parametrize("name", SUBTLE)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_subtly_wrong_gradients_are_neither(name, activation):
    """Rejects a tolerance that lets small or structured errors pass."""
    problem = make(5, widths=(2, 6, 6, 3), steps=2, activation=activation)
    loss, exact, theta, adapt = black_box(problem)
    claimed = lambda at: SUBTLE[name](exact(at), first_order(problem)(at))  # noqa: E731
    verdict = classify(loss, claimed, theta, adapt)
    assert verdict.kind == "neither"
    assert "neither" in str(verdict)


def test_hessian_at_the_wrong_step_is_neither():
    """Rejects a chain with H at theta_{k+1}, wrong by a second-order quantity only."""
    problem = make(6, widths=(2, 6, 3), steps=2, alpha_kind="scalar")
    _, task, alpha, steps = problem.args

    def late(theta):
        thetas = maml.path(theta, task, alpha, steps)
        _, v = maml.value_and_gradient(task.query(None), thetas[-1])
        for theta_k in reversed(thetas[1:]):
            v = v - maml.hvp_and_gradient(task.support(None), theta_k)[0](alpha * v)
        return v

    loss, _, theta, adapt = black_box(problem)
    assert classify(loss, late, theta, adapt).kind == "neither"


def test_no_steps_make_both_the_same_and_exact():
    """Rejects calling the plain gradient first-order where nothing is adapted."""
    assert classify(*black_box(make(7, steps=0))).kind == "exact"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_adaptation_that_is_not_finite_raises(value):
    """Rejects "neither" for a first-order gradient that could not be measured."""
    problem = make(6, widths=(2, 6, 3), steps=2)
    loss, _, theta, _ = black_box(problem)
    with pytest.raises(ValueError, match="adapt is not finite"):
        classify(loss, first_order(problem), theta, lambda at: at * value)


@pytest.mark.parametrize(
    ("loss", "gradient", "message"),
    [
        (lambda t: float(np.random.default_rng().normal()), lambda t: t, "random"),
        (lambda t: np.nan, lambda t: t, "finite"),
        (lambda t: float(t @ t), lambda t: t * np.inf, "finite"),
        (lambda t: float(t @ t), lambda t: t[:-1], "gradient"),
        (lambda t: float(np.float32(np.sin(t).sum())), np.cos, "float64"),
    ],
)
def test_what_cannot_be_judged_raises(loss, gradient, message):
    """Rejects a verdict on a random, infinite, misshapen or single-precision loss."""
    with pytest.raises(ValueError, match=message):
        classify(loss, gradient, np.linspace(0.1, 1, 5))


# ----- Other frameworks -----

RECIPES = [
    ("autograd", "autograd_maml", "meta_gradient", "exact"),
    ("autograd", "autograd_maml", "port_gradient", "first-order"),
    ("torch", "torch_maml", "meta_gradient", "exact"),
    ("torch", "torch_maml", "port_gradient", "first-order"),
    ("jax", "jax_maml", "meta_gradient", "exact"),
    ("jax", "jax_maml", "stopped_gradient", "first-order"),
    ("higher", "higher_maml", "meta_gradient", "exact"),
    ("higher", "higher_maml", "first_order_gradient", "first-order"),
]


@pytest.mark.parametrize(("package", "recipe", "gradient", "kind"), RECIPES)
@pytest.mark.filterwarnings("default")
def test_recipes_of_other_frameworks(package, recipe, gradient, kind, monkeypatch):
    """Rejects a classifier that knows its own library only."""
    pytest.importorskip(package)
    monkeypatch.setattr(sys, "path", [str(ROOT / "tests" / "recipes"), *sys.path])
    module = importlib.import_module(recipe)
    size = 25 if recipe == "jax_maml" else 97
    theta = 0.5 * np.random.default_rng(1).standard_normal(size)
    found = classify(module.meta_loss, getattr(module, gradient), theta, module.adapt)
    assert found.kind == kind


# ----- verify -----


FEW_SHOT = [name for name, module in MODULES.items() if module.CONFIG.setting == "few-shot"]


@pytest.mark.parametrize("name", FEW_SHOT)
def test_every_experiment_verifies(name):
    """Rejects an experiment whose meta-gradient is off, or that cannot be checked."""
    small, tasks = ({"filters": 2}, 1) if name != "sine" else ({"hidden": (7, 5)}, 2)
    report = verify(MODULES[name].CONFIG(inner_steps=2, **small), tasks)
    assert report.passed, str(report)
    assert len(report.rows) == 8
    assert json.loads(json.dumps(report.as_dict()))["passed"] is True
    assert {"w0", "all"} <= {layer.name for layer in report.layers}
    # There is a second-order part, and it is not all there is.
    assert 0.01 < report.layers[-1].relative < 2


def wrong_sign(w, task, problem):
    """The meta-gradient with + H for - H."""
    loss, exact = MAML.twin(w, task, problem)
    return loss, 2 * MAML.first_order(w, task, problem)[1] - exact


@pytest.mark.parametrize(
    ("alpha", "steps", "lost"), [(1e9, 1, 1), (1e5, 2, 6), (1e3, 3, 1)]
)
def test_a_row_says_that_its_figure_is_not_finite(alpha, steps, lost):
    """Rejects an IndexError, a warning, "nan", and a figure that is 0 since the one that it
    is relative to is infinite."""
    report = verify(Sine(alpha=alpha, inner_steps=steps), 2)
    assert not report.passed
    failed = [row for row in report.rows if not row.passed]
    assert len(failed) == lost
    assert not np.isfinite([row.figure for row in failed]).any()
    lines = [line for line in as_text(report).splitlines() if line.endswith("WRONG")]
    assert all(" not finite " in line for line in lines)
    assert "nan" not in as_text(report)
    told = json.loads(json.dumps(report.as_dict()), parse_constant=pytest.fail)
    assert [row["figure"] is None for row in told["rows"]] == [
        not row.passed for row in report.rows
    ]


def test_a_gradient_that_is_not_finite_is_counted(monkeypatch):
    """Rejects one nan among many numbers that nobody sees."""

    def spoiled(w, task, problem):
        loss, g = MAML.gradient(w, task, problem)
        return loss, np.where(np.arange(g.shape[-1]) == 3, np.nan, g)

    monkeypatch.setitem(ALGORITHMS, "maml", MAML._replace(gradient=spoiled))
    report = verify(Sine(hidden=(3,)), 2)
    assert [row.check for row in report.rows] == ["gradient: not finite in 2 of 20"]
    last = as_text(report).splitlines()[-1]
    assert last.split()[-5:] == ["not", "finite", "<=", "1e-12", "WRONG"]


def test_a_figure_relative_to_infinity_is_none():
    """Rejects a finite error over an overflowing norm, which is 0: the best there is."""
    huge = np.full(4, 1e200)
    assert np.isnan(difference(huge + 1e180, huge))
    assert np.isnan(relative_error(huge, Slopes(2 * huge, np.zeros(4))))
    assert difference(np.ones(4), np.zeros(4)) == 2


def test_the_slope_is_measured_where_the_function_is_finite():
    """Rejects a nan at a large step that decides, and one that a maximum overlooks."""
    edge = lambda t: np.where(np.abs(t).sum() > 2e-4, np.nan, np.sin(t).sum())  # noqa: E731
    found = slope(edge, np.zeros(1), np.ones(1))
    assert float(found.value) == pytest.approx(1, abs=1e-8)
    assert found.doubt < 1e-6


@pytest.mark.parametrize("wrong", [MAML.first_order, wrong_sign])
def test_a_wrong_chain_fails_every_row_about_it(wrong, monkeypatch):
    """Rejects rows that cannot fail: each compares with something independent."""
    monkeypatch.setitem(ALGORITHMS, "maml", MAML._replace(gradient=wrong))
    report = verify(Sine(inner_steps=2), 1)
    failed = [row.check.split()[0] for row in report.rows if not row.passed]
    assert failed == ["autodiff", "the", "central", "rate", "rate"]
    assert "WRONG" in as_text(report)
    assert (report.passed, report.as_dict()["passed"]) == (False, False)


def test_a_wrong_rule_fails_differences_alone(monkeypatch):
    """Rejects a verifier of chains only: all of them share the rules of the primitives."""
    right = ops._normalize_adjoint.fun

    def wrong(g, y, r):
        return right(g, y, r) + 1e-4 * g

    primitive = ops.primitive(wrong)
    ops.defvjp(primitive, lambda _, g, y, r: lambda u: primitive(u, y, r), None, None)
    monkeypatch.setattr(ops, "_normalize_adjoint", primitive)
    config = MODULES["glyphs"].CONFIG(filters=3, activation="tanh")
    report = verify(config, 1)
    assert not {row.check: row for row in report.rows}[
        f"central differences, {chain.DIRECTIONS} directions"
    ].passed


def averaged(w, task, problem):
    """The meta-gradient of losses that are means over the tasks."""
    mean = [lambda at, f=f: lambda x: f(at)(x) / len(w) for f in (task.support, task.query)]
    return maml.meta_gradient(w, Task(*mean), problem.alpha, problem.options.inner_steps)


@pytest.mark.parametrize("tasks", [1, 3])
def test_a_mean_over_tasks_fails_its_own_row(tasks, monkeypatch):
    """Rejects a verifier that a mean over tasks passes: its gradient is the derivative of
    its objective, and is too small; also where one task is asked for."""

    def objective(w, task, problem):
        theta = w
        for _ in range(problem.options.inner_steps):
            g = grad(lambda x: task.support(x)(x) / len(w))(theta)
            theta = theta - problem.alpha * g
        return task.query(theta)(theta) / len(w)

    mean = MAML._replace(gradient=averaged, objective=objective, twin=None)
    monkeypatch.setitem(ALGORITHMS, "maml", mean)
    report = verify(Sine(hidden=(7, 5), inner_steps=2), tasks)
    failed = [row.check for row in report.rows if not row.passed]
    assert failed == ["a task beside another, against it alone"]


def test_second_order_part_vanishes_with_alpha():
    """Rejects shares that are not of the second-order term."""
    layers = []
    for alpha in (1e-2, 1e-4, 0.0):
        problem = MODULES["sine"].setup(Sine(alpha=alpha, dtype="float64"))
        layers.append(chain.second_order_part(chain.case_of(MAML, problem, 2))[-1])
    assert layers[0].relative > 50 * layers[1].relative > 0
    assert layers[2].relative == 0
    assert layers[2].cosine == pytest.approx(1)


def test_a_figure_that_is_not_a_number_fails():
    """Rejects nan <= tolerance taken for a pass."""
    assert not chain.Row("x", float("nan"), 0, 1).passed
    assert chain.Row("x", 0.5, 0, 1).passed


def test_directions_that_cross_kinks_are_left_out():
    """Rejects differences across a kink taken for the gradient's error."""

    def value(at):
        return float(anp.sum(ops.relu(at)))

    at = np.array([1.0, -1.0, 1e-5, 2.0])
    ways = [*np.eye(4)]
    gradient = np.array([1.0, 0.0, 1.0, 1.0])
    assert slopes_error(value, at, ways, gradient) < 1e-9
