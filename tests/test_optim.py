"""Adam, clipping and schedules: against autograd's own Adam, closed forms, float32."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from autograd.misc.optimizers import adam as autograd_adam
from hypothesis import given
from hypothesis import strategies as st
from numpy.linalg import norm
from numpy.random import default_rng

from tinymaml.optim import Moments, adam, clip, outer_step, rms, scheduled


seeds = st.integers(0, 2**32 - 1)


def still(theta):
    return Moments(np.zeros_like(theta), np.zeros_like(theta))


def run(theta, gradients, step_size):
    """Return theta after one update per gradient."""
    moments = still(theta)
    for iteration, gradient in enumerate(gradients, start=1):
        theta, moments = adam(theta, gradient, moments, iteration, step_size)
    return theta


@given(
    size=st.integers(1, 6),
    step_size=st.floats(1e-4, 0.1),
    scale=st.sampled_from([1e-6, 1, 1e3]),
    seed=seeds,
)
def test_fifty_steps_are_those_of_autograd(size, step_size, scale, seed):
    """Rejects swapped decay rates, no bias correction and one counted from zero."""
    rng = default_rng(seed)
    theta, gradients = rng.standard_normal(size), scale * rng.standard_normal((50, size))
    theirs = autograd_adam(
        lambda _, i: gradients[i], theta, num_iters=50, step_size=step_size
    )
    # Fifty updates with the same operations in another order.
    difference = run(theta, gradients, step_size) - theirs
    assert norm(difference) <= 1e-14 * (norm(theta) + 50 * step_size)


@given(size=st.integers(1, 6), step_size=st.floats(1e-4, 10), seed=seeds)
def test_the_first_step_is_the_sign_of_the_gradient(size, step_size, seed):
    """Rejects a missing bias correction and an ascent.

    In closed form g / (|g| + 1e-8): the sign but for 1e-8 / |g|.
    """
    rng = default_rng(seed)
    gradient = rng.uniform(0.1, 10, size) * rng.choice([-1, 1], size)
    theta, _ = adam(np.zeros(size), gradient, still(gradient), 1, step_size)
    exact = -step_size * gradient / (np.abs(gradient) + 1e-8)
    assert norm(theta - exact) <= 1e-14 * norm(exact)
    assert np.abs(theta + step_size * np.sign(gradient)).max() <= 2e-7 * step_size


def test_a_gradient_of_zero_changes_nothing():
    """Rejects a division by zero, and moments that drift on their own."""
    theta = np.arange(3.0)
    after, moments = adam(theta, np.zeros(3), still(theta), 1, 0.1)
    assert np.array_equal(after, theta)
    assert not moments.m.any()
    assert not moments.v.any()


def test_the_update_continues_from_the_moments_it_returns():
    """Rejects moments returned after the bias correction, which a resume would redo."""
    gradients = default_rng(0).standard_normal((2, 4))
    _, moments = adam(np.zeros(4), gradients[0], still(gradients[0]), 1, 0.1)
    assert np.allclose(moments.m, 0.1 * gradients[0], rtol=1e-14, atol=0)
    assert np.allclose(moments.v, 0.001 * gradients[0] ** 2, rtol=1e-13, atol=0)
    _, moments = adam(np.zeros(4), gradients[1], moments, 2, 0.1)
    expected = 0.09 * gradients[0] + 0.1 * gradients[1]
    assert np.allclose(moments.m, expected, rtol=1e-13, atol=1e-15)


def test_the_arguments_are_left_alone():
    """Rejects an update in place, which would change the last good state."""
    theta, gradient = np.ones(3), np.full(3, 2.0)
    moments = still(theta)
    adam(theta, gradient, moments, 1, 0.1)
    assert (theta == 1).all()
    assert (gradient == 2).all()
    assert not moments.m.any()
    assert not moments.v.any()


@pytest.mark.parametrize("iteration", [1, 7, 1000])
def test_float32_stays_float32(iteration):
    """Rejects a bias correction that turns parameters and moments into float64."""
    theta = np.ones(3, np.float32)
    theta, moments = adam(theta, theta, still(theta), iteration, 0.001)
    assert {array.dtype.name for array in (theta, *moments)} == {"float32"}


# ----- Schedules -----


def plan(schedule, outer="adam", **changes):
    """The options that a schedule reads."""
    usual = {"beta": 0.01, "beta_end": 0.001, "epoch": 5, "iterations": 60}
    return SimpleNamespace(schedule=schedule, outer=outer, **usual | changes)


betas = st.floats(1e-5, 1)
lengths = st.integers(1, 300)


@given(beta=betas, end=betas, epoch=lengths, iterations=lengths)
def test_schedules_go_from_beta_to_beta_end(beta, end, epoch, iterations):
    """Rejects a schedule that ends elsewhere, runs on after its end, turns round on the
    way, or gets there an epoch early because the last epoch is shorter."""
    given = {"beta": beta, "beta_end": end, "epoch": epoch, "iterations": iterations}
    epochs = math.ceil(iterations / epoch)
    for schedule, last in (("linear", iterations), ("cosine", epochs * epoch)):
        options = plan(schedule, **given)
        path = [scheduled(options, i) for i in range(last + 2)]
        # Both ends are exact; on the way there are a few roundings.
        assert path[0] == beta
        assert path[last] == end
        assert path[last + 1] == path[last]
        assert np.all(np.diff(path) * np.sign(end - beta) >= -1e-15)
        assert path[last - 1] != path[last] or beta == pytest.approx(end)
    assert {scheduled(plan("constant", **given), i) for i in range(9)} == {beta}


@given(beta=betas, end=betas, epoch=lengths, iterations=lengths)
def test_a_cosine_is_that_of_its_formula(beta, end, epoch, iterations):
    """Rejects a change within an epoch, a period of 2 E, and a cosine of iterations:
    end + (beta - end) (1 + cos(pi e / E)) / 2 in epoch e of E."""
    options = plan("cosine", beta=beta, beta_end=end, epoch=epoch, iterations=iterations)
    epochs = math.ceil(iterations / epoch)
    for i in range(epochs * epoch):
        angle = math.pi * (i // epoch) / epochs
        expected = end + (beta - end) * 0.5 * (1 + math.cos(angle))
        assert scheduled(options, i) == pytest.approx(expected, rel=1e-14)
        assert scheduled(options, i) == scheduled(options, i - i % epoch)


@given(beta=betas, end=betas, iterations=st.integers(2, 300))
def test_a_line_falls_by_the_same_amount_in_every_iteration(beta, end, iterations):
    """Rejects a line of epochs, and a geometric schedule."""
    options = plan("linear", beta=beta, beta_end=end, epoch=7, iterations=iterations)
    path = [scheduled(options, i) for i in range(iterations + 1)]
    slopes = np.array([b - a for a, b in pairwise(path)])
    assert np.abs(slopes - (end - beta) / iterations).max() <= 1e-15


def test_a_schedule_by_hand():
    """Rejects an epoch that is counted from 1, and iterations that are: 60 iterations are
    12 epochs of 5."""
    cosine, line = plan("cosine"), plan("linear")
    assert [scheduled(cosine, i) for i in (0, 4)] == [0.01, 0.01]
    assert scheduled(cosine, 30) == pytest.approx(0.0055, rel=1e-14)  # epoch 6 of 12
    assert scheduled(cosine, 59) == pytest.approx(
        0.001 + 0.009 * (1 + math.cos(math.pi * 11 / 12)) / 2, rel=1e-14
    )
    assert scheduled(line, 15) == pytest.approx(0.01 - 0.009 / 4, rel=1e-14)


@given(size=st.integers(1, 6), iteration=st.integers(0, 70), seed=seeds)
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_sgd_is_theta_less_beta_times_the_gradient(schedule, size, iteration, seed):
    """Rejects momentum, an ascent, moments that change, and a schedule that is not read
    or is read at another iteration: to the bit."""
    theta, gradient, m, v = default_rng(seed).standard_normal((4, size))
    options, moments = plan(schedule, "sgd"), Moments(m, v)
    found, kept = outer_step(theta, gradient, moments, iteration + 1, options, iteration)
    expected = theta - scheduled(options, iteration) * gradient
    np.testing.assert_array_equal(found, expected)
    assert kept is moments


@given(size=st.integers(1, 6), number=st.integers(1, 70), seed=seeds)
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_adam_takes_the_step_size_of_the_iteration(schedule, size, number, seed):
    """Rejects an Adam that ignores the schedule, and one whose bias correction counts the
    run's iterations and not its own updates."""
    theta, gradient, m, v = default_rng(seed).standard_normal((4, size))
    options, moments = plan(schedule), Moments(m, v**2)
    found, after = outer_step(theta, gradient, moments, number, options, 42)
    beta = scheduled(options, 42)
    expected, same = adam(theta, gradient, moments, number, beta)
    np.testing.assert_array_equal(found, expected)
    assert all(map(np.array_equal, after, same))


