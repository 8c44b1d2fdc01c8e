"""Worlds so small that all trajectories can be listed and expectations are sums.

An MDP with S states, A actions and a short horizon H has M = (S A)^H trajectories. A
tabular softmax policy has one logit per state and action: theta (..., P = S A). The
Gaussian bandit has one action, drawn from N(theta, std^2), and is integrated exactly.

`listed` and `sampled` act with the theta they get, as the makers of a `maml.Task` do.
"""

from collections.abc import Callable
from typing import NamedTuple

import autograd.numpy as anp
import numpy as np
from numpy.random import Generator

from tinymaml import ops
from tinymaml.maml import Array
from tinymaml.rl.surrogates import Batch, PolicyLoss, Surrogate


class MDP(NamedTuple):
    """A finite Markov decision process: start (S,), moves (S, A, S), rewards (S, A)."""

    start: Array
    moves: Array
    rewards: Array
    horizon: int

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of states and of actions."""
        return self.rewards.shape


class Trajectories(NamedTuple):
    """States and actions (..., N, H): indices."""

    states: Array
    actions: Array


def draw(rng: Generator, states: int = 2, actions: int = 2, horizon: int = 2) -> MDP:
    """Return a random MDP: probabilities uniform on the simplex, normal rewards."""
    return MDP(
        start=rng.dirichlet(np.ones(states)),
        moves=rng.dirichlet(np.ones(states), (states, actions)),
        rewards=rng.standard_normal((states, actions)),
        horizon=horizon,
    )


# ----- The policy and its exact value -----


def policy(mdp: MDP, theta: Array) -> Array:
    """Return log pi(a|s) (..., S, A)."""
    return ops.log_softmax(anp.reshape(theta, (*theta.shape[:-1], *mdp.shape)))


def log_prob(mdp: MDP, theta: Array, trajectories: Trajectories) -> Array:
    """Return log pi(a_t|s_t) (..., N, H) of the steps of trajectories."""
    states, actions = mdp.shape
    picks = np.eye(states * actions)[trajectories.states * actions + trajectories.actions]
    table = anp.reshape(policy(mdp, theta), theta.shape)
    return anp.sum(picks * table[..., None, None, :], axis=-1)


def values(mdp: MDP, theta: Array) -> list[Array]:
    """Return V_t(s) (..., S) for t = 0 .. H - 1, the return expected from t on."""
    found = [0.0 * theta[..., : mdp.shape[0]]]
    for _ in range(mdp.horizon):
        ahead = anp.sum(mdp.moves * found[0][..., None, None, :], axis=-1)
        chances = anp.exp(policy(mdp, theta))
        found.insert(0, anp.sum(chances * (mdp.rewards + ahead), axis=-1))
    return found[:-1]


def expected_return(mdp: MDP, theta: Array) -> Array:
    """Return J(theta) (...) by dynamic programming, without trajectories."""
    return anp.sum(mdp.start * values(mdp, theta)[0], axis=-1)


# ----- Trajectories: all of them, or drawn -----


def every(mdp: MDP) -> tuple[Trajectories, Array]:
    """Return all M trajectories (M, H), and the probability of their states (M,).

    It is conditional on the actions: times the policy's probabilities of the actions it is
    the probability of the trajectory.
    """
    grid = np.indices(mdp.horizon * mdp.shape).reshape(mdp.horizon, 2, -1)
    states, actions = grid.transpose(1, 2, 0)
    moved = mdp.moves[states[:, :-1], actions[:, :-1], states[:, 1:]]
    return Trajectories(states, actions), mdp.start[states[:, 0]] * moved.prod(-1)


def sample(mdp: MDP, theta: Array, number: int, rng: Generator) -> Trajectories:
    """Draw trajectories (..., number, H) with each theta (..., P)."""
    chances = np.exp(policy(mdp, theta))[..., None, :, :]
    lead = (*theta.shape[:-1], number)
    states, actions = [_draw(np.broadcast_to(mdp.start, (*lead, mdp.shape[0])), rng)], []
    for _ in range(mdp.horizon):
        here = np.take_along_axis(chances, states[-1][..., None, None], -2)[..., 0, :]
        actions.append(_draw(here, rng))
        states.append(_draw(mdp.moves[states[-1], actions[-1]], rng))
    return Trajectories(np.stack(states[:-1], -1), np.stack(actions, -1))


def _draw(chances: Array, rng: Generator) -> Array:
    under = rng.random((*chances.shape[:-1], 1)) > np.cumsum(chances, -1)[..., :-1]
    return under.sum(-1)


def batch(
    mdp: MDP, theta: Array, trajectories: Trajectories, weights: Array, baseline: bool
) -> Batch:
    """Return the arrays that a surrogate needs; weights broadcast to (..., N, H).

    The advantage is the undiscounted return from t on; `baseline` subtracts V_t(s).
    """
    logp = log_prob(mdp, theta, trajectories)
    rewards = np.broadcast_to(mdp.rewards[trajectories], logp.shape)
    advantages = rewards[..., ::-1].cumsum(-1)[..., ::-1]
    if baseline:
        table = np.stack(values(mdp, theta), -2)[..., None, :, :]
        states = np.broadcast_to(trajectories.states, logp.shape)[..., None]
        advantages = advantages - np.take_along_axis(table, states, -1)[..., 0]
    return Batch(logp, advantages, np.broadcast_to(weights, logp.shape), rewards)


Maker = Callable[[Array], PolicyLoss]


def listed(mdp: MDP, surrogate: Surrogate, baseline: bool = False) -> Maker:
    """Return the maker of a loss that is an expectation over all trajectories."""
    trajectories, likely = every(mdp)

    def act(theta: Array) -> PolicyLoss:
        chances = likely * np.exp(log_prob(mdp, theta, trajectories).sum(-1))
        seen = batch(mdp, theta, trajectories, chances[..., None], baseline)
        return PolicyLoss(surrogate, lambda at: log_prob(mdp, at, trajectories), seen)

    return act


def sampled(mdp: MDP, surrogate: Surrogate, number: int, rng: Generator) -> Maker:
    """Return the maker of a loss over trajectories that each call draws."""

    def act(theta: Array) -> PolicyLoss:
        drawn = sample(mdp, theta, number, rng)
        seen = batch(mdp, theta, drawn, np.array(1 / number), baseline=False)
        return PolicyLoss(surrogate, lambda at: log_prob(mdp, at, drawn), seen)

    return act


# ----- The Gaussian bandit -----

# Gauss-Hermite quadrature is exact for polynomials of degree 2 NODES - 1; the reward
# times the second derivative of a likelihood ratio has degree 6.
NODES = 8


class Bandit(NamedTuple):
    """One action a ~ N(theta, std^2), theta (..., 1); reward offset - (a - goal)^2."""

    goal: float
    std: float
    offset: float = 0.0


def expected_reward(bandit: Bandit, theta: Array) -> Array:
    """Return J(theta) (...)."""
    return bandit.offset - bandit.std**2 - (theta[..., 0] - bandit.goal) ** 2


def integrated(bandit: Bandit, surrogate: Surrogate, baseline: bool = False) -> Maker:
    """Return the maker of a loss that is an expectation over actions, by quadrature.

    baseline: subtract the expected reward from the advantages
    """
    nodes, shares = np.polynomial.hermite_e.hermegauss(NODES)

    def act(theta: Array) -> PolicyLoss:
        actions = theta + bandit.std * nodes

        def logp(at: Array) -> Array:
            z = (actions - at) / bandit.std
            return (-0.5 * z**2 - np.log(bandit.std * np.sqrt(2 * np.pi)))[..., None]

        rewards = bandit.offset - (actions - bandit.goal) ** 2
        expected = expected_reward(bandit, theta)[..., None] if baseline else 0.0
        weights = np.broadcast_to(shares / shares.sum(), actions.shape)
        seen = (rewards - expected, weights, rewards)
        return PolicyLoss(
            surrogate, logp, Batch(logp(theta), *(x[..., None] for x in seen))
        )

    return act
