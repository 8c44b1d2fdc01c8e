"""Held-out tasks: the score after each gradient step, with its interval.

The tasks are a fixed list, the same for every run and seed, so that runs compare on the
same tasks.
"""

from __future__ import annotations

import json
from concurrent.futures import Executor

import numpy as np

from tinymaml import maml
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import stack, stream
from tinymaml.workers import gather, spans


Array = np.ndarray

TASK_SEED = 0
# Tasks side by side; not an option, since it does not change what is measured.
CHUNK = 20
NORMAL_95 = 1.96  # two-sided 95 % of a normal distribution


def evaluate(
    config: Config, theta: Array, split: str, tasks: int, steps: int, engine: Executor
) -> Array:
    """Return the score (steps + 1, tasks) of each task after 0, 1, ..., steps steps."""
    chunks = spans(tasks, CHUNK)
    scores = gather(engine, chunk_scores, (config, theta, split, steps), chunks)
    return np.concatenate(scores, axis=1)


def chunk_scores(
    config: Config, theta: Array, split: str, steps: int, tasks: range
) -> Array:
    """Return the score (steps + 1, len(tasks)) of some of the fixed tasks."""
    family = problem(config)
    episodes = stack(
        [family.sample(split, stream(TASK_SEED, split, 0, task)) for task in tasks]
    )
    theta = np.tile(theta, (len(tasks), 1))
    alpha = family.test_alpha(steps) if family.test_alpha else family.alpha
    # A task on which the steps diverge is told by its score.
    with np.errstate(over="ignore", invalid="ignore"):
        thetas = maml.path(theta, family.task(episodes), alpha, steps)
        return np.stack([family.score(theta_k, episodes) for theta_k in thetas])


def interval(scores: Array) -> tuple[Array, Array]:
    """Return the mean over the last axis and half the width of its 95 % interval.

    Computed in float64: scores that diverge have squares beyond float32.
    """
    scores = scores.astype(float)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = scores.std(axis=-1, ddof=1) / np.sqrt(scores.shape[-1])
        return scores.mean(axis=-1), NORMAL_95 * spread


def as_json(config: Config, split: str, iteration: int, scores: Array) -> str:
    """Return the result for machines: mean and half-width after each step.

    What is not finite becomes null, for which JSON has no number.
    """
    mean, half = interval(scores)
    told = {
        "experiment": config.name,
        "score": config.score,
        "split": split,
        "iteration": iteration,
        "tasks": scores.shape[1],
        "mean": _finite(mean),
        "half_width_95": _finite(half),
        **({"anchors": config.anchors} if config.anchors else {}),
    }
    return json.dumps(told, indent=2) + "\n"


def _finite(numbers: Array) -> list[float | None]:
    return [x if np.isfinite(x) else None for x in numbers.tolist()]


def as_table(config: Config, scores: Array, shown: tuple[int, ...]) -> str:
    """Return the result for people: one line per shown number of gradient steps."""
    mean, half = interval(scores)
    percent = config.score == "accuracy"
    factor, digits, unit = (100, 2, " %") if percent else (1, 4, "")
    lines = [f"gradient steps   {config.score} on {scores.shape[1]} tasks (95 % interval)"]
    for step in shown:
        if step < len(mean):
            low, high = factor * mean[step], factor * half[step]
            lines.append(f"{step:>14}   {low:.{digits}f} +- {high:.{digits}f}{unit}")
    lines += [f"{name:>14}   {score:.{digits}f}" for name, score in config.anchors.items()]
    return "\n".join(lines)
