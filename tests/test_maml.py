"""The algorithm against closed forms, autodiff through the loop and finite differences."""

import tracemalloc

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from hypothesis import assume, given
from hypothesis import strategies as st

from problems import SMOOTH, make, problems
from tinymaml import maml
from tinymaml.check.differences import directions, slope
from tinymaml.maml import Task


# Two exact ways to one gradient differ by rounding only: a few hundred operations of 1e-16.
ROUNDING = 1e-12


def relative(a, b):
    """Return the size of a - b relative to that of b."""
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300)


def outer(theta, task, alpha, steps):
    """Q(theta_K): the function whose gradient is wanted."""
    theta = maml.adapt(theta, task, alpha, steps)
    return task.query(theta)(theta)


def unrolled(theta, task, alpha, steps):
    """The oracle: autodiff through the whole inner loop."""
    return grad(lambda at: outer(at, task, alpha, steps))(theta)


# ----- Closed forms -----


def quadratic(rng, size):
    """A random bowl (A, b): theta' A theta / 2 - b' theta with A symmetric positive."""
    root = rng.standard_normal((size, size))
    return root @ root.T / size + np.eye(size), rng.standard_normal(size)


def bowl(a, b):
    return lambda theta: 0.5 * anp.dot(theta, anp.dot(a, theta)) - anp.dot(b, theta)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(0, 5))
def test_quadratic_losses_give_the_matrix_formula(seed, size, steps):
    """Rejects a chain in forward order, a forgotten step, the wrong sign of alpha H.

    theta_K = x* + (I - alpha A)^K (theta - x*), and the meta-gradient is
    ((I - alpha A)^K)^T (A2 theta_K - b2). Tolerance: rounding times the condition.
    """
    rng = np.random.default_rng(seed)
    (a, b), (a2, b2) = quadratic(rng, size), quadratic(rng, size)
    theta, alpha = rng.standard_normal(size), 0.1
    task = Task(lambda _: bowl(a, b), lambda _: bowl(a2, b2))
    power = np.linalg.matrix_power(np.eye(size) - alpha * a, steps)
    lowest = np.linalg.solve(a, b)
    theta_k = lowest + power @ (theta - lowest)
    assert relative(maml.adapt(theta, task, alpha, steps), theta_k) < 1e-10
    loss, gradient = maml.meta_gradient(theta, task, alpha, steps)
    assert relative(gradient, power.T @ (a2 @ theta_k - b2)) < 1e-10
    assert loss == pytest.approx(0.5 * theta_k @ a2 @ theta_k - b2 @ theta_k, rel=1e-9)


def test_vector_alpha_multiplies_before_the_hessian():
    """Rejects alpha * hvp(v): for a diagonal D, (I - D A)^T = I - A D, not I - D A."""
    rng = np.random.default_rng(0)
    (a, b), (a2, b2) = quadratic(rng, 4), quadratic(rng, 4)
    theta, alpha = rng.standard_normal(4), rng.uniform(0.05, 0.3, (3, 4))
    task = Task(lambda _: bowl(a, b), lambda _: bowl(a2, b2))
    jacobian, theta_k = np.eye(4), theta
    for alpha_k in alpha:
        theta_k = theta_k - alpha_k * (a @ theta_k - b)
        jacobian = (np.eye(4) - np.diag(alpha_k) @ a) @ jacobian
    expected = jacobian.T @ (a2 @ theta_k - b2)
    assert relative(maml.meta_gradient(theta, task, alpha, 3)[1], expected) < 1e-12
    assert (
        relative(maml.meta_gradient_low_memory(theta, task, alpha, 3)[1], expected) < 1e-12
    )


def test_hand_computed_example():
    """Rejects data of query and support exchanged: S = theta^3 / 3, Q = theta^2, by hand.

    theta = 2, alpha = 0.1: g = 4, theta_1 = 1.6, H = 4, v = 3.2, v_0 = 3.2 (1 - 0.4).
    """
    task = Task(
        lambda _: lambda theta: anp.sum(theta**3) / 3,
        lambda _: lambda theta: anp.sum(theta**2),
    )
    loss, gradient = maml.meta_gradient(np.array([2.0]), task, 0.1, 1)
    assert loss == pytest.approx(2.56, rel=1e-14)
    assert gradient == pytest.approx([1.92], rel=1e-14)
    loss, gradient = maml.first_order(np.array([2.0]), task, 0.1, 1)
    assert (float(loss), *gradient) == pytest.approx((2.56, 3.2), rel=1e-14)


