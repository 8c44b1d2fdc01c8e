"""The general reverse pass against autodiff, differences and `maml.meta_gradient`.

A pass that differs from its text by one sign, one index or one factor fails here; each
test says which.
"""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad, jacobian
from hypothesis import given
from hypothesis import strategies as st

from problems import make, problems
from tinymaml import chain, losses, maml
from tinymaml.check.differences import directions, slopes_error
from tinymaml.fewshot import Episode, as_task
from tinymaml.maml import Task
from tinymaml.speed.replay import recorded


ROUNDING = 1e-12
STEPS = st.integers(1, 4)
SEEDS = st.integers(0, 2**32 - 1)


def close(a, b, tolerance=ROUNDING):
    """Whether a and b are equal relative to b's size, or both nothing."""
    return np.linalg.norm(a - b) <= tolerance * max(np.linalg.norm(b), 1e-3)


def alphas_of(problem):
    """The step size of each step, (..., P)."""
    shape = (problem.steps, *problem.theta.shape)
    return [*np.broadcast_to(problem.alpha, shape)]


def weights_of(problem, seed=0):
    """Random weights u_1, ..., u_K, some negative."""
    return np.random.default_rng(seed).standard_normal(problem.steps)


def unrolled(theta, alphas, task, weights):
    """sum_k u_k Q(theta_k), by autograd through the loop alone."""
    total = 0.0
    for alpha, u in zip(alphas, weights, strict=True):
        theta = theta - alpha * grad(task.support(theta))(theta)
        total = total + u * task.query(theta)(theta)
    return total


def weighted(problem, weights):
    """(loss, gradient by theta, slopes) of the pass."""
    theta, task = problem.theta, problem.task
    return chain.gradient(theta, task, alphas_of(problem), weights)


# ----- What it returns -----


@given(problems(steps=STEPS), SEEDS)
def test_it_is_the_gradient_of_the_weighted_losses(problem, seed):
    """Rejects u_k left out, u_k grad Q of another step or added before the product of its
    step, a term of theta_0, slopes without u_{k+1} grad Q, and H (v) for H (alpha v)."""
    weights, alphas = weights_of(problem, seed), alphas_of(problem)
    loss, v, slopes = weighted(problem, weights)
    args = problem.theta, alphas, problem.task, weights
    assert close(loss, unrolled(*args))
    assert close(v, grad(unrolled)(*args))
    stacked = grad(lambda x: unrolled(problem.theta, list(x), problem.task, weights))
    assert close(np.stack(slopes), stacked(np.stack(alphas)))


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_slopes_are_those_of_differences(steps, activation):
    """Rejects rules that the pass and autodiff share, a sign of the slopes, and slopes
    in reverse order."""
    problem = make(1, steps=steps, activation=activation, alpha_kind="all")
    weights, alphas = weights_of(problem), np.stack(alphas_of(problem))
    _, v, slopes = weighted(problem, weights)

    def value(both):
        theta, sizes = both[0], both[1:]
        return float(unrolled(theta, [*sizes], problem.task, weights))

    at = np.concatenate([problem.theta[None], alphas])
    ways = directions(np.random.default_rng(0), at.shape, 8)
    found = np.concatenate([v[None], np.stack(slopes)])
    assert slopes_error(value, at, ways, found) < 1e-8


@given(problems())
def test_the_last_loss_alone_is_maml_to_the_bit(problem):
    """Rejects another order of operations than `maml.meta_gradient`, which would change
    the last bits of every algorithm that is written on the pass."""
    loss, expected = maml.meta_gradient(*problem.args)
    theta, task, alphas = problem.theta, problem.task, alphas_of(problem)
    plain = chain.gradient(theta, task, alphas)
    assert plain[0] == loss
    assert plain[1].tobytes() == expected.tobytes()
    assert len(plain[2]) == problem.steps
    if problem.steps:
        last = np.eye(problem.steps)[-1]
        loss, v, slopes = chain.gradient(theta, task, alphas, last)
        assert np.array_equal(v, expected)
        assert all(map(np.array_equal, slopes, plain[2]))


