"""The outer update: a trust region around the adapted policies, or Adam.

One iteration rolls out, adapts, rolls out again, and then

    g   the meta-gradient, through the one chain of `maml`
    A   J'FJ, the Hessian of the mean KL(pi_{U(theta)} || pi_{U(theta')}) at theta' = theta
    x   A^-1 g by conjugate gradients; theta' = theta - c x, c as large as the KL allows

U is the inner loop, J = (I - alpha H_{K-1}) ... (I - alpha H_0) its Jacobian, F the
Fisher matrix of the adapted policy. The gradient of the KL is 0 at theta, so that U's own
second derivative drops out: one product with A is a Hessian product each way and a Fisher
product between, and no third derivative is needed.

Everything that scales with the data is a sum over chunks of tasks, computed by whatever
`workers` offers: `collect`, `curvature`, `trial`.

Source: Schulman et al. 2015 (TRPO) as conjugate_gradient_optimizer.py of the official
code has it: lines 127-131, 270-302.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from tinymaml import maml
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import stack, stream
from tinymaml.maml import Loss, Task
from tinymaml.optim import adam
from tinymaml.replay import recorded
from tinymaml.rl import policy, surrogates
from tinymaml.rl.rollout import Experience, flat, gaussian
from tinymaml.workers import gather, spans


Array = np.ndarray

CG_ITERATIONS, CG_TOLERANCE = 10, 1e-10  # :127 and krylov.py:7
DAMPING = 1e-5  # :128
BACKTRACK, TRIES = 0.8, 15  # :130-131


def pretrained(
    theta: Array, task: Task, alpha: float | Array, steps: int
) -> tuple[Array, Array]:
    """Return the query loss and its gradient at theta: no inner step, so no adaptation."""
    return maml.meta_gradient(theta, task, alpha, 0)


ALGORITHMS = {
    "maml": maml.meta_gradient,
    "fomaml": maml.first_order,
    "maml-low-memory": maml.meta_gradient_low_memory,
    "pretrained": pretrained,
}


class Collected(NamedTuple):
    """What one chunk of tasks brought: sums over its tasks, and its trajectories."""

    loss: float
    gradient: Array  # (P,)
    second_order: Array  # squares (2,): of the gradient's second-order part, of the rest
    path: list[Experience]  # of theta_0, ..., theta_K


# ----- One iteration -----


def iterate(config: Config, state, engine: Executor) -> tuple:
    """Return the state after one more outer update, and what is to be recorded of it."""
    chunks = spans(config.tasks, config.chunk)
    fixed = config, state.theta, state.iteration
    chunks = gather(engine, collect, fixed, chunks)
    loss = sum(chunk.loss for chunk in chunks) / config.tasks
    gradient = sum(chunk.gradient for chunk in chunks) / config.tasks
    paths = [chunk.path for chunk in chunks]
    if config.outer == "adam":
        theta, moments = adam(
            state.theta, gradient, state.moments, state.iteration + 1, config.beta
        )
        after, kl = judge(config, theta, paths, engine)
        told = {"backtracks": 0}
    else:
        moments = state.moments
        direction = natural_gradient(config, gradient, paths, engine)
        theta, after, kl, tries = search(
            config, state.theta, direction, loss, paths, engine
        )
        told = {"backtracks": tries, "refused": int(tries is None)}
    share = sum(chunk.second_order for chunk in chunks)
    first, last = ([path[k].returns for path in paths] for k in (0, -1))
    stds = [np.exp(path[0].log_std) for path in paths]
    record = {
        "loss": float(loss),
        "return_before": float(np.concatenate(first).mean()),
        "return_after": float(np.concatenate(last).mean()),
        "improvement": float(loss - after),
        "kl": float(kl),
        **told,
        "std": float(np.concatenate(stds).mean()),
        "second_order": float(np.sqrt(share[0] / share[1])) if share[1] else 0.0,
    }
    return state._replace(
        iteration=state.iteration + 1, theta=theta, moments=moments
    ), record


@np.errstate(over="ignore", invalid="ignore")
def collect(config: Config, theta: Array, iteration: int, tasks: range) -> Collected:
    """Roll out, adapt, roll out again; return the meta-gradient of some tasks."""
    family = problem(config)
    draws = stack(
        [family.sample("train", stream(config.seed, "train", iteration, i)) for i in tasks]
    )
    path: list[Experience] = []

    def met(at: Array) -> Experience:
        path.append(family.act(at, draws, len(path)))
        return path[-1]

    def query(at: Array) -> Loss:
        # The chain asks for the value and the slope at `at` only: the slope is kept.
        loss, slope = maml.value_and_gradient(family.query_loss(met(at)), at)
        slopes.append(slope)
        return lambda theta: loss + (slope * (theta - at)).sum()

    slopes: list[Array] = []
    task = Task(lambda at: family.loss(met(at)), query)
    start = np.tile(theta, (len(tasks), 1))
    loss, v = ALGORITHMS[config.algorithm](start, task, family.alpha, config.inner_steps)
    squares = np.array([((v - slopes[0]) ** 2).sum(), (slopes[0] ** 2).sum()])
    return Collected(loss, v.sum(axis=0), squares, path)


# ----- Conjugate gradients -----


def natural_gradient(
    config: Config, gradient: Array, paths: list[list[Experience]], engine: Executor
) -> Array:
    """Return c x (P,): the step along A^-1 g whose KL is the limit, to second order."""
    kept = [[met.every(config.fisher_stride) for met in path] for path in paths]
    theta_type = gradient.dtype

    def product(v: Array) -> Array:
        fixed = config, v.astype(theta_type)
        return sum(gather(engine, curvature, fixed, kept)) / config.tasks + DAMPING * v

    g = gradient.astype(float)
    x, rest = conjugate_gradients(product, g)
    size = max(x @ (g - rest), 0.0)  # x'Ax, as Ax = g - rest
    return np.sqrt(2 * config.max_kl / (size + 1e-8)) * x


def conjugate_gradients(
    product, b: Array, iterations: int = CG_ITERATIONS, tolerance: float = CG_TOLERANCE
) -> tuple[Array, Array]:
    """Return x with A x = b nearly, and what is left, b - A x.

    product: v -> A v of a positive definite A
    tolerance: of the squared norm of what is left (krylov.py:7)
    """
    x, rest, p = np.zeros_like(b), b.copy(), b.copy()
    size = rest @ rest
    for _ in range(iterations):
        if size < tolerance:
            break
        ap = product(p)
        step = size / (p @ ap)
        x, rest = x + step * p, rest - step * ap
        before, size = size, rest @ rest
        p = rest + size / before * p
    return x, rest


def curvature(config: Config, v: Array, path: list[Experience]) -> Array:
    """Return J'FJ v (P,), summed over the tasks of one chunk."""
    v = np.tile(v, (len(path[-1].theta), 1))
    return replayed(_curvature, config, v, path)[0].sum(axis=0)