# ----- Oracles -----


@given(problems())
def test_chain_equals_autodiff_through_the_loop(problem):
    """Rejects any wrong chain: dropped, misplaced, reordered or rescaled Hessians."""
    loss, gradient = maml.meta_gradient(*problem.args)
    assert relative(gradient, unrolled(*problem.args)) < ROUNDING
    assert loss == pytest.approx(outer(*problem.args), rel=1e-14)


@given(problems())
def test_low_memory_chain_equals_chain(problem):
    """Rejects Hessians re-traced at the wrong theta_k."""
    loss, gradient = maml.meta_gradient(*problem.args)
    frugal_loss, frugal = maml.meta_gradient_low_memory(*problem.args)
    assert frugal_loss == loss
    assert relative(frugal, gradient) < ROUNDING


def peak_memory(function, steps):
    """Bytes that a meta-gradient of a few parameters on much data needs at most."""
    x = np.linspace(-1, 1, 50_000)

    def loss(theta):
        return anp.mean(anp.tanh(anp.tanh(theta[0] * x + theta[1]) * theta[2]))

    task = Task(lambda _: loss, lambda _: loss)
    tracemalloc.start()
    function(np.ones(3), task, 0.1, steps)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_low_memory_chain_holds_one_graph_at_a_time():
    """Rejects a step's graph that is still held while the next one is built (1.4 times)."""
    one = peak_memory(maml.meta_gradient_low_memory, 1)
    assert peak_memory(maml.meta_gradient_low_memory, 10) <= 1.1 * one
    assert peak_memory(maml.meta_gradient, 10) > 3 * one  # what it is an alternative to


@given(problems(activations=SMOOTH), st.integers(0, 2**32 - 1))
def test_chain_equals_central_differences(problem, seed):
    """Rejects a wrong rule that chain and oracle share: differences know no rules.

    Central differences err by about 1e-10; 1e-6 leaves room for curvature, and draws
    where they do not agree among themselves say nothing.
    """
    _, gradient = maml.meta_gradient(*problem.args)
    (way,) = directions(np.random.default_rng(seed), gradient.shape, 1)
    measured = slope(lambda theta: outer(theta, *problem.args[1:]), problem.theta, way)
    scale = max(np.linalg.norm(gradient), 1)
    assume(measured.doubt < 1e-7 * scale)
    assert abs(measured.value - np.sum(gradient * way)) < 1e-6 * scale


@given(problems(activations=SMOOTH, steps=st.integers(1, 3), loss="cross-entropy"))
def test_first_order_is_the_query_gradient_after_adaptation(problem):
    """Rejects a first-order gradient taken at theta_0, and one that is secretly exact."""
    theta_k = maml.adapt(*problem.args)
    loss, gradient = maml.first_order(*problem.args)
    query = problem.task.query(theta_k)
    assert np.array_equal(gradient, grad(query)(theta_k))
    assert loss == query(theta_k)
    exact = maml.meta_gradient(*problem.args)[1]
    assume(np.linalg.norm(gradient) > 1e-3)
    assert relative(gradient, exact) > 1e-6


# ----- Shapes and makers -----


@pytest.mark.parametrize("function", [maml.meta_gradient, maml.first_order])
def test_tasks_side_by_side_are_separate(function):
    """Rejects gradients that leak between tasks, and a mean hidden in the library."""
    problem = make(1, lead=(3,), steps=2, alpha_kind="all")
    loss, gradient = function(*problem.args)
    losses = []
    for i in range(3):
        episode = type(problem.episode)(*(array[i] for array in problem.episode))
        task = maml.Task(
            lambda _, e=episode: (
                lambda t: problem.loss(problem.model.apply(t, e.x_support), e.y_support)
            ),
            lambda _, e=episode: (
                lambda t: problem.loss(problem.model.apply(t, e.x_query), e.y_query)
            ),
        )
        one, alone = function(problem.theta[i], task, problem.alpha[:, i], 2)
        losses.append(one)
        assert relative(gradient[i], alone) < ROUNDING
    assert loss == pytest.approx(sum(losses), rel=1e-14)


