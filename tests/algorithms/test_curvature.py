"""Meta-Curvature: maps of the gradients of inner steps, learned with theta."""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st

from families import family as family_of
from tinymaml import chain, maml, params
from tinymaml.algorithms import curvature
from tinymaml.algorithms.curvature import CURVATURE
from tinymaml.check.differences import directions, slopes_error
from tinymaml.experiments.sine import Sine
from tinymaml.fewshot import drawn


ROUNDING = 1e-12
STEPS, SEEDS = st.integers(1, 3), st.integers(0, 2**32 - 1)
kinds = pytest.mark.parametrize("kind", ["sine", "images"])


def case(kind, seed, tasks=2, identity=False, **options):
    """Return a problem, w (tasks, M) with generic maps, and a task."""
    family = family_of(kind, "meta-curvature", **options)
    rng = np.random.default_rng(seed)
    w = np.stack([CURVATURE.init(rng, family) for _ in range(tasks)])
    size = params.count(family.model.shapes)
    w[:, : size if identity else None] += 0.2 * rng.standard_normal(
        (tasks, size if identity else w.shape[1])
    )
    return family, w, family.task(drawn(family, seed, "train", 0, range(tasks)))


def parts(family, w):
    """The arrays of w by name."""
    return dict(params.unpack(w, CURVATURE.shapes(family)))


def by_einsum(family, w, g):
    """The transformed gradient, axis by axis: another program than `curvature`."""
    p, rows = parts(family, w), []
    for name, x in params.unpack(g, family.model.shapes).items():
        lead = x.shape[0]
        if f"{name} kernel" in p:
            m = [p[f"{name} {axis}"] for axis in ("kernel", "in", "out")]
            c, f = m[1].shape[-1], m[2].shape[-1]
            x = anp.einsum("tkcf,tfo->tkco", anp.reshape(x, (lead, 9, c, f)), m[2])
            x = anp.einsum("tkc,tcfo->tkfo", m[0], x)
            x = anp.einsum("tdc,tkco->tkdo", m[1], x)
        elif f"{name} in" in p:
            x = anp.einsum("tij,tjf->tif", p[f"{name} in"], x)
            x = anp.einsum("tif,tfo->tio", x, p[f"{name} out"])
        elif f"{name} scale" in p:
            x = p[f"{name} scale"] * x
        else:
            x = 0 * x
        rows.append(anp.reshape(x, (lead, -1)))
    return anp.concatenate(rows, axis=-1)


def textbook(w, task, family, steps, alpha):
    """The query loss after a loop that knows nothing of chains."""
    theta = w[..., : params.count(family.model.shapes)]
    for _ in range(steps):
        g = grad(task.support(theta))(theta)
        theta = theta - alpha * by_einsum(family, w, g)
    return anp.sum(task.query(theta)(theta))


def difference(a, b):
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-3)


# ----- The gradient -----


@kinds
@given(SEEDS, STEPS)
def test_gradient_is_that_of_the_unrolled_loop(kind, seed, steps):
    """Rejects the map for its adjoint, maps whose gradient is that of one step, matrices
    on the wrong side, and axes of a convolution in another order than (kernel, in, out)."""
    family, w, task = case(kind, seed, inner_steps=steps)
    alpha = family.options.alpha
    loss, found = CURVATURE.gradient(w, task, family)
    assert found.shape == w.shape
    assert loss == pytest.approx(textbook(w, task, family, steps, alpha), rel=ROUNDING)
    expected = grad(textbook)(w, task, family, steps, alpha)
    assert difference(found, expected) < 1e-10
    for name, span in params.spans(CURVATURE.shapes(family)).items():
        assert difference(found[:, span], expected[:, span]) < 1e-8, name


@kinds
@pytest.mark.parametrize("rates", ["fixed", "parameter", "tensor"])
def test_the_gradient_of_the_maps_is_that_of_differences(kind, rates):
    """Rejects a map that is left out, and step sizes that are not in front of the map."""
    family, w, task = case(kind, 4, rates=rates, inner_steps=2)
    _, found = CURVATURE.gradient(w, task, family)
    size = params.count(family.model.shapes)
    ways = np.array(directions(np.random.default_rng(0), w.shape, 6))
    ways[::2, :, :size] = 0  # half of them along maps and rates alone
    value = lambda at: float(CURVATURE.objective(at, task, family))  # noqa: E731
    assert slopes_error(value, w, [x / np.linalg.norm(x) for x in ways], found) < 1e-6


