"""The outer update: clipping, Adam or gradient descent, its step size; inner RMS steps."""

import math
from typing import Any, NamedTuple

import autograd.numpy as anp
import numpy as np

from tinymaml.errors import WorldError
from tinymaml.maml import Array


BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Moments(NamedTuple):
    """Running means of the gradient and of its square, (P,) each."""

    m: Array
    v: Array


class State(NamedTuple):
    """The state of training: outer steps done, all that is meta-learned (M,), moments."""

    iteration: int
    theta: Array
    moments: Moments


def check_dtype(theta: Array, /, **vectors: Array) -> None:
    """Raise WorldError when a named vector has another dtype than theta."""
    for name, vector in vectors.items():
        if vector.dtype != theta.dtype:
            raise WorldError(
                f"the {name} became {vector.dtype} while theta is {theta.dtype}: use one"
                " dtype in the model, the loss and the algorithm, or set --dtype"
            )


def clip(gradient: Array, bound: float) -> Array:
    """Return the gradient (P,) with every entry in [-bound, bound]; unchanged for bound 0.

    A gradient that is not finite stays, so that divergence can be seen. Raises ValueError
    when the bound is negative.
    Source: maml.py:147-148, +-10 on mini-ImageNet, before Adam.
    """
    if not bound >= 0:
        raise ValueError(f"the bound must be 0 or more, not {bound}")
    if not bound or not np.isfinite(gradient).all():
        return gradient
    return np.clip(gradient, -bound, bound)


def adam(
    theta: Array, gradient: Array, moments: Moments, iteration: int, step_size: float
) -> tuple[Array, Moments]:
    """Return theta (P,) after Adam's update number `iteration` (1, 2, ...), and moments.

    It keeps theta's precision. Raises ValueError when the shapes differ or the iteration is
    not 1 or more. Source: Kingma & Ba 2015, algorithm 1.
    """
    if not iteration >= 1:
        raise ValueError(f"Adam counts its updates from 1, not {iteration}")
    _check_shapes(theta, gradient, *moments)
    m = BETA1 * moments.m + (1 - BETA1) * gradient
    v = BETA2 * moments.v + (1 - BETA2) * gradient**2
    unbiased_m = m / (1 - BETA1**iteration)
    unbiased_v = v / (1 - BETA2**iteration)
    step = step_size * unbiased_m / (np.sqrt(unbiased_v) + EPSILON)
    return theta - step, Moments(m, v)


def _check_shapes(theta: Array, *others: Array) -> None:
    if shapes := {x.shape for x in others} - {theta.shape}:
        raise ValueError(f"theta has shape {theta.shape}, gradient or moments {shapes}")


def rms(gradient: Array, v: Array, t: Array) -> tuple[Array, Array, Array]:
    """Return the direction (..., P) of a step of Adam with beta1 = 0, and the next v and t.

    v: running mean of the squared gradient (..., P); t: number of steps before (..., 1)
    It can be recorded. Source: Kingma & Ba 2015, section 2, last formula, as in TensorFlow:
    epsilon is added before the correction of v. Raises ValueError when shapes do not fit.
    """
    _check_shapes(gradient, v)
    v, t = BETA2 * v + (1 - BETA2) * gradient * gradient, t + 1
    return anp.sqrt(1 - BETA2**t) * gradient / (anp.sqrt(v) + EPSILON), v, t


def scheduled(options: Any, iteration: int) -> float:
    """Return the outer step size of an iteration (0, 1, ...), from beta to beta_end.

    options: beta, beta_end, schedule, epoch, iterations. "linear" falls in every iteration,
    "cosine" from epoch to epoch, as in few_shot_learning_system.py:346 of MAML++'s code.
    """
    left = 1.0  # the part of the way that lies ahead: both ends are exact
    if options.schedule == "linear":
        left = 1 - min(iteration / max(options.iterations, 1), 1)
    if options.schedule == "cosine":
        epochs = max(-(-options.iterations // options.epoch), 1)
        done = min(iteration // options.epoch / epochs, 1)
        left = (1 + math.cos(math.pi * done)) / 2
    return left * options.beta + (1 - left) * options.beta_end


def outer_step(
    theta: Array,
    gradient: Array,
    moments: Moments,
    number: int,
    options: Any,
    iteration: int,
) -> tuple[Array, Moments]:
    """Return theta (P,) and moments after update `number` (1, 2, ...), by options.outer.

    iteration: of the run (0, 1, ...), for the schedule
    Raises ValueError when the shapes differ.
    """
    _check_shapes(theta, gradient)
    beta = scheduled(options, iteration)
    if options.outer == "sgd":
        return theta - beta * gradient, moments
    return adam(theta, gradient, moments, number, beta)
