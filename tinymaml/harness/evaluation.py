"""Held-out tasks: the score after each gradient step, with its interval.

The tasks are a fixed list, the same for every run and seed. Equal lists have equal hashes.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode, drawn
from tinymaml.maml import Array
from tinymaml.speed.workers import gather, spans


TASK_SEED = 0
NORMAL_95 = 1.96  # two-sided 95 % of a normal distribution


def evaluate(
    config: Config, w: Array, split: str, tasks: int, steps: int, engine: Executor
) -> Array:
    """Return the score (steps + 1, tasks) after 0, 1, ..., steps steps from w (M,)."""
    start = config.method.start(w, problem(config))
    chunks = spans(tasks, config.test_chunk)
    scores = gather(engine, chunk_scores, (config, start, split, steps), chunks)
    return np.concatenate(scores, axis=1)


def evaluate_alone(
    config: Config, w: Array, split: str, tasks: int, steps: Sequence[int], engine: Executor
) -> Array:
    """Return the score (len(steps), tasks) after those steps, each query on its own.

    Raises TypeError for a model in which the examples of a batch do not see each other.
    """
    start = config.method.start(w, problem(config))
    chunks = spans(tasks, config.test_chunk)
    scores = gather(engine, chunk_alone, (config, start, split, steps), chunks)
    return np.concatenate(scores, axis=1)


@np.errstate(over="ignore", invalid="ignore")  # scores show that steps diverge
def chunk_scores(
    config: Config, start: Array, split: str, steps: int, tasks: range
) -> Array:
    """Return the score (steps + 1, len(tasks)) of a chunk of the fixed tasks."""
    episodes = held_out(config, split, tasks)
    thetas = adapted(config, start, episodes, len(tasks), steps)
    return np.stack([problem(config).score(theta_k, episodes) for theta_k in thetas])


@np.errstate(over="ignore", invalid="ignore")
def chunk_alone(
    config: Config, start: Array, split: str, steps: Sequence[int], tasks: range
) -> Array:
    """Return the score (len(steps), len(tasks)), each query example on its own."""
    episodes = held_out(config, split, tasks)
    thetas = adapted(config, start, episodes, len(tasks), max(steps))
    return np.stack([problem(config).score_alone(thetas[k], episodes) for k in steps])


@np.errstate(over="ignore", invalid="ignore")
def adapted(
    config: Config, start: Array, episodes: Episode, tasks: int, steps: int
) -> list[Array]:
    """Return [theta_0, ..., theta_steps], (tasks, P) each, adapted to the tasks' episodes.

    start: (M',), made by the algorithm's `start` from everything meta-learned
    """
    family, starts = problem(config), np.tile(start, (tasks, 1))
    return config.method.adapt(starts, family.task(episodes), family.at_test(steps), steps)


def held_out(config: Config, split: str, tasks: range) -> Episode:
    """Return a chunk of the fixed tasks of a split, stacked."""
    return drawn(problem(config), TASK_SEED, split, 0, tasks)


def tuned(config: Config, w: Array, steps: int, engine: Executor) -> Config:
    """Return the options for adapting to held-out tasks, with a tuned step size.

    Where alpha is an option in use, they do not change. Otherwise alpha is the one of its
    `step_sizes` with the best mean score after `steps` steps on validation tasks; test
    tasks are not used. Source: section 5.1, "an automatically tuned step size".
    """
    if config.uses("alpha") or steps == 0:
        return config
    tried = [
        config.restored(config.values() | {"alpha": alpha}) for alpha in config.step_sizes
    ]
    costs = [_cost(one, w, steps, engine) for one in tried]
    return tried[int(np.argmin(costs))]


@np.errstate(over="ignore", invalid="ignore")
def _cost(config: Config, w: Array, steps: int, engine: Executor) -> float:
    tasks = config.validation_tasks
    last = evaluate(config, w, "val", tasks, steps, engine)[-1].astype(float)
    cost = -last.mean() if config.score.higher_is_better else last.mean()
    return cost if np.isfinite(cost) else np.inf


def tuning_remarks(config: Config, steps: int) -> list[str]:
    """Return the remark on a tuned step size, if it was. config: the tuned options."""
    if config.uses("alpha") or not steps:
        return []
    tried = config.step_sizes
    edge = ", at an end of the range" * (config.alpha in (tried[0], tried[-1]))
    best = f"step size {config.alpha:g}, the best of {len(tried)}"
    return [f"{best} on {config.validation_tasks} validation tasks{edge}"]


def fingerprint(config: Config, split: str, tasks: int, engine: Executor) -> str:
    """Return the sha256 of the first `tasks` fixed tasks of a split.

    It covers dtype, shape and bytes of every array of every task in order. Two evaluations
    have the same hash exactly when they adapt to and score the same numbers in the same
    precision, from any number of processes. An oracle's task parameters are not covered.
    """
    chunks = spans(tasks, config.test_chunk)
    digests = gather(engine, chunk_digests, (config, split), chunks)
    return hashlib.sha256(b"".join(digests)).hexdigest()


def chunk_digests(config: Config, split: str, tasks: range) -> bytes:
    """Return the sha256 of each task in a chunk of the fixed tasks, concatenated."""
    family = problem(config)
    plain = family._replace(sample=family.plain or family.sample)
    episodes = drawn(plain, TASK_SEED, split, 0, tasks)
    return b"".join(_digest(arrays) for arrays in zip(*episodes, strict=True))


def _digest(arrays: Sequence[Array]) -> bytes:
    found = hashlib.sha256()
    for array in map(np.asarray, arrays):
        found.update(f"{array.dtype.str} {array.shape}\n".encode())
        found.update(np.ascontiguousarray(array))
    return found.digest()


@np.errstate(over="ignore", invalid="ignore")
def interval(scores: Array) -> tuple[Array, Array]:
    """Return the mean over the last axis and half the width of its 95 % interval."""
    scores = scores.astype(float)  # the squares of diverged scores exceed float32
    spread = scores.std(axis=-1, ddof=1) / np.sqrt(scores.shape[-1])
    return scores.mean(axis=-1), NORMAL_95 * spread
