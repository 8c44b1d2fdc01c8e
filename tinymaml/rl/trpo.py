"""The mathematics of the outer step of meta reinforcement learning: a trust region.

One iteration rolls out, adapts and rolls out again. Then

    g   is the meta-gradient, through the one chain of `maml`
    A   is J'FJ, the Hessian of the mean KL(pi at U(theta) || pi at U(theta')) at theta
    x   is A^-1 g by conjugate gradients; theta' = theta - c x, c as large as the KL allows

U is the inner loop, J = (I - alpha H_{K-1}) ... (I - alpha H_0) its Jacobian, F the Fisher
matrix of the adapted policy. The gradient of the KL is 0 at theta, so U's second derivative
drops out and no third derivative is needed: A v = J' (F (J v)).

Shapes: theta and v (T, P), tasks side by side; sums are over the tasks.

Source: Schulman et al., "Trust region policy optimization", ICML 2015, as the official code
has it: conjugate_gradient_optimizer.py:127-131, 270-302.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinymaml import chain, maml
from tinymaml.maml import Array, Loss, Task
from tinymaml.models import Model
from tinymaml.rl import policy
from tinymaml.rl.rollout import Experience, flat, gaussian
from tinymaml.rl.surrogates import PolicyLoss, lvc


Path = list[Experience]  # of theta_0, ..., theta_K on one chunk of tasks

# conjugate_gradient_optimizer.py:127, krylov.py:7: squared norm of the rest at the end
CG_STEPS, CG_TOLERANCE = 10, 1e-10
DAMPING = 1e-5  # :128
BACKTRACK, TRIES = 0.8, 15  # :130-131


class Collected(NamedTuple):
    """The result of one chunk of tasks, summed over them, and their trajectories."""

    loss: Array
    gradient: Array  # (P,)
    squares: Array  # (2,): of the gradient at theta_K, and of the rest of the chain
    path: Path


def collect(meta_gradient: Callable[[Any], tuple[Array, ...]], task: Any) -> Collected:
    """Roll out, adapt, roll out again: return the meta-gradient and the trajectories.

    meta_gradient: task -> loss, gradient (T, P); it calls the makers of its task
    task: a task with `support`, `query` and the list `path` to which its makers append
    """
    slopes: list[Array] = []

    def query(at: Array) -> PolicyLoss:
        # The chain needs the value and the slope at theta_K only. Keep the slope.
        exact = task.query(at)
        loss, slope = maml.value_and_gradient(exact, at)
        slopes.append(slope)
        tangent = lambda theta, _: loss + (slope * (theta - at)).sum()  # noqa: E731
        return PolicyLoss(tangent, lambda theta: theta, exact.batch)

    support = query if task.support is task.query else task.support
    loss, v = meta_gradient(task._replace(support=support, query=query))
    squares = [(x**2).sum() for x in (slopes[0], v - slopes[0])]
    path = task.path
    # One theta for all tasks, since it travels between workers.
    path[0] = path[0]._replace(theta=path[0].theta[:1])
    return Collected(loss, v.sum(axis=0), np.array(squares), path)


def side_by_side(path: Path) -> Path:
    """Return the path with every theta (T, P), by views."""
    tasks = len(path[0].weights)
    return [
        met._replace(theta=np.broadcast_to(met.theta, (tasks, met.theta.shape[-1])))
        for met in path
    ]


def natural_step(
    product: Callable[[Array], Array], gradient: Array, max_kl: float
) -> Array:
    """Return c x (P,) float64: the step whose KL is the limit, to second order.

    product: v (P,) -> A v (P,), without damping
    """
    g = gradient.astype(float)
    x, rest = conjugate_gradients(lambda v: product(v) + DAMPING * v, g)
    return np.sqrt(2 * max_kl / (x @ (g - rest) + 1e-8)) * x  # A x = g - rest


def conjugate_gradients(product: Callable[[Array], Array], b: Array) -> tuple[Array, Array]:
    """Return x with A x near b, and the rest b - A x; product(v) = A v with A > 0.

    The tolerance is that of the official code, relative to b where b is shorter than 1:
    else a short gradient would have no step, or a bad one.
    """
    x, rest, p = np.zeros_like(b), b, b
    size = rest @ rest
    tolerance = CG_TOLERANCE * min(size, 1.0)
    for _ in range(CG_STEPS):
        if size <= tolerance:
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
    losses: Sequence[Loss],
    alpha: float | Array,
    model: Model,
    last: Experience,
) -> Array:
    """Return J'FJ v (T, P).

    thetas, losses: theta_k and the support loss of each inner step
    last: the trajectories of the adapted policy
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


def search(
    score: Callable[[Array], tuple[float, float]],
    theta: Array,
    step: Array,
    loss: float,
    max_kl: float,
) -> tuple[Array, int | None, float, float]:
    """Return theta after the largest good step, the number of its try, its loss and its KL.

    score: theta (P,) -> loss after adapting from it, and the KL of the adapted policies
    A step is good when the loss falls and the KL is within the limit. When no try is good,
    theta is returned unchanged with the number None: the step is refused.
    """
    for tries in range(TRIES):
        there = (theta - BACKTRACK**tries * step).astype(theta.dtype)
        after, kl = score(there)
        # Refuse a step whose likelihood ratio overflows.
        if np.isfinite(after) and after < loss and kl <= max_kl:
            return there, tries, after, kl
    return theta, None, loss, 0.0


def trial(
    theta: Array,
    losses: Sequence[Loss],
    alpha: float | Array,
    model: Model,
    last: Experience,
) -> tuple[Array, Array]:
    """Return loss and KL divergence after adapting theta (T, P) on old trajectories.

    losses: the support loss of each inner step; last: those of the adapted policy
    """
    makers = iter(losses)
    made = lambda _: next(makers)  # noqa: E731
    task = Task(made, made)  # the query loss is not asked for
    theta = maml.adapt(theta, task, alpha, len(losses))
    new = gaussian(model, last, theta)
    logp = policy.log_prob(new, flat(last.actions)).reshape(last.weights.shape)
    kl = policy.kl((flat(last.mean), last.log_std), new)
    return lvc(logp, last.batch), (flat(last.weights) * kl).sum()