@given(problems(steps=STEPS), st.integers(1, 4))
def test_an_earlier_loss_alone_is_maml_with_fewer_steps(problem, steps):
    """Rejects Q of theta_{k-1} or theta_{k+1} under the weight u_k, and slopes of steps
    that come after the loss."""
    steps = min(steps, problem.steps)
    _, v, slopes = weighted(problem, np.eye(problem.steps)[steps - 1])
    alphas = alphas_of(problem)[:steps]
    args = problem.theta, problem.task, np.stack(alphas), steps
    assert close(v, maml.meta_gradient(*args)[1])
    assert not np.any(slopes[steps:])
    assert np.any(slopes[steps - 1])


@given(problems(steps=STEPS), SEEDS, st.floats(-3, 3))
def test_it_is_linear_in_the_weights(problem, seed, c):
    """Rejects weights that are normalised, squared, or applied to v once a step."""
    one, other = weights_of(problem, seed), weights_of(problem, seed + 1)
    parts = [weighted(problem, weights) for weights in (one, other, c * one + other)]
    scale = sum(np.linalg.norm(part[1]) for part in parts) + 1e-3
    for first, second, both in zip(*parts, strict=True):
        error = np.linalg.norm(np.array(both) - (c * np.array(first) + np.array(second)))
        assert error <= 1e-11 * (scale + np.linalg.norm(both))


def test_no_steps_are_the_query_loss():
    """Rejects a pass that needs a step."""
    problem = make(2, steps=0)
    loss, v, slopes = chain.gradient(problem.theta, problem.task, [])
    query = problem.task.query(None)
    assert (loss, slopes) == (query(problem.theta), [])
    np.testing.assert_array_equal(v, grad(query)(problem.theta))


# ----- First order -----


@given(problems(steps=STEPS), SEEDS)
def test_first_order_slopes_are_sums_of_query_gradients(problem, seed):
    """Rejects slopes that vanish without Hessians, with which a first-order Meta-SGD would
    not learn its step sizes: s_k = -g_k sum_{j > k} u_j grad Q(theta_j)."""
    weights, task = weights_of(problem, seed), problem.task
    alphas = alphas_of(problem)
    _, v, slopes = chain.gradient(problem.theta, task, alphas, weights, second_order=False)
    thetas = chain.path(problem.theta, task, alphas)
    terms = [
        u * grad(task.query(at))(at) for u, at in zip(weights, thetas[1:], strict=True)
    ]
    for k, slope in enumerate(slopes):
        g = grad(task.support(thetas[k]))(thetas[k])
        assert close(slope, -g * sum(terms[k:]))
        assert np.any(slope)
    assert close(v, sum(terms))


@given(problems())
def test_first_order_of_the_last_loss_is_first_order_maml(problem):
    """Rejects a first-order pass that keeps one product, or takes none of them off."""
    theta, task, alphas = problem.theta, problem.task, alphas_of(problem)
    loss, v, _ = chain.gradient(theta, task, alphas, second_order=False)
    expected = maml.first_order(*problem.args)
    assert loss == expected[0]
    np.testing.assert_array_equal(v, expected[1])


# ----- Linear maps in place of step sizes -----


def maps_of(problem, seed=0):
    """A random matrix (..., P, P) a step; none is symmetric."""
    shape = (problem.steps, *problem.theta.shape, problem.theta.shape[-1])
    return 0.05 * np.random.default_rng(seed).standard_normal(shape)


def linear(p):
    """The linear map of matrices p (..., P, P)."""
    return chain.Linear(
        lambda g: anp.einsum("...ij,...j->...i", p, g),
        lambda v: anp.einsum("...ij,...i->...j", p, v),
    )


