"""Step sizes that are learned: per parameter, or per array and step."""

from itertools import pairwise

import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st

from cases import ROUNDING, case, difference, small, unrolled
from processes import here, one_error
from tinymaml import maml, params
from tinymaml.algorithms import learned
from tinymaml.errors import UsageError
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.pointnav import PointNav
from tinymaml.experiments.sine import Sine


SEEDS, STEPS = st.integers(0, 2**32 - 1), st.integers(1, 4)
RATES = ("parameter", "tensor")
KINDS = {"sine": Sine, "glyphs": Glyphs}
learns = pytest.mark.parametrize("rates", RATES)
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def rated(kind, rates, steps, seed=0, algorithm="meta-sgd", **changes):
    """A case whose rates are generic, some of them negative."""
    options = {"rates": rates, "inner_steps": steps} | changes
    found = case(small(kind, algorithm, **options))
    size = params.count(found.problem.model.shapes)
    rng = np.random.default_rng(seed)
    found.w[:, size:] = rng.uniform(-0.02, 0.1, found.w[:, size:].shape)
    return found


def parts(found):
    """theta (T, P) and the step sizes (steps, T, P) that the text of `learned` names."""
    shapes = found.problem.model.shapes
    size, steps = params.count(shapes), found.problem.options.inner_steps
    theta, rates = found.w[:, :size], found.w[:, size:]
    tasks = len(theta)
    if found.problem.options.rates == "parameter":
        alphas = np.stack([rates] * steps)
    else:
        lengths = [int(np.prod(shape)) for shape in shapes.values()]
        table = rates.reshape(tasks, steps, len(shapes))
        alphas = np.stack([np.repeat(table[:, k], lengths, -1) for k in range(steps)])
    return theta, alphas * (np.broadcast_to(found.problem.alpha, size) != 0)


def grouped(slopes, found):
    """The gradient of the rates from slopes (steps, T, P): sums by hand."""
    shapes = found.problem.model.shapes
    if found.problem.options.rates == "parameter":
        return slopes.sum(0)
    rows = [
        np.stack([slope[:, span].sum(-1) for span in params.spans(shapes).values()], -1)
        for slope in slopes
    ]
    return np.concatenate(rows, -1)


def last_loss(steps):
    """u_1, ..., u_K with the last loss alone."""
    return np.eye(steps)[-1]


@learns
@every_kind
@pytest.mark.parametrize("order", ["exact", "first"])
@given(seed=SEEDS, steps=STEPS)
def test_the_gradient_is_that_of_a_loop(kind, rates, order, seed, steps):
    """Rejects the rate of another array, step or task, a sum over steps that are learned
    apart, slopes of v_k, and slopes that a first-order gradient loses."""
    found = rated(kind, rates, steps, seed, order=order)
    theta, alphas = parts(found)
    moved = np.broadcast_to(found.problem.alpha, theta.shape[-1]) != 0
    args, u = (found.task, last_loss(steps)), order == "first"
    loss, gradient = found.method.gradient(*found.args)
    assert loss == pytest.approx(float(unrolled(theta, alphas, *args)), rel=ROUNDING)
    size = theta.shape[-1]
    by_theta = grad(unrolled, 0)(theta, alphas, *args, u)
    slopes = moved * grad(unrolled, 1)(theta, alphas, *args, u)
    assert difference(gradient[:, :size], by_theta) < ROUNDING
    assert difference(gradient[:, size:], grouped(slopes, found)) < ROUNDING
    assert np.any(gradient[:, size:])


