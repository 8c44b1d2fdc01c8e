"""The Gaussian policy: densities, divergence, and the Fisher matrix."""

import math

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import make_hvp
from hypothesis import given
from hypothesis import strategies as st

from tinymaml import maml, params
from tinymaml.rl import policy


WIDTHS = (2, 5, 4, 2)
seeds = st.integers(0, 2**32)


def some(seed, dtype="float64", tasks=3, states=6, activation=anp.tanh):
    """A policy, generic parameters (T, P) and observations."""
    rng = np.random.default_rng(seed)
    model = policy.gaussian_mlp(WIDTHS, activation)
    theta = np.stack([model.init(rng) for _ in range(tasks)])
    theta = (theta + 0.3 * rng.standard_normal(theta.shape)).astype(dtype)
    return model, theta, rng.standard_normal((tasks, states, 2)).astype(dtype), rng


@given(seeds)
def test_log_prob_is_the_sum_over_an_actions_numbers(seed):
    """Rejects a mean over them, a variance for a deviation, a missing 2 pi."""
    model, theta, seen, rng = some(seed)
    actions = rng.standard_normal(seen.shape)
    mean, log_std = model.apply(theta, seen)
    told = policy.log_prob((mean, log_std), actions)
    std = np.exp(np.broadcast_to(log_std, mean.shape))
    density = np.exp(-(((actions - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(told, np.log(density.prod(axis=-1)), rtol=1e-9, atol=1e-9)


@given(seeds)
def test_kl_is_the_expected_log_ratio(seed):
    """Rejects old and new exchanged, a sum over states, a missing half."""
    model, theta, seen, _ = some(seed)
    old, new = model.apply(theta, seen), model.apply(theta[::-1], seen)
    # Gauss-Hermite nodes: exact for the quadratic log ratio.
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    grid = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 1, 1, 1, 2)
    weight = np.outer(weights, weights).ravel() / (2 * np.pi)
    actions = old[0] + np.exp(old[1]) * grid
    ratio = policy.log_prob(old, actions) - policy.log_prob(new, actions)
    expected = np.tensordot(weight, ratio[:, 0], axes=1)
    found = policy.kl(old, new)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(policy.kl(old, old), 0, atol=1e-14)
    assert (found >= 0).all()


@given(seeds)
def test_fisher_is_the_hessian_of_the_mean_kl(seed):
    """Rejects a log-std's block that is missing, halved, or counted once a state."""
    model, theta, seen, rng = some(seed)
    weights = rng.uniform(size=seen.shape[:2]) * rng.integers(0, 2, seen.shape[:2])
    weights[:, 0] += 0.1
    weights /= weights.sum(axis=1, keepdims=True)
    old = model.apply(theta, seen)

    def mean_kl(at):
        return anp.sum(weights * policy.kl(old, model.apply(at, seen)))

    v = rng.standard_normal(theta.shape)
    hvp, gradient = make_hvp(mean_kl)(theta)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)
    product = policy.fisher(lambda at: model.apply(at, seen), theta, old[1], weights)
    np.testing.assert_allclose(product(v), hvp(v), rtol=1e-8, atol=1e-10)


def test_it_begins_as_the_official_one():
    """Rejects another spread than 1, biases that are not 0, and small weights."""
    model = policy.gaussian_mlp((2, 100, 100, 2))
    theta = model.init(np.random.default_rng(0))
    p = params.unpack(theta, model.shapes)
    assert theta.size == 10_604
    assert not any(p[name].any() for name in ("b0", "b1", "b2", "log_std"))
    for name in ("w0", "w1", "w2"):
        bound = math.sqrt(6 / sum(p[name].shape))
        assert 0.95 * bound < np.abs(p[name]).max() <= bound
    _, log_std = model.apply(theta[None], np.zeros((1, 1, 2)))
    assert (np.exp(log_std) == 1).all()


def test_the_log_std_belongs_to_the_head():
    """Rejects a head without weights: ANIL would then adapt the spread alone."""
    model, theta, seen, _ = some(0)
    assert model.head == ("w2", "b2", "log_std")
    lower, upper = model.split("head")
    size = params.count(lower.shapes)
    halves = upper.apply(theta[:, size:], lower.apply(theta[:, :size], seen))
    assert all(map(np.array_equal, halves, model.apply(theta, seen)))


def test_the_spread_has_a_floor():
    """Rejects a deviation that goes to 0 and takes the likelihood with it."""
    model, theta, seen, _ = some(0)
    theta[:, -2:] = [-50, -1]
    _, log_std = model.apply(theta, seen)
    np.testing.assert_allclose(log_std[:, 0], [[math.log(1e-6), -1]] * 3)
    g = maml.grad(lambda at: anp.sum(model.apply(at, seen)[1]))(theta)
    np.testing.assert_allclose(g[:, -2:], [[0, 1]] * 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_is_kept(dtype):
    """Rejects a float64 that slips into densities, gradients or products."""
    model, theta, seen, rng = some(1, dtype)
    actions = rng.standard_normal(seen.shape).astype(dtype)
    old = model.apply(theta, seen)
    weights = np.full(seen.shape[:2], 1 / 6, dtype)

    def loss(at):
        return anp.sum(weights * policy.log_prob(model.apply(at, seen), actions))

    hvp, gradient = maml.hvp_and_gradient(loss, theta)
    product = policy.fisher(lambda at: model.apply(at, seen), theta, old[1], weights)
    arrays = [*old, gradient, hvp(theta), product(theta)]
    arrays += [policy.kl(old, old), policy.log_prob(old, actions)]
    assert {array.dtype.name for array in arrays} == {dtype}


def test_actions_are_those_of_the_policy():
    """Rejects one number for all of an action, and one state's mean for every state."""
    mean, log_std = np.zeros((2, 3, 2)), np.zeros((2, 1, 2))
    for shape in [(2, 3, 1), (2, 1, 2), (2, 3)]:
        with pytest.raises(ValueError, match=r"of a policy with means \(2, 3, 2\)"):
            policy.log_prob((mean, log_std), np.zeros(shape))
    with pytest.raises(ValueError, match="kl takes shapes"):
        policy.kl((mean, log_std), (mean[:, :1], log_std))


@pytest.mark.parametrize("shape", [(5, 1, 2), (1, 1, 1), (1, 1, 3)])
def test_deviations_are_those_of_the_means(shape):
    """Rejects the likelihoods of five tasks for one, and a deviation for all numbers."""
    mean, other = np.zeros((1, 3, 2)), (np.zeros((1, 3, 2)), np.zeros((1, 1, 2)))
    with pytest.raises(ValueError, match=r"deviations|broadcast"):
        policy.log_prob((mean, np.zeros(shape)), mean)
    for pair in ((other, (mean, np.zeros(shape))), ((mean, np.zeros(shape)), other)):
        with pytest.raises(ValueError, match=r"deviations|broadcast"):
            policy.kl(*pair)