@pytest.mark.parametrize("outer", ["adam", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_scheduled_step_keeps_float32(outer, schedule):
    """Rejects a step size that turns parameters into float64."""
    theta = np.ones(3, np.float32)
    found, moments = outer_step(theta, theta, still(theta), 3, plan(schedule, outer), 2)
    assert {array.dtype.name for array in (found, *moments)} == {"float32"}


# ----- Clipping -----


@given(
    gradient=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6).map(np.array),
    bound=st.floats(1e-3, 1e3),
)
def test_entries_are_clipped_one_by_one(gradient, bound):
    """Rejects clipping by norm, which turns entries within the bound too."""
    clipped = clip(gradient, bound)
    for before, after in zip(gradient, clipped, strict=True):
        assert after == (before if abs(before) <= bound else np.copysign(bound, before))


@pytest.mark.parametrize("bound", [0, 1.0])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_clipping_does_not_hide_divergence(bound, value):
    """Rejects an infinite gradient made 10, with which a run would go on."""
    assert not np.isfinite(clip(np.array([value, 0.5]), bound)).all()


def test_no_bound_changes_nothing_and_float32_stays():
    """Rejects 0 taken for a bound of 0, and a float64 bound that spreads."""
    gradient = np.array([1e9, -3], np.float32)
    assert clip(gradient, 0.0) is gradient
    assert clip(gradient, 10.0).tolist() == [10, -3]
    assert clip(gradient, 10.0).dtype == np.float32


# ----- Adam with beta1 = 0 -----


@given(st.integers(1, 6), seeds, st.integers(0, 9))
def test_rms_is_adam_without_a_first_moment(size, seed, begun):
    """Rejects decay rates swapped, a count from zero, and a square root left out."""
    rng = default_rng(seed)
    v, t = np.zeros(size), np.array([0.0])
    squares = np.zeros(size)
    for g in rng.standard_normal((begun + 1, size)):
        found, v, t = rms(g, v, t)
        squares = 0.999 * squares + 0.001 * g**2
    assert t == begun + 1
    assert norm(v - squares) <= 1e-14 * norm(squares)
    unbiased = squares / (1 - 0.999 ** (begun + 1))
    # TensorFlow adds epsilon before it corrects v; 1e-8 matters to small entries alone.
    scale = 1e-8 / np.sqrt(squares)
    exact = g / np.sqrt(unbiased) / (1 + scale)
    assert norm(found - exact) <= 1e-12 * norm(exact)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_run_of_no_iterations_has_a_step_size(schedule):
    """Rejects a division by zero when a problem is set up to score an untrained net."""
    options = {"beta": 0.5, "beta_end": 0.1, "iterations": 0, "epoch": 7}
    assert scheduled(SimpleNamespace(**options, schedule=schedule), 0) == 0.5


def test_what_no_update_can_use_is_refused():
    """Rejects a bound below 0, an update before the first and shapes that broadcast."""
    with pytest.raises(ValueError, match="bound must be 0 or more, not -1"):
        clip(np.ones(2), -1)
    moments = Moments(np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="from 1, not 0"):
        adam(np.ones(2), np.ones(2), moments, 0, 0.1)
    with pytest.raises(ValueError, match=r"theta has shape \(2,\)"):
        adam(np.ones(2), np.ones((3, 2)), moments, 1, 0.1)
    with pytest.raises(ValueError, match="from 1, not nan"):
        adam(np.ones(2), np.ones(2), moments, math.nan, 0.1)
    options = {"beta": 1.0, "schedule": "constant", "beta_end": 0.0, "outer": "sgd"}
    with pytest.raises(ValueError, match=r"theta has shape \(2,\)"):
        outer_step(np.ones(2), np.ones((3, 2)), moments, 1, SimpleNamespace(**options), 0)
    with pytest.raises(ValueError, match=r"\(3,\), gradient or moments .*\(3, 1\)"):
        rms(np.ones(3), np.zeros((3, 1)), np.zeros(1))
