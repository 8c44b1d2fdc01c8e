"""The surrogates as functions of arrays: gradients, masks, precision, E-MAML's chain."""

from dataclasses import replace

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st

from tinymaml import maml
from tinymaml.check import mdp
from tinymaml.check.exact import world
from tinymaml.maml import Task
from tinymaml.rl.surrogates import (
    SURROGATES,
    Batch,
    PolicyLoss,
    e_maml,
    naive,
    outcome,
    score_term,
)


SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5))
GARBAGE = st.sampled_from([0.0, 1.0, -1e3, 1e6, 1e12])
NAMES = st.sampled_from(sorted(SURROGATES))


def loss_of(name, seed, sizes, dtype="float64", over=None, garbage=0.0):
    """Return a PolicyLoss on random trajectories and the theta (T, 3) that drew them.

    over: (T, N, H) bool, where trajectories are over: weight 0, garbage everywhere
    """
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((*sizes, 3)).astype(dtype)
    theta = rng.standard_normal((sizes[0], 3)).astype(dtype)
    advantages, rewards = rng.standard_normal((2, *sizes)).astype(dtype)
    weights = rng.uniform(0.1, 1, sizes).astype(dtype)
    over = np.zeros(sizes, bool) if over is None else over
    features[over] = garbage * 1e-3
    advantages[over] = rewards[over] = garbage
    weights[over] = 0

    def log_prob(at):
        return anp.sum(features * anp.sin(at)[:, None, None, :], axis=-1)

    logp_old = log_prob(theta)
    logp_old[over] = -garbage
    batch = Batch(logp_old, advantages, weights, rewards)
    return PolicyLoss(SURROGATES[name], log_prob, batch), theta


def derivatives(loss, theta):
    """Return the value, the gradient, a Hessian product, and the score term's gradient."""
    hvp, g = maml.hvp_and_gradient(loss, theta)
    score = grad(loss.score)(theta, outcome(loss.batch))
    return [loss(theta), g, hvp(theta[:, ::-1]), score]


@given(NAMES, SEEDS, SIZES)
def test_all_have_the_policy_gradient_where_the_data_were_drawn(name, seed, sizes):
    """Rejects a ratio, a box or a sum over time that does not differentiate to A_t g_t."""
    loss, theta = loss_of(name, seed, sizes)
    _, advantages, weights, _ = loss.batch
    want = -grad(lambda at: anp.sum(weights * advantages * loss.log_prob(at)))(theta)
    np.testing.assert_allclose(grad(loss)(theta), want, rtol=1e-10, atol=1e-12)


def test_values_are_what_their_docstrings_say():
    """Rejects a value of lvc that a line search could not use, a mean for the sum."""
    for name, of in (
        ("lvc", lambda b: -np.sum(b.weights * b.advantages)),
        ("loaded_dice", lambda _: 0),
    ):
        loss, theta = loss_of(name, 0, (2, 3, 4))
        assert loss(theta) == pytest.approx(of(loss.batch), abs=1e-14)
    loss, theta = loss_of("naive", 0, (2, 3, 4))
    b = loss.batch
    assert loss(theta) == pytest.approx(-np.sum(b.weights * b.advantages * b.logp_old))


@given(NAMES, SEEDS, SIZES, GARBAGE, st.integers(0, 2**16))
def test_garbage_where_a_trajectory_is_over_changes_nothing(
    name, seed, sizes, garbage, bits
):
    """Rejects a cumsum, an exp or a score that garbage enters, at the end or between."""
    over = np.random.default_rng(bits).random(sizes) < 0.4
    clean = derivatives(*loss_of(name, seed, sizes, over=over))
    dirty = derivatives(*loss_of(name, seed, sizes, over=over, garbage=garbage))
    for one, two in zip(clean, dirty, strict=True):
        np.testing.assert_array_equal(two, one)