@given(problems(steps=STEPS), SEEDS)
def test_step_sizes_may_be_linear_maps(problem, seed):
    """Rejects P_k for its adjoint P_k', and any v but v_{k+1} in place of the slopes:
    d L / d P_k = -v_{k+1} g_k'; against autodiff of the loop, by theta and by all P_k."""
    weights, matrices, task = (
        weights_of(problem, seed),
        maps_of(problem, seed),
        problem.task,
    )
    steps = [linear(p) for p in matrices]
    loss, v, after = chain.gradient(problem.theta, task, steps, weights)

    def textbook(theta, matrices):
        total = 0.0
        for k, u in enumerate(weights):
            g = grad(task.support(theta))(theta)
            theta = theta - anp.einsum("...ij,...j->...i", matrices[k], g)
            total = total + u * task.query(theta)(theta)
        return total

    assert close(loss, textbook(problem.theta, matrices))
    assert close(v, grad(textbook)(problem.theta, matrices), 1e-11)
    found = [
        -back[..., None] * step.gradient[..., None, :]
        for back, step in zip(
            after, chain.forward(problem.theta, task, steps)[0], strict=True
        )
    ]
    assert close(np.stack(found), grad(textbook, 1)(problem.theta, matrices), 1e-11)
    thetas = chain.path(problem.theta, task, steps)
    np.testing.assert_array_equal(
        thetas[-1], chain.forward(problem.theta, task, steps)[1][-1]
    )


@given(problems(steps=STEPS), SEEDS)
def test_a_diagonal_map_is_a_step_size(problem, seed):
    """Rejects a step that treats the two in different ways, also in one chain and in first
    order: the same bits of theta and of its gradient, and slopes -g v_{k+1}."""
    theta, task, sizes = problem.theta, problem.task, alphas_of(problem)

    def diagonal(a):
        return chain.Linear(lambda g: a * g, lambda v: a * v)

    mixed = [diagonal(a) if k % 2 == 0 else a for k, a in enumerate(sizes)]
    weights = weights_of(problem, seed)
    for second_order in (True, False):
        one = chain.gradient(theta, task, sizes, weights, second_order)
        other = chain.gradient(theta, task, mixed, weights, second_order)
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])
        for k, step in enumerate(chain.forward(theta, task, sizes)[0]):
            slope = -step.gradient * other[2][k] if k % 2 == 0 else other[2][k]
            np.testing.assert_array_equal(one[2][k], slope)


# ----- Its parts -----


@given(problems())
def test_the_path_is_that_of_maml_and_can_be_differentiated(problem):
    """Rejects a path of one step too few, and one that makes its step sizes constants."""
    theta, task, alphas = problem.theta, problem.task, alphas_of(problem)
    thetas = chain.path(theta, task, alphas)
    for one, other in zip(thetas, maml.path(*problem.args), strict=True):
        np.testing.assert_array_equal(one, other)
    steps, forward = chain.forward(theta, task, alphas)
    assert all(map(np.array_equal, forward, thetas))
    assert len(steps) == problem.steps
    if problem.steps:
        last = jacobian(lambda a: anp.sum(chain.path(theta, task, [*alphas[:-1], a])[-1]))
        assert close(last(alphas[-1]), -steps[-1].gradient)


def test_terms_are_added_after_the_product_of_their_step():
    """Rejects a_k that passes through H_k, is added to v_{k+1}, or belongs to another k."""
    problem = make(3, steps=3)
    steps, thetas = chain.forward(problem.theta, problem.task, alphas_of(problem))
    rng = np.random.default_rng(0)
    v, *added = rng.standard_normal((4, *problem.theta.shape))
    found, slopes = chain.back(steps, v, added.__getitem__)
    for k in (2, 1, 0):
        hvp, g = maml.hvp_and_gradient(problem.task.support(None), thetas[k])
        np.testing.assert_array_equal(slopes[k], -g * v)
        v = v - hvp(problem.alpha * v) + added[k]
    np.testing.assert_array_equal(found, v)


