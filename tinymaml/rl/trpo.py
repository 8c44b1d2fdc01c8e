"""The outer update of meta reinforcement learning: a trust region, or Adam.

One iteration rolls out, adapts, rolls out again, and then

    g   is the meta-gradient, through the one chain of `maml`
    A   is J'FJ, the Hessian of the mean KL(pi at U(theta) || pi at U(theta')) at theta
    x   is A^-1 g by conjugate gradients; theta' = theta - c x, c as large as the KL allows

U is the inner loop, J = (I - alpha H_{K-1}) ... (I - alpha H_0) its Jacobian, F the Fisher
matrix of the adapted policy. The gradient of the KL is 0 at theta, so U's own second
derivative drops out: a product with A is one with each H_k on either side of one with F,
and needs no third derivative.

What grows with the data is a sum over chunks of tasks: `collect`, `curvature` and `trial`
are what the workers compute.

Source: Schulman et al., "Trust region policy optimization", ICML 2015, as the official
code has it: conjugate_gradient_optimizer.py:127-131, 270-302.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from tinymaml import maml
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import drawn
from tinymaml.maml import Loss, Task
from tinymaml.optim import adam, check_dtype, clip
from tinymaml.rl import policy
from tinymaml.rl.rollout import Experience, flat, gaussian, surrogate_loss
from tinymaml.rl.surrogates import SURROGATES, PolicyLoss, e_maml, lvc
from tinymaml.speed.replay import recorded
from tinymaml.speed.workers import gather, spans


Array = np.ndarray
Path = list[Experience]  # what theta_0, ..., theta_K met, on one chunk of tasks

CG_STEPS, CG_TOLERANCE = 10, 1e-10  # conjugate_gradient_optimizer.py:127, krylov.py:7
DAMPING = 1e-5  # :128
BACKTRACK, TRIES = 0.8, 15  # :130-131


def pretrained(
    theta: Array, task: Task, alpha: float | Array, steps: int
) -> tuple[Array, Array]:
    """Return the query loss and its gradient at theta: training takes no inner step."""
    return maml.meta_gradient(theta, task, alpha, 0)


ALGORITHMS = {
    "maml": maml.meta_gradient,
    "fomaml": maml.first_order,
    "maml-low-memory": maml.meta_gradient_low_memory,
    "e-maml": e_maml,
    "pretrained": pretrained,
    "oracle": pretrained,
}


class Collected(NamedTuple):
    """What one chunk of tasks brought, summed over its tasks, and what it met."""

    loss: float
    gradient: Array  # (P,)
    squares: Array  # (2,): of the gradient at theta_K, and of what the chain adds to it
    path: Path


def iterate(config: Config, state: Any, engine: Executor) -> tuple[Any, dict]:
    """Return the run's state after the next outer update, and what to record of it.

    Recorded: mean returns before and after adapting, the loss, its improvement, the KL of
    the adapted policies, which step of the line search was taken (None and refused = 1 if
    none), the mean standard deviation of the policy, and |alpha H v| / |v| of the chain.
    """
    tasks = spans(config.tasks, config.chunk)
    chunks = gather(engine, collect, (config, state.theta, state.iteration), tasks)
    loss, gradient, squares = (
        sum(parts) / config.tasks for parts in zip(*(c[:3] for c in chunks), strict=True)
    )
    check_dtype(state.theta, gradient=gradient)  # the line search would convert its step
    gradient = clip(gradient, config.clip)
    paths = [chunk.path for chunk in chunks]
    state = state._replace(iteration=state.iteration + 1)
    if config.outer == "adam":
        theta, moments = adam(
            state.theta, gradient, state.moments, state.iteration, config.beta
        )
        state, tries = state._replace(theta=theta, moments=moments), 0
        after, kl = judge(config, theta, paths, engine)
    else:
        step = natural_step(config, gradient, paths, engine)
        theta, tries, after, kl = search(config, state.theta, step, loss, paths, engine)
        state = state._replace(theta=theta)
    return state, {
        "loss": float(loss),
        "return_before": _mean([path[0].returns for path in paths]),
        "return_after": _mean([path[-1].returns for path in paths]),
        "improvement": float(loss - after),
        "kl": float(kl),
        "backtracks": tries,
        "refused": int(tries is None),
        "std": _mean([np.exp(path[0].log_std) for path in paths]),
        "second_order": float(np.sqrt(squares[1] / squares[0])) if squares[0] else 0.0,
    }


def _mean(arrays: list[Array]) -> float:
    return float(np.concatenate(arrays).mean())


@np.errstate(over="ignore", invalid="ignore")  # a diverging policy is told by `act`
def collect(config: Config, theta: Array, iteration: int, tasks: range) -> Collected:
    """Roll out, adapt, roll out again: the meta-gradient of some tasks, and its data."""
    family = problem(config)
    draws = drawn(family, config.seed, "train", iteration, tasks)
    path: Path = []
    task = family.task(draws, path)
    slopes: list[Array] = []

    def query(at: Array) -> PolicyLoss:
        # The chain asks for the value and the slope at `at` only; the slope is kept.
        judged = task.query(at)
        loss, slope = maml.value_and_gradient(judged, at)
        slopes.append(slope)
        tangent = lambda theta, _: loss + (slope * (theta - at)).sum()  # noqa: E731
        return judged._replace(surrogate=tangent, log_prob=lambda theta: theta)

    start = np.broadcast_to(theta, (len(tasks), *theta.shape))
    loss, v = ALGORITHMS[config.algorithm](
        start, task._replace(query=query), family.alpha, config.inner_steps
    )
    squares = [(x**2).sum() for x in (slopes[0], v - slopes[0])]
    # Once for all tasks, since that is how it travels between workers.
    path[0] = path[0]._replace(theta=theta[None])
    return Collected(loss, v.sum(axis=0), np.array(squares), path)


# ----- Along A^-1 g -----


def natural_step(
    config: Config, gradient: Array, paths: list[Path], engine: Executor
) -> Array:
    """Return c x (P,) float64: the step whose KL is the limit, to second order.

    A's Hessians and Fisher matrix are those of every `fisher_stride`-th time step: it is
    only the metric, and the line search looks at the KL of all steps.
    """
    thin = [[met.every(config.fisher_stride) for met in path] for path in paths]

    def product(v: Array) -> Array:
        fixed = config, v.astype(gradient.dtype)
        return sum(gather(engine, curvature, fixed, thin)) / config.tasks + DAMPING * v

    g = gradient.astype(float)
    x, rest = conjugate_gradients(product, g)
    return np.sqrt(2 * config.max_kl / (x @ (g - rest) + 1e-8)) * x  # A x = g - rest


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


def curvature(config: Config, v: Array, path: Path) -> Array:
    """Return J'FJ v (P,), summed over the tasks of one chunk."""
    path = side_by_side(path)
    v = np.broadcast_to(v, path[-1].theta.shape)
    return replayed(_curvature, config, v, path)[0].sum(axis=0)