@learns
@every_kind
@given(steps=STEPS, alpha=st.floats(0.001, 0.5))
def test_equal_rates_are_maml_to_the_bit(kind, rates, steps, alpha):
    """Rejects rates that are applied twice or not at all, and other operations than
    MAML's: theta's part and the loss are its very bits."""
    config = small(kind, "meta-sgd", rates=rates, inner_steps=steps, alpha=alpha)
    found = case(config)
    size = params.count(found.problem.model.shapes)
    found.w[:, size:] = found.problem.options.alpha
    theta = found.w[:, :size]
    expected = maml.meta_gradient(theta, found.task, found.problem.alpha, steps)
    loss, gradient = found.method.gradient(*found.args)
    assert loss == expected[0]
    np.testing.assert_array_equal(gradient[:, :size], expected[1])
    thetas = found.method.adapt(*found.args, steps)
    for one, other in zip(
        thetas, maml.path(theta, found.task, found.problem.alpha, steps), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@learns
@pytest.mark.parametrize("order", ["exact", "first"])
@pytest.mark.parametrize("adapts", ["head", "body"])
def test_rates_of_what_stays_are_not_used(rates, adapts, order):
    """Rejects rates that creep in where inner steps change nothing: their gradient is
    exactly 0, and with other values of them every bit is the same."""
    found = rated(Glyphs, rates, 3, adapts=adapts, order=order)
    size = params.count(found.problem.model.shapes)
    stays = np.broadcast_to(found.problem.alpha, size) == 0
    if rates == "tensor":
        starts = [span.start for span in params.spans(found.problem.model.shapes).values()]
        stays = np.tile(stays[starts], 3)
    assert stays.any()
    gradient = found.gradient
    assert not gradient[:, size:][:, stays].any()
    # Of an image of one pixel, most weights of a kernel see nothing.
    assert np.count_nonzero(gradient[:, size:][:, ~stays]) > (~stays).sum()
    other = found.w.copy()
    other[:, size:][:, stays] = 7.0
    again = found.method.gradient(other, found.task, found.problem)
    np.testing.assert_array_equal(again[1], gradient)
    for one, same in zip(
        *(found.method.adapt(w, found.task, found.problem, 4) for w in (found.w, other)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, same)


@learns
@pytest.mark.parametrize("trained", [1, 3])
def test_after_the_last_learned_step_its_rates_continue(rates, trained):
    """Rejects a crash, rates of the first step or of 0, and an average of all steps."""
    found = rated(Sine, rates, trained)
    theta, alphas = parts(found)
    thetas = found.method.adapt(*found.args, trained + 3)
    assert len(thetas) == trained + 4
    for k, (before, after) in enumerate(pairwise(thetas)):
        g = grad(found.task.support(before))(before)
        expected = before - alphas[min(k, trained - 1)] * g
        np.testing.assert_array_equal(after, expected)
    np.testing.assert_array_equal(thetas[0], theta)


@learns
@pytest.mark.parametrize("algorithm", ["meta-sgd", "maml++"])
def test_a_run_that_trains_without_steps_can_be_tested_with_some(algorithm, rates):
    """Rejects an index beyond a table of no rows: without training steps there are no
    learned rates of a step, and --alpha is used."""
    found = case(small(Sine, algorithm, rates=rates, inner_steps=0))
    theta = found.w[:, : params.count(found.problem.model.shapes)]
    loss, gradient = found.method.gradient(*found.args)
    assert loss == found.task.query(theta)(theta)
    assert not gradient[:, theta.shape[-1] :].any()
    assert len(found.method.adapt(*found.args, 2)) == 3


@learns
def test_rates_begin_at_the_step_sizes_of_the_options(rates):
    """Rejects a head that begins at --alpha under --alpha-head, and rates of batch norm
    that begin at another value than is used."""
    config = small(Glyphs, "meta-sgd", rates=rates, inner_steps=2, alpha_head=1.5)
    family = case(config).problem
    w = config.method.init(np.random.default_rng(0), family)
    size = params.count(family.model.shapes)
    np.testing.assert_array_equal(w[:size], family.model.init(np.random.default_rng(0)))
    w = np.stack([w])
    _, alphas = learned.step_sizes(w, family, 3)
    for alpha in alphas:
        np.testing.assert_array_equal(alpha[0], family.alpha)
    assert {*np.unique(family.alpha)} == {0.0, config.alpha, 1.5}


def test_shapes_name_what_is_learned():
    """Rejects a table of rates read by columns, and rates of fixed steps."""
    model = case(small(Sine, "meta-sgd")).problem.model.shapes
    for rates, extra in (
        ("fixed", {}),
        ("parameter", {"alpha": (params.count(model),)}),
        ("tensor", {"rates": (3, 6)}),
    ):
        config = small(Sine, "meta-sgd", rates=rates, inner_steps=3)
        assert config.method.shapes(case(config).problem) == {**model, **extra}


@pytest.mark.parametrize(
    "algorithm", ["meta-sgd", "anil", "boil", "cavia", "context", "maml++"]
)
def test_first_order_has_no_objective(algorithm):
    """Rejects a check that compares a first-order gradient with differences."""
    found = case(small(Sine, algorithm, order="first"))
    with pytest.raises(UsageError, match="of no function; nothing to check"):
        found.objective(found.w)


def test_learned_rates_need_a_start():
    """Rejects rates that begin at 0: inner steps would never move."""
    for algorithm in ("meta-sgd", "maml++", "anil"):
        with pytest.raises(UsageError, match="start at --alpha: above 0"):
            Sine(algorithm=algorithm, alpha=0, rates="tensor")
    assert Sine(algorithm="anil", alpha=0).alpha == 0


@pytest.mark.parametrize("algorithm", ["anil", "boil"])
def test_rates_are_refused_on_policies(algorithm, tmp_path, monkeypatch):
    """Rejects rates in the metric of TRPO, which is of the policy's parameters alone, and
    more than one line about it."""
    with pytest.raises(UsageError, match="--rates: TRPO's metric"):
        PointNav(algorithm=algorithm, rates="parameter")
    monkeypatch.chdir(tmp_path)
    command = ("pointnav", "--algorithm", algorithm, "--rates", "tensor", "--out", "run")
    refused = here("train", *command)
    assert refused.code == 2
    assert "--rates: TRPO's metric" in one_error(refused)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="--order first: TRPO's metric"):
        PointNav(algorithm=algorithm, order="first")


def test_steps_at_test_are_those_of_training_when_rates_are_learned():
    """Rejects ten steps with rates that were learned for one, and fewer without them."""
    for name, trained in (("anil", 5), ("boil", 1), ("cavia", 1), ("maml++", 5)):
        assert Sine(algorithm=name, rates="tensor").test_steps == trained
        assert Sine(algorithm=name, rates="parameter", inner_steps=2).test_steps == 2
        assert Sine(algorithm=name, rates="fixed").test_steps == 10
        assert Sine(algorithm=name, rates="fixed").inner_steps == trained
        assert Sine(algorithm=name, rates="tensor", test_steps=7).test_steps == 7
