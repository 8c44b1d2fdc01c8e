"""Meta-SGD: MAML with one step size per parameter, learned together with theta.

    w = [theta | alpha],   theta_{k+1} = theta_k - alpha g_k

alpha (P,) is the same in every inner step. Its gradient is the sum of the slopes
s_k = -g_k v_{k+1} of `chain`. Nothing keeps step sizes from becoming negative. They do not
carry over to more steps than they were trained with.

Source: Li, Zhou, Chen, Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning",
2017, algorithm 1. There alpha starts at random in [0.005, 0.1]; here it starts at --alpha.
"""

import autograd.numpy as anp
import numpy as np
from numpy.random import Generator

from tinymaml import chain, params
from tinymaml.algorithms.algorithm import Algorithm, loss_after
from tinymaml.fewshot import Problem
from tinymaml.maml import Array, Task
from tinymaml.params import Shapes


def split(w: Array, problem: Problem) -> tuple[Array, Array, Array]:
    """Return theta (T, P), alpha (T, P), and a mask (P,) of what inner steps change.

    alpha is 0 outside the mask.
    """
    size = w.shape[-1] // 2
    moved = np.asarray(np.broadcast_to(problem.alpha, size) != 0, w.dtype)
    return w[..., :size], moved * w[..., size:], moved


def gradient(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return the query loss after adaptation, and its gradient by theta and alpha."""
    theta, alpha, moved = split(w, problem)
    steps = problem.options.inner_steps
    loss, v, slopes = chain.gradient(theta, task, [alpha] * steps)
    return loss, anp.concatenate([v, moved * sum(slopes, 0.0 * v)], axis=-1)


def adapt(w: Array, task: Task, problem: Problem, steps: int) -> list[Array]:
    """Return [theta_0, ..., theta_steps]."""
    theta, alpha, _ = split(w, problem)
    return chain.path(theta, task, [alpha] * steps)


def shapes(problem: Problem) -> Shapes:
    """Return the arrays of the model, then alpha."""
    model = problem.model.shapes
    return {**model, "alpha": (params.count(model),)}


def init(rng: Generator, problem: Problem) -> Array:
    """Return the first theta, then the first alpha."""
    theta = problem.model.init(rng)
    return np.concatenate([theta, np.broadcast_to(problem.alpha, theta.shape)])


META_SGD = Algorithm(
    name="meta-sgd",
    label="Meta-SGD",
    gradient=gradient,
    learns="theta and a step size per parameter",
    cost="1.02",
    source="Li et al. 2017",
    adapt=adapt,
    objective=loss_after(adapt),
    defaults=lambda given: {"inner_steps": 1, "test_steps": given.get("inner_steps", 1)},
    refuses=lambda options: "" if options.alpha else "Meta-SGD starts at --alpha: above 0",
    shapes=shapes,
    init=init,
)
