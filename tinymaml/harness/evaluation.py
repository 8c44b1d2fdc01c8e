"""Held-out tasks: the score after each gradient step, with its interval.

The tasks are a fixed list, the same for every run and seed, so that runs compare on the
same tasks; its hash says whether two lists are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from tinymaml import maml
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode, drawn
from tinymaml.speed.workers import gather, spans


Array = np.ndarray

TASK_SEED = 0
NORMAL_95 = 1.96  # two-sided 95 % of a normal distribution


def evaluate(
    config: Config, theta: Array, split: str, tasks: int, steps: int, engine: Executor
) -> Array:
    """Return the score (steps + 1, tasks) of each task after 0, 1, ..., steps steps.

    theta: all that was trained, as a run's state has it
    """
    theta = problem(config).start(theta)
    chunks = spans(tasks, config.test_chunk)
    scores = gather(engine, chunk_scores, (config, theta, split, steps), chunks)
    return np.concatenate(scores, axis=1)


def evaluate_alone(
    config: Config,
    theta: Array,
    split: str,
    tasks: int,
    steps: Sequence[int],
    engine: Executor,
) -> Array:
    """Return the score (len(steps), tasks) after those steps, each query on its own.

    theta: all that was trained. Raises TypeError for a model to which that makes no
    difference.
    """
    theta = problem(config).start(theta)
    chunks = spans(tasks, config.test_chunk)
    scores = gather(engine, chunk_alone, (config, theta, split, steps), chunks)
    return np.concatenate(scores, axis=1)


def chunk_scores(
    config: Config, theta: Array, split: str, steps: int, tasks: range
) -> Array:
    """Return the score (steps + 1, len(tasks)) of some of the fixed tasks; theta (P,)."""
    episodes, thetas = _adapted(config, theta, split, steps, tasks)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.stack([problem(config).score(theta_k, episodes) for theta_k in thetas])


def chunk_alone(
    config: Config, theta: Array, split: str, steps: Sequence[int], tasks: range
) -> Array:
    """Return the score (len(steps), len(tasks)), each query example on its own."""
    episodes, thetas = _adapted(config, theta, split, max(steps), tasks)
    with np.errstate(over="ignore", invalid="ignore"):
        score = problem(config).score_alone
        return np.stack([score(thetas[k], episodes) for k in steps])


def _adapted(
    config: Config, theta: Array, split: str, steps: int, tasks: range
) -> tuple[Episode, list[Array]]:
    family = problem(config)
    episodes = held_out(config, split, tasks)
    theta = np.tile(theta, (len(tasks), 1))
    alpha = family.test_alpha(steps) if family.test_alpha else family.alpha
    # A task on which the steps diverge is told by its score.
    with np.errstate(over="ignore", invalid="ignore"):
        return episodes, maml.path(theta, family.task(episodes), alpha, steps)


def held_out(config: Config, split: str, tasks: range) -> Episode:
    """Return some of the fixed tasks of a split, stacked."""
    return drawn(problem(config), TASK_SEED, split, 0, tasks)


# ----- Are these the same tasks? -----


def fingerprint(config: Config, split: str, tasks: int, engine: Executor) -> str:
    """Return the sha256 of the first so many fixed tasks of a split.

    Of every array of every task in order: its dtype, shape and bytes. Equal for two
    evaluations exactly when both adapt to and are judged on the same numbers, whatever
    made them and in however many processes; the precision is part of the numbers. What an
    oracle is told besides is not.
    """
    if config.algorithm == "oracle":
        config = config.with_changes({"algorithm": "maml"})
    digests = gather(
        engine, chunk_digests, (config, split), spans(tasks, config.test_chunk)
    )
    return hashlib.sha256(b"".join(digests)).hexdigest()


def chunk_digests(config: Config, split: str, tasks: range) -> bytes:
    """Return the sha256 of each of some of the fixed tasks, end to end."""
    episodes = held_out(config, split, tasks)
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