def test_makers_are_called_once_a_step_in_order():
    """Rejects a maker that is called again on the way back, which would draw other data,
    a query maker that is called for theta_0, and calls out of order: a loss that depends
    on its step counts its calls."""
    problem = make(4, steps=3)
    alphas, weights = alphas_of(problem), weights_of(problem)
    calls = []

    def noting(name, maker):
        def called(theta):
            calls.append((name, theta.tobytes()))
            return maker(theta)

        return called

    task = Task(noting("S", problem.task.support), noting("Q", problem.task.query))
    _, thetas = chain.forward(problem.theta, problem.task, alphas)
    support = [("S", theta.tobytes()) for theta in thetas[:-1]]
    query = [("Q", theta.tobytes()) for theta in thetas[1:]]
    chain.gradient(problem.theta, task, alphas, weights)
    assert calls == support + query
    calls.clear()
    chain.gradient(problem.theta, task, alphas)
    assert calls == support + query[-1:]


def test_losses_of_their_own_for_each_step():
    """Rejects one support loss for all steps: minibatches S_0, S_1, S_2 and Q_1, Q_2, Q_3
    by makers that count, against autodiff."""
    problem = make(5, steps=3)
    rng = np.random.default_rng(1)
    scales, weights = rng.uniform(0.5, 2, (2, 3)), weights_of(problem)

    def counting():
        numbers = iter(range(3)), iter(range(3))

        def maker(loss, number):
            c = scales[0, number]
            return lambda at: c * loss(at) + 0.1 * c * anp.sum(anp.sin(c * at))

        return Task(
            lambda theta: maker(problem.task.support(theta), next(numbers[0])),
            lambda theta: maker(problem.task.query(theta), next(numbers[1])),
        )

    alphas = alphas_of(problem)
    _, v, _ = chain.gradient(problem.theta, counting(), alphas, weights)
    expected = grad(lambda at: unrolled(at, alphas, counting(), weights))
    assert close(v, expected(problem.theta))


# ----- Precision and replay -----


def test_single_precision_stays():
    """Rejects a weight or a step size that raises float32 to float64."""
    problem = make(6, steps=2)
    theta = problem.theta.astype(np.float32)
    episode = Episode(*(x.astype(np.float32) for x in problem.episode))
    alphas = [np.float32(0.1) + 0 * theta, np.float32(0.2) + 0 * theta]
    task = as_task(episode, problem.model.apply, losses.mse)
    for weights in (None, [0.25, 0.75]):
        for second_order in (True, False):
            loss, v, slopes = chain.gradient(theta, task, alphas, weights, second_order)
            assert {x.dtype.name for x in (loss, v, *slopes)} == {"float32"}


@pytest.mark.parametrize("second_order", [True, False])
def test_a_recording_has_the_same_bits(second_order):
    """Rejects step sizes, weights or terms that a recording keeps from its first call."""
    problem = make(7, steps=2, lead=(3,))
    rng = np.random.default_rng(2)

    def passed(theta, first, second, u, v):
        weights = [u, v]
        found = chain.gradient(theta, problem.task, [first, second], weights, second_order)
        loss, v_0, slopes = found
        return loss, v_0, *slopes

    replayed = recorded(passed)
    shape = problem.theta.shape
    for _ in range(4):
        inputs = [
            rng.standard_normal(shape),
            *rng.uniform(0, 0.2, (2, *shape)),
            *map(np.array, rng.standard_normal(2)),
        ]
        for one, other in zip(replayed(*inputs), passed(*inputs), strict=True):
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize(
    ("alphas", "weights"), [([0.1], [1, 2]), ([0.1, 0.1], [1]), ([], [])]
)
def test_every_step_has_a_weight(alphas, weights):
    """Rejects a loss that is left out, and a sum of no losses."""
    problem = make(0)
    with pytest.raises(ValueError, match=f"{len(weights)} weights for {len(alphas)} steps"):
        chain.gradient(problem.theta, problem.task, alphas, weights)


def test_a_step_does_not_multiply_theta():
    """Rejects four thetas for a step size with an axis too many."""
    loss = lambda t: anp.sum(t**2)  # noqa: E731
    task, alpha = Task(lambda _: loss, lambda _: loss), np.full((4, 2), 0.1)
    for way in (chain.path, chain.gradient):
        with pytest.raises(ValueError, match=r"a step \(4, 2\) of theta \(2,\)"):
            way(np.ones(2), task, [alpha])
