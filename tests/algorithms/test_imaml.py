"""iMAML: the gradient at the minimum of a proximal problem."""

import tracemalloc
from types import SimpleNamespace

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st

from problems import make
from tinymaml.algorithms import imaml
from tinymaml.algorithms.imaml import IMAML, adapt, gradient, implicit
from tinymaml.check.differences import difference, directions, slopes_error
from tinymaml.check.implicit import Inner, scaled, unrolled
from tinymaml.errors import UsageError
from tinymaml.experiments import problem as set_up
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.fewshot import Problem, drawn
from tinymaml.harness import loop, step
from tinymaml.harness.metrics import read_metrics
from tinymaml.maml import Task
from trainings import results_of


SEEDS, SIZES = st.integers(0, 2**32 - 1), st.integers(2, 6)
STRENGTHS = st.floats(0.5, 20)
TASKS = 3


class Quadratic:
    """S = (phi - c)' A (phi - c) / 2 and Q = |phi - d|^2 / 2 + e' phi on some tasks.

    least: the least eigenvalue of every A
    """

    def __init__(self, seed, size, least=-0.3):
        rng = np.random.default_rng(seed)
        turns, _ = np.linalg.qr(rng.standard_normal((TASKS, size, size)))
        values = rng.uniform(least, 4.0, (TASKS, 1, size))
        self.a = (turns * values) @ turns.swapaxes(1, 2)
        self.c, self.d, self.theta = rng.standard_normal((3, TASKS, size))
        self.mask = np.zeros(size)
        self.mask[rng.permutation(size)[: rng.integers(1, size + 1)]] = 1

    def support(self, phi):
        away = phi - self.c
        return anp.sum(away * anp.einsum("tij,tj->ti", self.a, away)) / 2

    def query(self, phi):
        return anp.sum((phi - self.d) ** 2) / 2

    @property
    def task(self):
        return Task(lambda _: self.support, lambda _: self.query)

    def parts(self, strength):
        """The moved and the other parameters, and M = A_mm + lambda of every task."""
        at, rest = np.flatnonzero(self.mask), np.flatnonzero(1 - self.mask)
        return at, rest, self.a[:, at][:, :, at] + strength * np.eye(len(at))

    def minimum(self, theta, strength):
        """The proximal problem's minimum, by a solve."""
        at, _, inner = self.parts(strength)
        slope = np.einsum("tij,tj->ti", self.a, theta - self.c)[:, at]
        phi = theta.copy()
        phi[:, at] -= np.linalg.solve(inner, slope[..., None])[..., 0]
        return phi

    def jacobian(self, strength):
        """d minimum / d theta (T, P, P): lambda M^-1 and -M^-1 A_mu in the moved rows."""
        at, rest, inner = self.parts(strength)
        found = np.tile(np.eye(len(self.mask)), (TASKS, 1, 1))
        found[:, at[:, None], at] = strength * np.linalg.inv(inner)
        found[:, at[:, None], rest] = -np.linalg.solve(inner, self.a[:, at][:, :, rest])
        return found

    def exact(self, theta, strength):
        """The gradient of the query loss of the minimum, by matrices."""
        q = self.minimum(theta, strength) - self.d
        return np.einsum("tij,ti->tj", self.jacobian(strength), q)


def family(size, alpha, strength=2.0, cg_steps=5, inner_steps=16):
    """A problem of `size` parameters with the options of iMAML."""
    options = SimpleNamespace(proximal=strength, cg_steps=cg_steps, inner_steps=inner_steps)
    model = SimpleNamespace(shapes={"theta": (size,)})
    return Problem(model, alpha, options, None, None, None)


# ----- Quadratic losses -----


@given(SEEDS, SIZES, STRENGTHS)
def test_quadratic_losses_give_the_matrix_formula(seed, size, strength):
    """Rejects (2 + H/12) and every other damping, and parameters that do not move with the
    plain gradient of Q: x = lambda (A + lambda)^-1 grad Q."""
    case = Quadratic(seed, size)
    phi, kind = case.minimum(case.theta, strength), family(size, case.mask, strength)
    still = case.mask * grad(imaml.inner(case.theta, case.task, kind).support(phi))(phi)
    assert np.abs(still).max() < 1e-10
    _, found, residual, bad = implicit(phi, case.theta, case.task, kind, 2 * size)
    assert difference(found, case.exact(case.theta, strength)) < 1e-10
    assert residual.shape == bad.shape == (TASKS,)
    assert residual.max() < 1e-10
    assert not bad.any()


@given(SEEDS, SIZES, st.floats(1, 20))
def test_inner_steps_and_their_gradient_reach_it(seed, size, strength):
    """Rejects plain gradient descent on S, with or without one proximal step at its end."""
    case = Quadratic(seed, size)
    alpha = case.mask / (4 + strength)
    kind = family(size, alpha, strength, 2 * size, inner_steps=160)
    phi = adapt(case.theta, case.task, kind, 160)[-1]
    assert difference(phi, case.minimum(case.theta, strength)) < 1e-9
    loss, found, *_ = gradient(case.theta, case.task, kind)
    assert loss == pytest.approx(case.query(phi), rel=1e-12)
    assert difference(found, case.exact(case.theta, strength)) < 1e-8