def test_makers_receive_the_theta_of_their_step():
    """Rejects an RL task that would act with stale parameters, or act twice in a step."""
    problem = make(2, steps=3)
    seen = []

    def noting(maker):
        def noted(theta):
            seen.append(theta)
            return maker(theta)

        return noted

    task = Task(noting(problem.task.support), noting(problem.task.query))
    thetas = maml.path(problem.theta, problem.task, problem.alpha, 3)
    for function in (maml.meta_gradient, maml.meta_gradient_low_memory, maml.first_order):
        seen.clear()
        function(problem.theta, task, problem.alpha, 3)
        assert len(seen) == 4
        assert all(np.array_equal(a, b) for a, b in zip(seen, thetas, strict=True))


def test_inputs_are_left_as_they_were():
    """Rejects an update in place, which would move the caller's parameters."""
    problem = make(3, steps=2, alpha_kind="parameters")
    before = problem.theta.copy(), np.copy(problem.alpha)
    maml.meta_gradient(*problem.args)
    assert np.array_equal(problem.theta, before[0])
    assert np.array_equal(problem.alpha, before[1])


@pytest.mark.parametrize("alpha", [0.1, np.float64(0.1), np.full(27, 0.1)])
def test_float32_stays(alpha):
    """Rejects a step size that raises the precision of theta."""
    problem = make(4)
    theta = problem.theta.astype(np.float32)
    task = Task(
        lambda _: lambda at: anp.sum(anp.tanh(at) ** 2), lambda _: lambda at: anp.sum(at**3)
    )
    assert theta.size == 27
    for function in (maml.meta_gradient, maml.meta_gradient_low_memory, maml.first_order):
        loss, gradient = function(theta, task, alpha, 2)
        assert loss.dtype == gradient.dtype == np.float32


def test_linear_support_loss_has_no_curvature():
    """Rejects autograd's warning (an error here) where the gradient is constant."""
    b = np.array([1.0, -2.0])
    task = Task(lambda _: lambda t: anp.sum(b * t), lambda _: lambda t: anp.sum(t**2))
    theta = np.array([0.5, 0.25])
    exact = maml.meta_gradient(theta, task, 0.1, 3)[1]
    assert np.array_equal(exact, maml.first_order(theta, task, 0.1, 3)[1])


@pytest.mark.parametrize(
    ("theta", "alpha", "steps", "error"),
    [
        (np.zeros(3), 0.1, -1, ValueError),
        (np.zeros(3), np.zeros(2), 1, ValueError),
        (np.zeros(3, int), 0.1, 1, TypeError),
    ],
)
def test_bad_arguments_raise(theta, alpha, steps, error):
    """Rejects silent truncation: an integer theta would take alpha = 0.1 for 0."""
    task = Task(lambda _: lambda t: anp.sum(t**2), lambda _: lambda t: anp.sum(t**2))
    for function in (maml.meta_gradient, maml.meta_gradient_low_memory, maml.first_order):
        with pytest.raises(error):
            function(theta, task, alpha, steps)


def test_a_query_loss_without_theta_is_an_error():
    """Rejects autograd's zero gradient for a loss that forgot to use theta."""
    task = Task(lambda _: lambda t: anp.sum(t**2), lambda _: lambda _: 3.0)
    with pytest.raises(ValueError, match="does not depend on theta"):
        maml.meta_gradient(np.zeros(2), task, 0.1, 1)


def test_a_loss_that_is_not_a_scalar_is_an_error():
    """Rejects a vector of losses, whose sum nobody asked for."""
    task = Task(lambda _: lambda t: anp.sum(t**2), lambda _: lambda t: t**2)
    with pytest.raises(TypeError, match="scalar"):
        maml.meta_gradient(np.zeros(2), task, 0.1, 1)


# ----- What is refused -----


def squares(_):
    return lambda theta: anp.sum(theta**2)


