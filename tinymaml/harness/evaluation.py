"""Held-out tasks: the score after each gradient step, with its interval.

The tasks are a fixed list, the same for every run and seed, so that runs compare on the
same tasks; its hash says whether two lists are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode, drawn
from tinymaml.speed.workers import gather, spans


Array = np.ndarray

TASK_SEED = 0
NORMAL_95 = 1.96  # two-sided 95 % of a normal distribution


def evaluate(
    config: Config, w: Array, split: str, tasks: int, steps: int, engine: Executor
) -> Array:
    """Return the score (steps + 1, tasks) of each task after 0, 1, ..., steps steps.

    w: all that is meta-learned (M,)
    """
    start = config.method.start(w, problem(config))
    chunks = spans(tasks, config.test_chunk)
    scores = gather(engine, chunk_scores, (config, start, split, steps), chunks)
    return np.concatenate(scores, axis=1)


def evaluate_alone(
    config: Config,
    w: Array,
    split: str,
    tasks: int,
    steps: Sequence[int],
    engine: Executor,
) -> Array:
    """Return the score (len(steps), tasks) after those steps, each query on its own.

    w: all that is meta-learned (M,). Raises TypeError for a model in which the examples of
    a batch do not see each other.
    """
    start = config.method.start(w, problem(config))
    chunks = spans(tasks, config.test_chunk)
    scores = gather(engine, chunk_alone, (config, start, split, steps), chunks)
    return np.concatenate(scores, axis=1)


def chunk_scores(
    config: Config, start: Array, split: str, steps: int, tasks: range
) -> Array:
    """Return the score (steps + 1, len(tasks)) of some of the fixed tasks."""
    episodes = held_out(config, split, tasks)
    thetas = adapted(config, start, episodes, len(tasks), steps)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.stack([problem(config).score(theta_k, episodes) for theta_k in thetas])


def chunk_alone(
    config: Config, start: Array, split: str, steps: Sequence[int], tasks: range
) -> Array:
    """Return the score (len(steps), len(tasks)), each query example on its own."""
    episodes = held_out(config, split, tasks)
    thetas = adapted(config, start, episodes, len(tasks), max(steps))
    with np.errstate(over="ignore", invalid="ignore"):
        score = problem(config).score_alone
        return np.stack([score(thetas[k], episodes) for k in steps])


def adapted(
    config: Config, start: Array, episodes: Episode, tasks: int, steps: int
) -> list[Array]:
    """Return [theta_0, ..., theta_steps], (tasks, P) each, adapted to the tasks' episodes.

    start: (M',), as the algorithm's `start` makes it of what is meta-learned
    """
    family = problem(config)
    task = family.task(episodes)
    with np.errstate(over="ignore", invalid="ignore"):  # scores show that steps diverge
        start = np.tile(start, (tasks, 1))
        return config.method.adapt(start, task, family.at_test(steps), steps)


def held_out(config: Config, split: str, tasks: range) -> Episode:
    """Return some of the fixed tasks of a split, stacked."""
    return drawn(problem(config), TASK_SEED, split, 0, tasks)


# ----- The step size of an algorithm without an inner loop -----

# The paper does not say which step sizes it tried. The oracle needs the smallest of these.
STEP_SIZES = tuple(digit * 10.0**power for power in range(-5, 1) for digit in (1, 2, 5))


def tuned(config: Config, w: Array, steps: int, engine: Executor) -> Config:
    """Return the options with which held-out tasks are adapted to.

    Where alpha is an option these are the options of the training. Otherwise alpha is the
    one of STEP_SIZES with the best mean score after `steps` steps on validation tasks; test
    tasks are not used. Source: section 5.1, "an automatically tuned step size".
    """
    if config.uses("alpha") or steps == 0:
        return config
    tried = [config.restored(config.values() | {"alpha": alpha}) for alpha in STEP_SIZES]
    costs = [_cost(one, w, steps, engine) for one in tried]
    return tried[int(np.argmin(costs))]


def _cost(config: Config, w: Array, steps: int, engine: Executor) -> float:
    tasks = config.validation_tasks
    last = evaluate(config, w, "val", tasks, steps, engine)[-1].astype(float)
    with np.errstate(over="ignore", invalid="ignore"):
        cost = -last.mean() if config.score.higher_is_better else last.mean()
    return cost if np.isfinite(cost) else np.inf


def tuning_remarks(config: Config, steps: int) -> list[str]:
    """Return what stands below a table about a tuned step size; config: as tuned."""
    if config.uses("alpha") or not steps:
        return []
    edge = ", at an end of the range" * (config.alpha in (STEP_SIZES[0], STEP_SIZES[-1]))
    return [
        f"step size {config.alpha:g}, the best of {len(STEP_SIZES)} on"
        f" {config.validation_tasks} validation tasks{edge}"
    ]


# ----- Are these the same tasks? -----


def fingerprint(config: Config, split: str, tasks: int, engine: Executor) -> str:
    """Return the sha256 of the first so many fixed tasks of a split.

    Of every array of every task in order: its dtype, shape and bytes. Equal for two
    evaluations exactly when both adapt to and are scored on the same numbers, whatever
    made them and in however many processes; the precision is part of the numbers. The
    task's parameters that an oracle is shown are not.
    """
    digests = gather(
        engine, chunk_digests, (config, split), spans(tasks, config.test_chunk)
    )
    return hashlib.sha256(b"".join(digests)).hexdigest()


def chunk_digests(config: Config, split: str, tasks: range) -> bytes:
    """Return the sha256 of each of some of the fixed tasks, end to end."""
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


def interval(scores: Array) -> tuple[Array, Array]:
    """Return the mean over the last axis and half the width of its 95 % interval.

    Computed in float64: scores that diverge have squares beyond float32.
    """
    scores = scores.astype(float)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = scores.std(axis=-1, ddof=1) / np.sqrt(scores.shape[-1])
        return scores.mean(axis=-1), NORMAL_95 * spread