@given(SEEDS, SIZES, STRENGTHS)
def test_it_is_the_slope_of_the_minimum(seed, size, strength):
    """Rejects an explicit derivative of Q alone: differences of the solved minimum."""
    case = Quadratic(seed, size)
    phi, kind = case.minimum(case.theta, strength), family(size, case.mask, strength)
    _, found, *_ = implicit(phi, case.theta, case.task, kind, 2 * size)
    value = lambda at: float(case.query(case.minimum(at, strength)))  # noqa: E731
    ways = directions(np.random.default_rng(0), case.theta.shape, 4)
    assert slopes_error(value, case.theta, ways, found) < 1e-7


@given(SEEDS, SIZES, STRENGTHS, st.integers(1, 6))
def test_a_convex_task_has_the_shorter_gradient(seed, size, strength, steps):
    """Rejects damping with the wrong sign or in the wrong place: |x| <= |grad Q|."""
    case = Quadratic(seed, size, least=0.0)
    phi, kind = case.minimum(case.theta, strength), family(size, case.mask, strength)
    _, found, *_ = implicit(phi, case.theta, case.task, kind, steps)
    x, q = (np.linalg.norm(case.mask * v, axis=-1) for v in (found, phi - case.d))
    assert np.all(x <= q * (1 + 1e-12))


@given(SEEDS, SIZES, st.floats(1, 10), st.sampled_from([0, 1, 5, 20, 60]))
def test_the_unrolled_chain_converges_at_its_rate(seed, size, strength, steps):
    """Rejects a chain without its source term lambda sum_k alpha v_{k+1}, and products with
    H for H + lambda. With rate = max |1 - alpha (h + lambda)| and J the Jacobian of the
    minimum, the error is at most rate^k (|I - J| |grad Q(phi_k)| + |J| |theta - phi*|)."""
    case = Quadratic(seed, size)
    values = np.linalg.eigvalsh(case.parts(strength)[-1])
    alpha = 1.2 / values.max()
    kind = family(size, alpha * case.mask, strength)
    error = unrolled(Inner(IMAML, kind, case.task), case.theta, steps)
    error = error - case.exact(case.theta, strength)
    whole, still = case.jacobian(strength), np.eye(size)
    q = adapt(case.theta, case.task, kind, steps)[-1] - case.d
    far = case.theta - case.minimum(case.theta, strength)
    allowed = np.linalg.norm(still - whole, 2, (1, 2)) * np.linalg.norm(q, axis=1)
    allowed += np.linalg.norm(whole, 2, (1, 2)) * np.linalg.norm(far, axis=1)
    allowed *= np.abs(1 - alpha * values).max() ** steps
    assert np.all(np.linalg.norm(error, axis=1) <= allowed * (1 + 1e-9) + 1e-11)


# ----- Nets -----


def net(seed, strength=4.0, **options):
    """A net's theta (T, P), its task and a problem in which half of the arrays move."""
    made = make(seed, lead=(TASKS,), **options)
    size = made.theta.shape[-1]
    mask = np.random.default_rng(seed).integers(0, 2, size).astype(float)
    mask[0] = 1
    return made.theta, scaled(made.task, 0.5), family(size, mask, strength)


def solved(theta, task, kind, steps=120):
    """The proximal problem's minimum on a net, by steps that shrink with lambda."""
    alpha = kind.alpha / (kind.options.proximal + 6)
    return adapt(theta, task, kind._replace(alpha=alpha), steps)[-1]


@pytest.mark.parametrize("seed", range(3))
def test_nets_have_the_slope_of_their_minimum(seed):
    """Rejects a Hessian or a query gradient at another phi than the minimum."""
    theta, task, kind = net(seed)
    phi = solved(theta, task, kind)
    _, found, *_ = implicit(phi, theta, task, kind, 100)
    value = lambda at: float(task.query(at)(solved(at, task, kind)))  # noqa: E731
    ways = directions(np.random.default_rng(seed), theta.shape, 2)
    assert slopes_error(value, theta, ways, found) < 1e-6


