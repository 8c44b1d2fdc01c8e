"""One iteration of meta reinforcement learning, its sums over chunks of tasks.

The workers compute all sums over data: `collect`, `curvature` and `trial` take one chunk
each. Their mathematics is in `rl.trpo`.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np

from tinymaml.errors import WorldError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import drawn
from tinymaml.maml import Array, Loss
from tinymaml.optim import State, check_dtype, clip, outer_step
from tinymaml.rl import trpo
from tinymaml.rl.rollout import Experience, surrogate_loss
from tinymaml.rl.surrogates import SURROGATES
from tinymaml.rl.trpo import Collected, Path
from tinymaml.speed.replay import recorded
from tinymaml.speed.workers import Engine, gather, spans


def iterate(config: Config, state: State, engine: Engine) -> tuple[State, dict]:
    """Return the run's state after the next outer step, and its record.

    The record has the mean returns before and after adapting, the loss, its improvement,
    the KL of the adapted policies, the number of backtracks of the line search (None and
    refused = 1 if it took no step), the mean standard deviation of the policy, and
    |alpha H v| / |v| of the chain. It has the number of lost trajectories if there are any.
    """
    tasks = spans(config.tasks, config.chunk)
    chunks = gather(engine, collect, (config, state.theta, state.iteration), tasks)
    loss, gradient, squares = (
        sum(parts) / config.tasks for parts in zip(*(c[:3] for c in chunks), strict=True)
    )
    check_dtype(state.theta, gradient=gradient)  # the line search would convert its step
    gradient = clip(gradient, config.clip)
    paths, number = [chunk.path for chunk in chunks], state.iteration + 1
    tries: int | None = 0  # None: no step was taken
    state = state._replace(iteration=number)

    def score(theta: Array) -> tuple[float, float]:
        """Return the mean loss after adapting from theta, and the KL divergence."""
        after, kl = np.sum(gather(engine, trial, (config, theta), paths), axis=0)
        return after / config.tasks, kl / config.tasks

    # Adam reports a gradient that is not finite; the line search would refuse its step.
    if config.outer != "trpo" or not np.isfinite(gradient).all():
        args = state.theta, gradient, state.moments, number, config, number - 1
        theta, moments = outer_step(*args)
        after, kl = score(theta)
        state = state._replace(theta=theta, moments=moments)
    else:
        thin = [[met.every(config.fisher_stride) for met in path] for path in paths]

        def product(v: Array) -> Array:
            """Return the metric's product with v, by every `fisher_stride`-th time step."""
            fixed = config, v.astype(gradient.dtype)
            return sum(gather(engine, curvature, fixed, thin)) / config.tasks

        step = trpo.natural_step(product, gradient, config.max_kl)
        theta, tries, after, kl = trpo.search(score, state.theta, step, loss, config.max_kl)
        state = state._replace(theta=theta)
    return state, {
        "loss": float(loss),
        "return_before": _mean(path[0].returns for path in paths),
        "return_after": _mean(path[-1].returns for path in paths),
        "improvement": float(loss - after),
        "kl": float(kl),
        "backtracks": tries,
        "refused": int(tries is None),
        **lost(paths),
        "std": _mean(np.exp(path[0].log_std) for path in paths),
        "second_order": float(np.sqrt(squares[1] / squares[0])) if squares[0] else 0.0,
    }


def lost(paths: Iterable[Path]) -> dict[str, int]:
    """Return how many trajectories a broken simulation ended, where there are some."""
    count = int(sum(met.lost.sum() for path in paths for met in path))
    return {"lost": count} if count else {}


def _mean(arrays: Iterable[Array]) -> float:
    return float(np.concatenate([*arrays]).mean())


@np.errstate(over="ignore", invalid="ignore")
def collect(config: Config, theta: Array, iteration: int, tasks: range) -> Collected:
    """Return the meta-gradient of some tasks, and the experience of their policies.

    Raises WorldError when no time step of a task has a finite action and reward.
    """
    family, method = problem(config), config.method
    family = method.at_iteration(family, iteration)
    task = family.task(drawn(family, config.seed, "train", iteration, tasks))
    if not method.inner_loop:
        task = task._replace(
            support=task.query
        )  # the policy is scored on its own trajectories
    start = np.broadcast_to(theta, (len(tasks), *theta.shape))
    found = trpo.collect(lambda task: method.gradient(start, task, family), task)
    if any(np.isnan(met.weights).any() for met in found.path):
        what = "the actions or rewards are not finite: the policy has diverged"
        raise WorldError(f"{what}; try smaller steps")
    return found


def curvature(config: Config, v: Array, path: Path) -> Array:
    """Return J'FJ v (P,), summed over the tasks of one chunk."""
    return replayed(_curvature, config, v, path)[0].sum(axis=0)


def _curvature(config: Config, v: Array, path: Path) -> tuple[Array]:
    family, (*inner, last) = problem(config), path
    inner = inner if config.method.second_order else []  # [] makes J the identity
    losses, thetas = inner_losses(config, inner), [met.theta for met in inner]
    return (trpo.curvature(v, thetas, losses, family.alpha, family.model, last),)


def trial(config: Config, theta: Array, path: Path) -> tuple[Array, Array]:
    """Return the loss and the KL divergence after adaptation, summed over a chunk."""
    loss, kl = replayed(_trial, config, theta, path)
    return loss, kl


def _trial(config: Config, theta: Array, path: Path) -> tuple[Array, Array]:
    family, (*inner, last) = problem(config), path
    losses = inner_losses(config, inner)
    return trpo.trial(theta, losses, family.alpha, family.model, last)


def inner_losses(config: Config, inner: Path) -> list[Loss]:
    """Return the support loss of each inner step, on its experience."""
    surrogate = SURROGATES[config.surrogate]
    return [surrogate_loss(problem(config).model, surrogate, met) for met in inner]


@np.errstate(over="ignore", invalid="ignore")
def replayed(function: Callable, config: Config, x: Array, path: Path) -> tuple[Array, ...]:
    """Return function(config, x, path) for x (P,), recorded at its first call."""
    path = trpo.side_by_side(path)
    x = np.broadcast_to(x, path[-1].theta.shape)
    return _recorded(function, config)(x, *[array for met in path for array in met])


@lru_cache(maxsize=4)
def _recorded(function: Callable, config: Config) -> Callable[..., tuple[Array, ...]]:
    size, chunks = len(Experience._fields), len(spans(config.tasks, config.chunk))

    def of_arrays(x: Array, *arrays: Array) -> tuple[Array, ...]:
        starts = range(0, len(arrays), size)
        return function(config, x, [Experience(*arrays[i : i + size]) for i in starts])

    # Conjugate gradients and the line search call it many times with one path.
    return recorded(of_arrays, moving=1, kept=chunks) if config.replay else of_arrays
