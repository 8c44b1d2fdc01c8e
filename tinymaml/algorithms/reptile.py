"""Reptile: move theta towards phi, where a few steps on each task end.

    theta_{k+1} = theta_k - alpha_k grad S_k(theta_k),   phi = theta_K
    theta := theta + beta (mean of phi over the tasks - theta)

S_k is the mean loss of minibatch k of a task's support set; query examples are not used in
training. The outer step is gradient descent on theta - phi, which is the gradient of no
function. One task in a meta-batch is the serial version, more are the batched one. Only
what inner steps change is learned, so they change batch norm's arrays too.

With --inner rms, w = [theta | v | t] (see `minibatch`). Every task of an iteration begins
with the iteration's v and t, and the mean of their ends is kept, so the number of workers
has no effect. The official code hands them from each task of a meta-batch to the next; with
one task the two agree. As there, held-out tasks begin with the v and t of training
(reptile.py:25, :108, :122). Tasks of an iteration take their examples in the same order.

Source: Nichol, Achiam, Schulman, "On First-Order Meta-Learning Algorithms", 2018.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import autograd.numpy as anp
import numpy as np

from tinymaml import optim
from tinymaml.algorithms import minibatch
from tinymaml.algorithms.algorithm import Algorithm
from tinymaml.algorithms.minibatch import RMS, SGD
from tinymaml.fewshot import EpisodeTask, Problem, stream
from tinymaml.maml import Array
from tinymaml.options import MOST, option


ORDER = MOST  # number of the stream of the minibatches; a task's is below it


@dataclass(frozen=True)
class Options(minibatch.Options):
    """The options of Reptile."""

    train_shots: int = option(
        0,
        "support examples of a training task, as --shots counts them; 0: as --shots",
        "the README of the official code: 10 on Omniglot, 15 on mini-ImageNet",
        **minibatch.SIZE,
    )


def phase(options: Any, iteration: int) -> tuple[None, tuple[Array, Array]]:
    """Return no key, and two inputs: minibatches (K, size) and the outer step size."""
    examples = (options.train_shots or options.shots) * getattr(options, "ways", 1)
    rng = stream(options.seed, "train", iteration, ORDER)
    sizes = examples, options.inner_batch, options.inner_steps
    beta = np.array(optim.scheduled(options, iteration), options.dtype)
    return None, (minibatch.shuffled(rng, *sizes), beta)


def gradient(w: Array, task: EpisodeTask, problem: Problem) -> tuple[Array, Array]:
    """Return the mean loss of the minibatches, and theta - phi (T, P).

    For rms also (v - its end) / beta, and the same of t: gradient descent with step size
    beta then puts the ends in their place.
    """
    order, beta = problem.arrays
    losses, thetas, moves, rest = minibatch.walk(w, task, problem, order)
    ends = (w[..., thetas[0].shape[-1] :] - rest) / beta
    away = anp.concatenate([sum(moves[1:], moves[0]), ends], axis=-1)
    return sum(losses[1:], losses[0]) / len(losses), away


def task_options(options: Any) -> dict[str, Any]:
    """Return the shots of training tasks, with one query where drawings are limited."""
    if not options.train_shots:
        return {}
    few = {"queries": 1, "test_queries": 0} if hasattr(options, "ways") else {}
    return {"shots": options.train_shots, **few}


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the official code's five inner steps, outer step sizes and rms step size."""
    outer = {"outer": SGD, "beta": 1.0, "schedule": "linear"}
    found = {"inner_steps": 5} | (outer if given.get("outer", SGD) == SGD else {})
    return found | ({"alpha": 1e-3} if given.get("inner") == RMS else {})


def refuses(options: Any) -> str:
    """Return why the options do not fit, "" when they fit."""
    if not hasattr(options, "shots"):
        lack = f"{options.name} has no option `shots`"
        return f"Reptile needs the number of support examples of a task, and {lack}"
    if not options.inner_steps:
        return "Reptile learns from inner steps: --inner-steps of 1 or more"
    if options.inner == RMS and options.outer != SGD:
        return "--inner rms averages second moments by gradient descent: --outer sgd"
    return ""


REPTILE = Algorithm(
    name="reptile",
    label="Reptile",
    gradient=gradient,
    cost="1.7 with five steps",
    source="Nichol et al. 2018",
    adapt=minibatch.adapt,
    options=Options,
    defaults=defaults,
    ignores=("adapt_norm", "outer_loss"),
    second_order=False,
    refuses=refuses,
    not_in_rl="its inner steps draw minibatches of examples",
    shapes=minibatch.shapes,
    init=minibatch.init,
    phase=phase,
    task_options=task_options,
)