@pytest.mark.parametrize("over_after", [1, 2])
def test_a_finished_trajectory_is_its_live_steps(over_after):
    """Rejects a mask that only hides garbage but counts the steps."""
    for name in SURROGATES:
        over = np.zeros((2, 3, 4), bool)
        over[..., over_after:] = True
        long, theta = loss_of(name, 3, (2, 3, 4), over=over, garbage=1e3)
        short = PolicyLoss(
            long.surrogate,
            lambda at, long=long: long.log_prob(at)[..., :over_after],
            Batch(*(x[..., :over_after] for x in long.batch)),
        )
        for one, two in zip(
            derivatives(long, theta), derivatives(short, theta), strict=True
        ):
            np.testing.assert_allclose(one, two, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", SURROGATES)
def test_float32_is_kept(name):
    """Rejects a float64 constant in a surrogate, which would double every later pass."""
    loss, theta = loss_of(name, 0, (2, 3, 4), "float32")
    assert [x.dtype for x in derivatives(loss, theta)] == ["float32"] * 4
    value, v = e_maml(theta, Task(lambda _: loss, lambda _: loss), 0.1, 2, baseline=0.3)
    assert (value.dtype, v.dtype) == ("float32", "float32")


@given(SEEDS)
def test_tasks_side_by_side_are_the_tasks_alone(seed):
    """Rejects a sum, a mask or an outcome that mixes tasks."""
    both, theta = loss_of("loaded_dice", seed, (2, 3, 4))
    task = Task(lambda _: replace(both, surrogate=naive), lambda _: both)
    _, v = e_maml(theta, task, 0.1, 2, baseline=np.array([0.3, 0.7]))
    for at in (0, 1):
        alone = PolicyLoss(
            both.surrogate,
            lambda t, at=at: both.log_prob(anp.concatenate([t, t]))[at : at + 1],
            Batch(*(x[at : at + 1] for x in both.batch)),
        )
        task = Task(lambda _, a=alone: replace(a, surrogate=naive), lambda _, a=alone: a)
        _, one = e_maml(theta[at : at + 1], task, 0.1, 2, baseline=(0.3, 0.7)[at])
        np.testing.assert_allclose(v[at : at + 1], one, rtol=1e-10, atol=1e-12)


@given(SEEDS, st.integers(0, 3))
def test_e_maml_without_a_loss_to_score_is_the_chain(seed, steps):
    """Rejects a chain of its own that is not that of `maml.meta_gradient`."""
    loss, theta = loss_of("naive", seed, (2, 3, 4))
    task = Task(lambda _: loss, lambda _: loss)
    got = e_maml(theta, task, 0.1, steps, baseline=outcome(loss.batch))
    for one, two in zip(got, maml.meta_gradient(theta, task, 0.1, steps), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("surrogate", SURROGATES.values())
def test_the_low_memory_chain_uses_the_trajectories_it_drew(surrogate):
    """Rejects trajectories drawn again on the way back."""
    at = world(0, 2)
    theta = at.theta[None].repeat(3, 0)

    def found(algorithm):
        maker = mdp.sampled(at.mdp, surrogate, 4, np.random.default_rng(1))
        return algorithm(theta, Task(maker, maker), at.alpha, 2)[1]

    np.testing.assert_allclose(
        found(maml.meta_gradient), found(maml.meta_gradient_low_memory), rtol=1e-12
    )


def test_e_maml_refuses_what_the_inner_loop_refuses():
    """Rejects a wrong alpha or number of steps broadcast in silence."""
    loss, theta = loss_of("naive", 0, (2, 3, 4))
    task = Task(lambda _: loss, lambda _: loss)
    with pytest.raises(ValueError, match="steps"):
        e_maml(theta, task, 0.1, -1)
    with pytest.raises(ValueError, match="broadcast"):
        e_maml(theta, task, np.ones(7), 1)


@pytest.mark.parametrize("name", SURROGATES)
def test_likelihoods_are_those_of_the_batch(name):
    """Rejects one trajectory's likelihoods for all, which broadcast to a plausible loss."""
    loss, theta = loss_of(name, 0, (2, 3, 4))
    logp = loss.log_prob(theta)
    with pytest.raises(ValueError, match="arrays of one shape"):
        loss.surrogate(logp[:, :1], loss.batch)
    with pytest.raises(ValueError, match="arrays of one shape"):
        score_term(logp[:, :1], loss.batch, np.zeros(2))
    with pytest.raises(ValueError, match=r"losses \(3,\) of trajectories"):
        score_term(logp, loss.batch, np.zeros(3))