def _curvature(config: Config, v: Array, path: list[Experience]) -> tuple[Array]:
    family = problem(config)
    *inner, last = path
    if config.algorithm == "fomaml":  # it takes J for the identity
        inner = []
    hvps = [maml.hvp_and_gradient(family.loss(met), met.theta)[0] for met in inner]
    alpha = np.asarray(family.alpha, v.dtype)
    for hvp in hvps:
        v = v - alpha * hvp(v)
    there = partial(gaussian, family.model, last)
    v = policy.fisher(there, last.theta, last.log_std, flat(last.weights))(v)
    for hvp in reversed(hvps):
        v = v - hvp(alpha * v)
    return (v,)


# ----- The line search -----


def search(
    config: Config,
    theta: Array,
    direction: Array,
    loss: float,
    paths: list[list[Experience]],
    engine: Executor,
) -> tuple[Array, float, float, int | None]:
    """Return theta after the largest step that is good, its loss and KL, and its number.

    A step is good when the loss falls and the KL stays within the limit. When none is,
    theta stays as it is, and the number is None: the step is refused.
    """
    for tries in range(TRIES):
        there = (theta - BACKTRACK**tries * direction).astype(theta.dtype)
        after, kl = judge(config, there, paths, engine)
        # Not finite is not good: nothing need be clipped.
        if np.isfinite(after) and after < loss and kl <= config.max_kl:
            return there, after, kl, tries
    return theta, loss, 0.0, None


def judge(
    config: Config, theta: Array, paths: list[list[Experience]], engine: Executor
) -> tuple[float, float]:
    """Return the mean loss after adapting from theta, and the KL of the adapted policies.

    The inner steps are taken again, on the trajectories that there are.
    """
    sums = gather(engine, trial, (config, theta), paths)
    loss, kl = np.sum(sums, axis=0) / config.tasks
    return loss, kl


def trial(config: Config, theta: Array, path: list[Experience]) -> tuple[float, float]:
    """Return loss and KL after adapting from theta, summed over the tasks of one chunk."""
    theta = np.tile(theta, (len(path[-1].theta), 1))
    loss, kl = replayed(_trial, config, theta, path)
    return float(loss), float(kl)


def _trial(config: Config, theta: Array, path: list[Experience]) -> tuple[Array, Array]:
    family = problem(config)
    *inner, last = path
    losses = map(family.loss, inner)
    task = Task(lambda _: next(losses), family.query_loss)
    theta = maml.adapt(theta, task, family.alpha, len(inner))
    new = gaussian(family.model, last, theta)
    logp = policy.log_prob(new, flat(last.actions)).reshape(last.weights.shape)
    kl = policy.kl((flat(last.mean), last.log_std), new)
    return surrogates.lvc(logp, last.batch), (flat(last.weights) * kl).sum()


# ----- Replay -----


@np.errstate(over="ignore", invalid="ignore")
def replayed(
    function: Callable, config: Config, x: Array, path: list[Experience]
) -> tuple[Array, ...]:
    """Return function(config, x, path), recorded at its first call for these shapes."""
    return _recorded(function, config)(x, *[array for met in path for array in met])


@lru_cache(maxsize=4)
def _recorded(function: Callable, config: Config) -> Callable:
    def of_arrays(x: Array, *arrays: Array) -> tuple[Array, ...]:
        size = len(Experience._fields)
        starts = range(0, len(arrays), size)
        return function(config, x, [Experience(*arrays[i : i + size]) for i in starts])

    return recorded(of_arrays)
