"""Adam and clipping: against autograd's own, its first step in closed form, float32."""

from types import SimpleNamespace

import numpy as np
import pytest
from autograd.misc.optimizers import adam as autograd_adam
from hypothesis import given
from hypothesis import strategies as st
from numpy.linalg import norm
from numpy.random import default_rng

from tinymaml.optim import Moments, adam, clip, rms, scheduled


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
