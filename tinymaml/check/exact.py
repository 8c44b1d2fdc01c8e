"""Correct meta-policy-gradients, computed without any surrogate or chain.

Returns come from dynamic programming, derivatives of meta-objectives from their values, a
Hessian from its formula. `policy_gradients` compares the library's answers with these.
"""

from typing import NamedTuple

import autograd.numpy as anp
import numpy as np
from autograd import grad

from tinymaml import maml
from tinymaml.check import differences, mdp
from tinymaml.check.mdp import MDP, Bandit, Trajectories
from tinymaml.maml import Array, Task
from tinymaml.rl.surrogates import PolicyLoss, naive


class World(NamedTuple):
    """An MDP, the theta (P,) of a softmax policy on it, and a step size."""

    mdp: MDP
    theta: Array
    alpha: float


def world(
    seed: int, horizon: int, states: int = 2, actions: int = 2, alpha: float = 0.7
) -> World:
    """Return a random world of a seed."""
    rng = np.random.default_rng(seed)
    drawn = mdp.draw(rng, states, actions, horizon)
    return World(drawn, rng.standard_normal(states * actions), alpha)


# ----- Formulation I: J(U(theta)), with expected inner gradients -----


def adapted(world: World, theta: Array, steps: int) -> Array:
    """Return U(theta) (..., P): `steps` times theta + alpha grad J(theta)."""
    ascent = grad(lambda at: anp.sum(mdp.expected_return(world.mdp, at)))
    for _ in range(steps):
        theta = theta + world.alpha * ascent(theta)
    return theta


def gradient(world: World, steps: int) -> Array:
    """Return d J(U(theta)) / d theta (P,), from values."""

    def value(theta: Array) -> Array:
        return mdp.expected_return(world.mdp, adapted(world, theta, steps))

    return differences.gradient(value, world.theta)


def hessian(world: World, name: str) -> Array:
    """Return the stated Hessian (P, P) of a surrogate, term by term.

        -E[sum_t A_t (h_t + lvc: g_t g_t'; loaded_dice: g_t G_t' + G_{t-1} g_t')]

    A softmax has g = 1_{s,a} - pi(.|s) and h = pi pi' - diag pi, in the block of s. For
    lvc it is H1 + H2 of Furmston, Lever and Barber, JMLR 2016; loaded_dice has all.
    """
    trajectories, likely = mdp.every(world.mdp)
    visited, taken = (
        _one_hot(x, n) for x, n in zip(trajectories, world.mdp.shape, strict=True)
    )
    table = np.exp(mdp.policy(world.mdp, world.theta))
    pi = _by_parameter(visited, visited @ table)
    g = _by_parameter(visited, taken) - pi
    terms = _outer(pi, pi) - pi[..., None] * np.eye(world.theta.size)
    if name == "lvc":
        terms += _outer(g, g)
    if name == "loaded_dice":
        so_far = g.cumsum(-2)
        terms += _outer(g, so_far) + _outer(so_far - g, g)
    chances = likely * (visited @ table * taken).sum(-1).prod(-1)
    to_go = world.mdp.rewards[trajectories][:, ::-1].cumsum(-1)[:, ::-1]
    return -np.einsum("n,nt,ntij->ij", chances, to_go, terms)


def _one_hot(indices: Array, size: int) -> Array:
    return np.eye(size)[indices]


def _by_parameter(visited: Array, actions: Array) -> Array:
    return _outer(visited, actions).reshape(*visited.shape[:2], -1)


def _outer(a: Array, b: Array) -> Array:
    return a[..., :, None] * b[..., None, :]


# ----- Formulation II: the mean of J over the trajectories that were adapted on -----


def every_draw(world: World, number: int, steps: int) -> tuple[mdp.Maker, list[Array]]:
    """Return a maker over every outcome of `steps` draws of `number` trajectories each.

    Its thetas (..., O, P) have an axis for the O = (M^number)^steps outcomes. Each of its
    `steps` calls takes the next draw and appends that draw's probability (..., O) to the
    list that is returned with it.
    """
    trajectories, likely = mdp.every(world.mdp)
    draws = np.indices((likely.size,) * number).reshape(number, -1).T
    ahead = iter(draws[np.indices((len(draws),) * steps).reshape(steps, -1)])
    chances: list[Array] = []

    def act(theta: Array) -> PolicyLoss:
        chosen = next(ahead)
        these = Trajectories(*(indices[chosen] for indices in trajectories))
        seen = mdp.batch(world.mdp, theta, these, np.array(1 / number), baseline=False)
        chances.append((likely[chosen] * np.exp(seen.logp_old.sum(-1))).prod(-1))
        return PolicyLoss(naive, lambda at: mdp.log_prob(world.mdp, at, these), seen)

    return act, chances


def for_every_draw(world: World, theta: Array, number: int, steps: int) -> Array:
    """Return theta (..., P) as (..., O, P): a copy for each outcome of `every_draw`."""
    outcomes = mdp.every(world.mdp)[1].size ** (number * steps)
    return theta[..., None, :].repeat(outcomes, -2)


def gradient_of_samples(world: World, number: int, steps: int) -> Array:
    """Return d E[J(theta_K)] / d theta (P,) over the drawn trajectories, from values."""

    def value(theta: Array) -> Array:
        act, chances = every_draw(world, number, steps)
        theta = for_every_draw(world, theta, number, steps)
        theta = maml.adapt(theta, Task(act, act), world.alpha, steps)
        return np.sum(np.prod(chances, 0) * mdp.expected_return(world.mdp, theta), -1)

    return differences.gradient(value, world.theta)


def bandit_gradient(bandit: Bandit, theta: float, alpha: float, steps: int) -> float:
    """Return d J(U(theta)) / d theta, where J is a constant minus (theta - goal)^2."""
    return -2 * (theta - bandit.goal) * (1 - 2 * alpha) ** (2 * steps)