@given(SEEDS)
def test_one_step_by_hand(seed):
    """Rejects the formulas of M_in and M_out with one another's factors: for weights of a
    dense layer -V M_out' G' and -G' M_in' V, where V = alpha v_1."""
    family, w, task = case("sine", seed, inner_steps=1)
    alpha, p = family.options.alpha, parts(family, w)
    _, found = CURVATURE.gradient(w, task, family)
    theta, after = CURVATURE.adapt(w, task, family, 1)
    g = params.unpack(grad(task.support(theta))(theta), family.model.shapes)
    v = params.unpack(alpha * grad(task.query(after))(after), family.model.shapes)
    slopes, t = parts(family, found), lambda x: np.swapaxes(x, -1, -2)
    for n in ("w0", "w1", "w2"):
        left, right = p[f"{n} in"], p[f"{n} out"]
        assert difference(slopes[f"{n} in"], -v[n] @ t(right) @ t(g[n])) < ROUNDING
        assert difference(slopes[f"{n} out"], -t(g[n]) @ t(left) @ v[n]) < ROUNDING
    for n in ("b0", "b1", "b2"):
        assert difference(slopes[f"{n} scale"], -g[n] * v[n]) < ROUNDING


@kinds
@given(seed=SEEDS)
def test_the_adjoint_is_the_adjoint(kind, seed):
    """Rejects an adjoint with a matrix that is not transposed: <V, U(G)> = <U'(V), G>."""
    family, w, _ = case(kind, seed)
    theta, (linear,) = curvature.steps_of(w, family, 1)
    g, v = np.random.default_rng(seed).standard_normal((2, *theta.shape))
    forward, back = np.sum(v * linear.apply(g)), np.sum(linear.adjoint(v) * g)
    assert abs(forward - back) <= ROUNDING * np.linalg.norm(v) * np.linalg.norm(g)


@kinds
def test_first_order_keeps_the_gradient_of_the_maps(kind):
    """Rejects maps that are not learned without Hessians: with one step v_1 is the same."""
    family, w, task = case(kind, 5, inner_steps=1)
    size = params.count(family.model.shapes)
    _, exact = CURVATURE.gradient(w, task, family)
    loss, first = CURVATURE.first_order(w, task, family)
    np.testing.assert_array_equal(first[:, size:], exact[:, size:])
    after = CURVATURE.adapt(w, task, family, 1)[-1]
    assert loss == task.query(after)(after)
    np.testing.assert_array_equal(first[:, :size], grad(task.query(after))(after))
    assert np.any(exact[:, :size] != first[:, :size])
    ordered, *_ = case(kind, 5, inner_steps=1, order="first")
    np.testing.assert_array_equal(CURVATURE.gradient(w, task, ordered)[1], first)


# ----- Its cases -----


@kinds
@given(SEEDS, st.integers(0, 3))
def test_the_identity_is_maml(kind, seed, steps):
    """Rejects maps that do not start as the identity, and a fixed step size that is left
    out or applied twice."""
    family, w, task = case(kind, seed, identity=True, inner_steps=steps)
    size = params.count(family.model.shapes)
    loss, found = CURVATURE.gradient(w, task, family)
    expected = maml.meta_gradient(w[:, :size], task, family.alpha, steps)
    assert loss == expected[0]
    np.testing.assert_array_equal(found[:, :size], expected[1])