@given(SEEDS, st.floats(0.1, 10), st.integers(1, 8))
def test_loss_and_strength_scale_together(seed, c, steps):
    """Rejects lambda in the wrong place: (S, lambda) -> (c S, c lambda) leaves x."""
    theta, task, kind = net(seed)
    other = kind._replace(
        options=SimpleNamespace(**{**vars(kind.options), "proximal": 4 * c})
    )
    one = implicit(theta + 0.1, theta, task, kind, steps)
    two = implicit(theta + 0.1, theta, scaled(task, c), other, steps)
    for a, b in zip(one[1:], two[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_a_strong_pull_gives_the_plain_gradient(seed):
    """Rejects lambda I + H for I + H/lambda: x = grad Q(theta) + O(1/lambda), rate 1."""
    errors = []
    for strength in (1e4, 2e4, 4e4):
        theta, task, kind = net(seed, strength)
        phi = solved(theta, task, kind, 60)
        plain = grad(task.query(theta))(theta)
        errors.append(np.linalg.norm(implicit(phi, theta, task, kind, 20)[1] - plain))
    rates = np.log2(np.divide(errors[:-1], errors[1:]))
    assert np.all(np.abs(rates - 1) < 0.1)


@given(SEEDS)
def test_few_steps_are_the_exact_composition(seed):
    """Rejects a gradient at another phi than the last one, or with other solver steps."""
    theta, task, kind = net(seed)
    kind = kind._replace(alpha=0.05 * kind.alpha)
    phi = adapt(theta, task, kind, 16)[-1]
    found, want = gradient(theta, task, kind), implicit(phi, theta, task, kind, 5)
    for a, b in zip(found, want, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_indefinite_task_is_counted():
    """Rejects a solver that divides by a curvature below 0, and a share of all steps."""
    case = Quadratic(0, 3)
    case.a[1] = -5 * np.eye(3)
    case.mask[:] = 1
    kind = family(3, case.mask, 2.0)
    _, found, residual, bad = implicit(case.theta, case.theta, case.task, kind, 5)
    np.testing.assert_array_equal(bad, [0, 1, 0])
    np.testing.assert_array_equal(found[1], 0)
    assert residual[1] == 1


# ----- Memory -----

WIDE = {"hidden": (40, 40), "tasks": 4, "chunk": 4, "dtype": "float32"}


def peak(algorithm, steps, replay):
    """Return the most bytes that are allocated during a chunk's gradient."""
    config = Sine(algorithm=algorithm, inner_steps=steps, replay=replay, **WIDE)
    start = set_up(config).model.init(np.random.default_rng(0)).astype("float32")
    for _ in range(3):  # record, prove
        step.chunk_gradient(config, start, 0, range(4))
    tracemalloc.start()
    try:
        step.chunk_gradient(config, start, 0, range(4))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("replay", [False, True])
def test_memory_does_not_grow_with_inner_steps(replay):
    """Rejects an inner loop that keeps its graph or every phi, eager or replayed."""
    few, many = (peak("imaml", steps, replay) for steps in (5, 80))
    assert many < 1.1 * few
    assert peak("maml", 20, False) > 2 * peak("maml", 5, False)  # what is measured grows


# ----- Runs -----


def test_figures_are_logged(tmp_path):
    """Rejects figures that are summed over tasks, of another gradient, or not logged."""
    config = Sine(
        algorithm="imaml", hidden=(5,), tasks=5, chunk=2, iterations=2, test=False
    )
    results_of(tmp_path, config)
    first, second = read_metrics(tmp_path)
    family = set_up(config)
    w = np.tile(loop.initial_state(config).theta, (5, 1))
    task = family.task(drawn(family, config.seed, "train", 0, range(5)))
    *_, residual, bad = gradient(w, task, family)
    assert first["residual"] == pytest.approx(residual.mean(), rel=1e-4)
    assert first["indefinite"] == pytest.approx(bad.mean())
    assert {*IMAML.figures} <= second.keys()


def test_offsets_of_batch_norm_are_learned_and_stay():
    """Rejects a gradient without the parameters that inner steps leave alone."""
    config = Glyphs(algorithm="imaml", filters=3, dtype="float64")
    family = set_up(config)
    w = family.model.init(np.random.default_rng(0))[None]
    task = family.task(drawn(family, 0, "train", 0, range(1)))
    fixed = family.alpha == 0
    phi = adapt(w, task, family, 3)[-1]
    np.testing.assert_array_equal(phi[:, fixed], w[:, fixed])
    _, found, *_ = gradient(w, task, family)
    assert found[:, fixed].any()


def test_its_defaults_are_those_of_the_official_code():
    """Rejects a test with fewer steps than training, and settings without a source."""
    config = Glyphs(algorithm="imaml")
    assert (config.inner_steps, config.test_steps) == (16, 16)
    assert (config.alpha, config.proximal, config.cg_steps) == (0.1, 2.0, 5)
    assert Glyphs(algorithm="imaml", inner_steps=7).test_steps == 7
    with pytest.raises(UsageError, match="--alpha"):
        Sine(algorithm="imaml", alpha=0.0)
    with pytest.raises(UsageError, match="--proximal"):
        Sine(algorithm="imaml", proximal=0.0)
    with pytest.raises(UsageError, match="below 2"):
        Sine(algorithm="imaml", proximal=20.0)
    Sine(algorithm="imaml", proximal=19.9)
