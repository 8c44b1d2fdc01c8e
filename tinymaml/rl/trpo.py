"""The mathematics of the outer step of meta reinforcement learning: a trust region.

One iteration rolls out, adapts, rolls out again, and then

    g   is the meta-gradient, through the one chain of `maml`
    A   is J'FJ, the Hessian of the mean KL(pi at U(theta) || pi at U(theta')) at theta
    x   is A^-1 g by conjugate gradients; theta' = theta - c x, c as large as the KL allows

U is the inner loop, J = (I - alpha H_{K-1}) ... (I - alpha H_0) its Jacobian, F the Fisher
matrix of the adapted policy. The gradient of the KL is 0 at theta, so U's second derivative
drops out: a product with A is one with each H_k on either side of one with F, and needs no
third derivative.

Shapes: theta and v (T, P), tasks side by side; sums are over the tasks.

Source: Schulman et al., "Trust region policy optimization", ICML 2015, as the official code
has it: conjugate_gradient_optimizer.py:127-131, 270-302.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinymaml import chain, maml
from tinymaml.maml import Loss, Task
from tinymaml.models import Model
from tinymaml.rl import policy
from tinymaml.rl.rollout import Experience, flat, gaussian
from tinymaml.rl.surrogates import PolicyLoss, lvc


Array = np.ndarray
Path = list[Experience]  # what theta_0, ..., theta_K met, on one chunk of tasks

CG_STEPS, CG_TOLERANCE = 10, 1e-10  # conjugate_gradient_optimizer.py:127, krylov.py:7
DAMPING = 1e-5  # :128
BACKTRACK, TRIES = 0.8, 15  # :130-131


class Collected(NamedTuple):
    """The result of one chunk of tasks, summed over its tasks, and what was met."""

    loss: float
    gradient: Array  # (P,)
    squares: Array  # (2,): of the gradient at theta_K, and of what the chain adds to it
    path: Path


def collect(meta_gradient: Callable[[Any], tuple[float, Array]], task: Any) -> Collected:
    """Roll out, adapt, roll out again: the meta-gradient, and what was met.

    meta_gradient: task -> loss, gradient (T, P); it calls the makers of its task
    task: a task with `support`, `query` and the list `path` that its makers add to
    """
    slopes: list[Array] = []

    def linearised(maker: Callable[[Array], PolicyLoss]) -> Callable[[Array], PolicyLoss]:
        # The chain asks a query loss for its value and slope at theta_K only. The slope is
        # kept.
        def query(at: Array) -> PolicyLoss:
            judged = maker(at)
            loss, slope = maml.value_and_gradient(judged, at)
            slopes.append(slope)
            tangent = lambda theta, _: loss + (slope * (theta - at)).sum()  # noqa: E731
            return judged._replace(surrogate=tangent, log_prob=lambda theta: theta)

        return query

    query = linearised(task.query)
    support = query if task.support is task.query else task.support
    loss, v = meta_gradient(task._replace(support=support, query=query))
    squares = [(x**2).sum() for x in (slopes[0], v - slopes[0])]
    path = task.path
    # Once for all tasks, since that is how it travels between workers.
    path[0] = path[0]._replace(theta=path[0].theta[:1])
    return Collected(loss, v.sum(axis=0), np.array(squares), path)


def side_by_side(path: Path) -> Path:
    """Return the path with every theta (T, P), by views."""
    tasks = len(path[0].weights)
    return [
        met._replace(theta=np.broadcast_to(met.theta, (tasks, met.theta.shape[-1])))
        for met in path
    ]


# ----- Along A^-1 g -----


def natural_step(
    product: Callable[[Array], Array], gradient: Array, max_kl: float
) -> Array:
    """Return c x (P,) float64: the step whose KL is the limit, to second order.

    product: v (P,) -> A v (P,), without damping
    """

    def damped(v: Array) -> Array:
        return product(v) + DAMPING * v

    g = gradient.astype(float)
    x, rest = conjugate_gradients(damped, g)
    return np.sqrt(2 * max_kl / (x @ (g - rest) + 1e-8)) * x  # A x = g - rest


def conjugate_gradients(product: Callable[[Array], Array], b: Array) -> tuple[Array, Array]:
    """Return x with A x = b nearly, and the rest b - A x; product(v) = A v, A > 0."""
    x, rest, p = np.zeros_like(b), b, b
    size = rest @ rest
    for _ in range(CG_STEPS):
        if size < CG_TOLERANCE:
            break
        image = product(p)
        along = size / (p @ image)
        x, rest = x + along * p, rest - along * image
        before, size = size, rest @ rest
        p = rest + size / before * p
    return x, rest


def curvature(
    v: Array,
    thetas: list[Array],
    losses: list[Loss],
    alpha: float | Array,
    model: Model,
    last: Experience,
) -> Array:
    """Return J'FJ v (T, P).

    thetas, losses: theta_k and the support loss of each inner step
    last: what the adapted policy met
    """
    alpha = np.asarray(alpha, v.dtype)
    steps = [
        chain.Step(alpha, *reversed(maml.hvp_and_gradient(loss, theta)))
        for loss, theta in zip(losses, thetas, strict=True)
    ]
    for step in steps:
        v = v - alpha * step.hvp(v)
    there = partial(gaussian, model, last)
    v = policy.fisher(there, last.theta, last.log_std, flat(last.weights))(v)
    return chain.back(steps, v)[0]


# ----- The line search -----


def search(
    judge: Callable[[Array], tuple[float, float]],
    theta: Array,
    step: Array,
    loss: float,
    max_kl: float,
) -> tuple[Array, int | None, float, float]:
    """Return theta after the largest good step, which try that was, its loss and its KL.

    judge: theta (P,) -> loss after adapting from it, and the KL of the adapted policies
    A step is good when the loss falls and the KL is within the limit. When no try is good,
    theta stays as it is and the number is None: the step is refused.
    """
    for tries in range(TRIES):
        there = (theta - BACKTRACK**tries * step).astype(theta.dtype)
        after, kl = judge(there)
        # A likelihood ratio that overflows need not be clipped: it is not good.
        if np.isfinite(after) and after < loss and kl <= max_kl:
            return there, tries, after, kl
    return theta, None, loss, 0.0


def trial(
    theta: Array, losses: list[Loss], alpha: float | Array, model: Model, last: Experience
) -> tuple[Array, Array]:
    """Return loss and KL after adapting from theta (T, P), on the trajectories there are.

    losses: the support loss of each inner step; last: what the adapted policy met
    """
    makers = iter(losses)
    task = Task(lambda _: next(makers), None)
    theta = maml.adapt(theta, task, alpha, len(losses))
    new = gaussian(model, last, theta)
    logp = policy.log_prob(new, flat(last.actions)).reshape(last.weights.shape)
    kl = policy.kl((flat(last.mean), last.log_std), new)
    return lvc(logp, last.batch), (flat(last.weights) * kl).sum()
