"""Inner steps on minibatches of the support set, by gradient descent or by `optim.rms`.

    theta_{k+1} = theta_k - alpha_k d_k,   d_k = grad S_k(theta_k), or scaled by rms

S_k is the mean loss of minibatch k, whose examples are at the same places in every task.
With --inner rms the vector is w = [theta | v | t]: what `optim.rms` keeps is in it.

Source: reptile.py:236-248 and models.py:10 (Adam with beta1 = 0) of the official code of
Reptile (Nichol, Achiam, Schulman 2018).
"""

from dataclasses import dataclass
from typing import NamedTuple

import autograd.numpy as anp
import numpy as np
from numpy.random import Generator

from tinymaml import maml, optim, params
from tinymaml.fewshot import EpisodeTask, Problem
from tinymaml.maml import Array
from tinymaml.options import MOST, Limits, option
from tinymaml.params import Shapes


SGD, RMS = "sgd", "rms"
TEST_SEED = 0  # of the order of minibatches on held-out tasks
SIZE: Limits = {"least": 0, "most": MOST}


@dataclass(frozen=True)
class Options:
    """The inner optimiser and its minibatches."""

    inner: str = option(
        SGD,
        "inner optimiser: sgd, or rms, Adam with beta1 = 0",
        "models.py:10 of the code of Reptile: rms",
        choices=(SGD, RMS),
    )
    inner_batch: int = option(
        0,
        "support examples in an inner minibatch; 0: all",
        "the README of the code of Reptile: 10, or 20 with 20 ways",
        **SIZE,
    )
    test_batch: int = option(
        0,
        "support examples in a minibatch on held-out tasks; 0: as --inner-batch",
        "the README of the code of Reptile: 5, 10 or 15",
        **SIZE,
    )


def shuffled(rng: Generator, examples: int, batch: int, steps: int) -> Array:
    """Return the places of the examples in each minibatch, (steps, size) integers.

    They are cycles of shuffles end to end, so a minibatch may reach into the next cycle.
    More steps have the same first minibatches.
    batch: the size; 0, or not below `examples`: all examples in every step, in their order
    """
    if not 0 < batch < examples:
        return np.tile(np.arange(examples), (steps, 1))
    cycles = -(-steps * batch // examples)
    order = [np.arange(0), *(rng.permutation(examples) for _ in range(cycles))]
    return np.concatenate(order)[: steps * batch].reshape(steps, batch)


class Walk(NamedTuple):
    """K inner steps of T tasks side by side.

    losses: S_k(theta_k), summed over the tasks, for k < K; thetas: theta_0, ..., theta_K,
    (T, P) each; moves: the K differences theta_k - theta_{k+1}; rest: the last [v | t], or
    (T, 0)
    """

    losses: list[Array]
    thetas: list[Array]
    moves: list[Array]
    rest: Array


def walk(w: Array, task: EpisodeTask, problem: Problem, order: Array) -> Walk:
    """Take a step from w (T, M) on each minibatch of `order` (K, size) from `shuffled`."""
    size = params.count(problem.model.shapes)
    thetas, rest, losses, moves = [w[..., :size]], w[..., size:], [], []
    for rows in order:
        x, y = (anp.take(of, rows, axis=1) for of in task.episode[:2])
        loss = lambda theta, x=x, y=y: task.support_loss(task.apply(theta, x), y)  # noqa: E731
        value, d = maml.value_and_gradient(loss, thetas[-1])
        if problem.options.inner == RMS:
            d, v, t = optim.rms(d, rest[..., :-1], rest[..., -1:])
            rest = anp.concatenate([v, t], axis=-1)
        losses.append(value)
        moves.append(problem.alpha * d)
        thetas.append(thetas[-1] - moves[-1])
    return Walk(losses, thetas, moves, rest)


def adapt(w: Array, task: EpisodeTask, problem: Problem, steps: int) -> list[Array]:
    """Return [theta_0, ..., theta_steps], always with the same order of minibatches."""
    examples, options = task.episode.x_support.shape[1], problem.options
    batch, rng = options.test_batch or options.inner_batch, np.random.default_rng(TEST_SEED)
    return walk(w, task, problem, shuffled(rng, examples, batch, steps)).thetas


def shapes(problem: Problem) -> Shapes:
    """Return the arrays of the model; for rms also v and t."""
    model = problem.model.shapes
    own = {"second_moment": (params.count(model),), "inner_steps_taken": (1,)}
    return {**model, **own} if problem.options.inner == RMS else model


def init(rng: Generator, problem: Problem) -> Array:
    """Return the first theta; for rms also zeros for v and t."""
    theta = problem.model.init(rng)
    return np.concatenate([theta, np.zeros(params.count(shapes(problem)) - theta.size)])