SQUARES = Task(squares, squares)
WAYS = [
    maml.meta_gradient,
    maml.meta_gradient_low_memory,
    maml.first_order,
    maml.adapt,
    lambda theta, task, *_: maml.value_and_gradient(task.query(theta), theta),
    lambda theta, task, *_: maml.hvp_and_gradient(task.support(theta), theta),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("theta", [[1.0, 1.0], (1.0,), 1.0, None])
def test_theta_is_an_array(way, theta):
    """Rejects an AttributeError from the inside, and a gradient that is a list."""
    with pytest.raises(
        TypeError, match=f"theta must be a NumPy array .* {type(theta).__name__}"
    ):
        way(theta, SQUARES, 0.1, 1)


@pytest.mark.parametrize("way", WAYS)
def test_a_task_is_made_of_makers(way):
    """Rejects "'float' object is not callable" for losses where makers are expected."""
    loss = squares(None)
    with pytest.raises(TypeError, match=r"Task\(lambda _: loss, lambda _: loss\)"):
        way(np.ones(2), Task(loss, loss), 0.1, 1)


# ----- The step size -----


def test_the_slope_by_alpha():
    """Rejects a step size that is a constant when it is differentiated.

    theta_1 = (1 - 2 alpha) theta, |theta|^2 = 2: d (2 (1 - 2 alpha)^2) = -8 (1 - 2 alpha).
    """

    def adapted(alpha):
        return anp.sum(maml.adapt(np.ones(2), SQUARES, alpha, 1) ** 2)

    assert grad(adapted)(0.1) == pytest.approx(-6.4, rel=1e-14)


@given(seed=st.integers(0, 999), steps=st.integers(1, 3), lead=st.sampled_from([(), (2,)]))
def test_slopes_by_step_sizes_are_those_of_differences(seed, steps, lead):
    """Rejects the slope of one step size given to another, and a lost second order."""
    theta, task, *_ = make(seed, lead=lead, steps=steps)
    rng = np.random.default_rng(seed)
    alphas = rng.uniform(0.01, 0.1, (steps, *np.ones(theta.ndim, int)))
    along = rng.standard_normal(alphas.shape)
    f = lambda at: outer(theta, task, at, steps)  # noqa: E731
    h = 1e-5
    plain = (f(alphas + h * along) - f(alphas - h * along)) / (2 * h)
    assert np.sum(grad(f)(alphas) * along) == pytest.approx(plain, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("shape", [(5, 1), (1, 3, 2), (3,)])
def test_step_sizes_do_not_add_steps(shape):
    """Rejects five steps for one, with step sizes that are differentiated."""
    with pytest.raises(ValueError, match="operand"):
        grad(lambda a: squares(None)(maml.adapt(np.ones(2), SQUARES, a, 1)))(
            np.full(shape, 0.1)
        )


@pytest.mark.parametrize("way", WAYS[:4])
def test_a_step_size_is_a_number(way):
    """Rejects nan, which NumPy makes of None."""
    with pytest.raises(TypeError, match="not None"):
        way(np.ones(2), SQUARES, None, 1)


@pytest.mark.parametrize("theta", [[1.0, 1.0], np.ones(2, int), np.array(1.0)])
def test_theta_of_a_gradient_is_an_array(theta):
    """Rejects "Can't find vector space", and a gradient that is a list."""
    with pytest.raises(TypeError, match="theta must be"):
        maml.gradient(squares(None), theta)


LOSSES = {
    "a NoneType": lambda t: None,
    "a tuple": lambda t: (anp.sum(t**2), 1),
    "an array of shape \\(2,\\)": lambda t: t**2,
    "a complex one": lambda t: anp.sum(t**2) * 1j,
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("part", ["support", "query"])
def test_a_loss_is_one_real_number(name, part):
    """Rejects the gradient of an imaginary part, and messages about vector spaces."""
    task = SQUARES._replace(**{part: lambda _: LOSSES[name]})
    with pytest.raises(TypeError, match=f"a loss is a (scalar|real number), not {name}"):
        maml.meta_gradient(np.ones(2), task, 0.1, 1)


@pytest.mark.parametrize("u", [1.0, np.ones(1), np.ones((2, 2)), [1.0, 1.0]])
def test_a_product_is_with_a_vector_like_theta(u):
    """Rejects the Hessian times a vector that was broadcast, or summed over rows."""
    hvp, _ = maml.hvp_and_gradient(squares(None), np.ones(2))
    with pytest.raises(ValueError, match=r"u must have theta's shape \(2,\)"):
        hvp(u)