@given(SEEDS, STEPS)
def test_diagonal_maps_are_step_sizes(seed, steps):
    """Rejects a map that mixes what it should scale: with diagonals p of M_in and q of
    M_out, weight (i, j) has the step size alpha p_i q_j of Meta-SGD, and the gradient of p
    and q is that of these step sizes."""
    family, w, task = case("sine", seed, inner_steps=steps)
    shapes, alpha = family.model.shapes, family.options.alpha
    p, rates = parts(family, w), {}
    for name, x in p.items():
        if name.endswith((" in", " out")):
            x *= np.eye(x.shape[-1])  # in place: a view of w
    diagonal = {
        n: np.einsum("tii->ti", x)
        for n, x in p.items()
        if x.ndim == 3 and n.endswith((" in", " out"))
    }
    for n in shapes:
        rates[n] = (
            p[f"{n} scale"]
            if n[0] == "b"
            else (diagonal[f"{n} in"][..., None] * diagonal[f"{n} out"][..., None, :])
        )
    size = params.count(shapes)
    alphas = [alpha * params.pack(rates, shapes)] * steps
    loss, v, slopes = chain.gradient(w[:, :size].copy(), task, alphas)
    mine, found = CURVATURE.gradient(w, task, family)
    assert mine == pytest.approx(float(loss), rel=ROUNDING)
    assert difference(found[:, :size], v) < ROUNDING
    s, got = params.unpack(alpha * sum(slopes), shapes), parts(family, found)
    for n in ("w0", "w1", "w2"):
        for axis, other in (("in", "out"), ("out", "in")):
            sums = "tij,tj->ti" if axis == "in" else "tij,ti->tj"
            expected = np.einsum(sums, s[n], diagonal[f"{n} {other}"])
            ours = np.einsum("tii->ti", got[f"{n} {axis}"])
            assert difference(ours, expected) < 1e-10
    for n in ("b0", "b1", "b2"):
        assert difference(got[f"{n} scale"], s[n]) < ROUNDING


def test_the_shapes_of_the_maps():
    """Rejects one map for all rows of a convolution, a row of weights that is taken for a
    bias, and a map of batch norm's offsets, which stay."""
    family, _, _ = case("images", 0)
    found = curvature.maps(family)
    assert {
        k: x for k, x in found.items() if k[:3] in ("w0 ", "w1 ", "w i", "w o", "b s")
    } == {
        "w0 kernel": (9, 9),
        "w0 in": (1, 1),
        "w0 out": (3, 3),
        "w1 kernel": (9, 9),
        "w1 in": (3, 3),
        "w1 out": (3, 3),
        "w in": (3, 3),
        "w out": (5, 5),
        "b scale": (1, 5),
    }
    assert not any(name.startswith("beta") for name in found)
    adapted, _, _ = case("images", 0, adapt_norm=True)
    assert curvature.maps(adapted)["beta0 scale"] == (1, 3)
    family, _, _ = case("sine", 0)
    assert curvature.maps(family)["w0 in"] == (1, 1)
    assert curvature.maps(family)["w0 out"] == (5, 5)
    head, _, _ = case("sine", 0, adapts="head")
    assert [*curvature.maps(head)] == ["w2 in", "w2 out", "b2 scale"]
    dense, _, _ = case("images", 0, net="dense")
    assert curvature.maps(dense)["w1 in"] == (256, 256)


@pytest.mark.parametrize("adapts", ["all", "head", "body"])
def test_what_stays_stays(adapts):
    """Rejects a map that moves batch norm's offsets or another layer's arrays."""
    family, w, task = case("images", 7, adapts=adapts)
    before, *_, after = CURVATURE.adapt(w, task, family, 3)
    changed = np.any(before != after, axis=0)
    np.testing.assert_array_equal(
        changed, np.broadcast_to(family.alpha, changed.shape) != 0
    )
    assert changed.any()


def test_steps_are_those_of_the_experiment_unless_rates_are_learned():
    """Rejects ten test steps with step sizes that were learned for one."""
    usual, learned = Sine(algorithm="meta-curvature"), {"rates": "tensor"}
    assert (usual.inner_steps, usual.test_steps) == (2, 10)
    one = Sine(algorithm="meta-curvature", **learned)
    assert (one.inner_steps, one.test_steps) == (1, 1)
    assert Sine(algorithm="t-net", inner_steps=3, **learned).test_steps == 3
    assert Sine(algorithm="t-net", rates="fixed").inner_steps == 2