def _curvature(config: Config, v: Array, path: Path) -> tuple[Array]:
    family = problem(config)
    *inner, last = path
    if config.algorithm == "fomaml":  # it takes J for the identity
        inner = []
    losses = inner_losses(config, inner)
    hvps = [
        maml.hvp_and_gradient(loss, met.theta)[0]
        for loss, met in zip(losses, inner, strict=True)
    ]
    alpha = np.asarray(family.alpha, v.dtype)
    for hvp in hvps:
        v = v - alpha * hvp(v)
    there = partial(gaussian, family.model, last)
    v = policy.fisher(there, last.theta, last.log_std, flat(last.weights))(v)
    for hvp in reversed(hvps):
        v = v - hvp(alpha * v)
    return (v,)


def side_by_side(path: Path) -> Path:
    """Return the path with every theta (T, P), by views."""
    tasks = len(path[0].weights)
    return [
        met._replace(theta=np.broadcast_to(met.theta, (tasks, met.theta.shape[-1])))
        for met in path
    ]


def inner_losses(config: Config, inner: Path) -> list[Loss]:
    """Return the support loss of each inner step, on what there is."""
    surrogate = SURROGATES[config.surrogate]
    return [surrogate_loss(problem(config).model, surrogate, met) for met in inner]


# ----- The line search -----


def search(
    config: Config,
    theta: Array,
    step: Array,
    loss: float,
    paths: list[Path],
    engine: Executor,
) -> tuple[Array, int | None, float, float]:
    """Return theta after the largest good step, which try that was, its loss and its KL.

    A step is good when the loss falls and the KL is within the limit. When none of the
    tries is, theta stays as it is and the number is None: the step is refused.
    """
    for tries in range(TRIES):
        there = (theta - BACKTRACK**tries * step).astype(theta.dtype)
        after, kl = judge(config, there, paths, engine)
        # A likelihood ratio that overflows need not be clipped: it is not good.
        if np.isfinite(after) and after < loss and kl <= config.max_kl:
            return there, tries, after, kl
    return theta, None, loss, 0.0


def judge(
    config: Config, theta: Array, paths: list[Path], engine: Executor
) -> tuple[float, float]:
    """Return the mean loss after adapting from theta, and the KL of the adapted policies.

    The inner steps are taken again, from theta, on the trajectories that there are.
    """
    sums = gather(engine, trial, (config, theta), paths)
    loss, kl = np.sum(sums, axis=0) / config.tasks
    return loss, kl


def trial(config: Config, theta: Array, path: Path) -> tuple[Array, Array]:
    """Return loss and KL after adapting from theta, summed over the tasks of one chunk."""
    path = side_by_side(path)
    theta = np.broadcast_to(theta, path[-1].theta.shape)
    return replayed(_trial, config, theta, path)


def _trial(config: Config, theta: Array, path: Path) -> tuple[Array, Array]:
    family = problem(config)
    *inner, last = path
    losses = iter(inner_losses(config, inner))
    task = Task(lambda _: next(losses), None)
    theta = maml.adapt(theta, task, family.alpha, len(inner))
    new = gaussian(family.model, last, theta)
    logp = policy.log_prob(new, flat(last.actions)).reshape(last.weights.shape)
    kl = policy.kl((flat(last.mean), last.log_std), new)
    return lvc(logp, last.batch), (flat(last.weights) * kl).sum()


# ----- Replay -----


@np.errstate(over="ignore", invalid="ignore")
def replayed(function: Callable, config: Config, x: Array, path: Path) -> tuple[Array, ...]:
    """Return function(config, x, path), recorded at its first call for these shapes."""
    return _recorded(function, config)(x, *[array for met in path for array in met])


@lru_cache(maxsize=4)
def _recorded(function: Callable, config: Config) -> Callable[..., tuple[Array, ...]]:
    size = len(Experience._fields)

    def of_arrays(x: Array, *arrays: Array) -> tuple[Array, ...]:
        starts = range(0, len(arrays), size)
        return function(config, x, [Experience(*arrays[i : i + size]) for i in starts])

    # The path stays while conjugate gradients and the line search ask about it.
    return recorded(of_arrays, moving=1) if config.replay else of_arrays
