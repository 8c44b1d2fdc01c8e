"""Held-out tasks: the score after each gradient step.

The tasks are a fixed list, the same for every run and seed. Equal lists have equal hashes.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode, Episodes, drawn
from tinymaml.maml import Array
from tinymaml.speed.workers import Engine, gather, spans
from tinymaml.summary import NOT_FINITE


TASK_SEED = 0


def evaluate(
    config: Config, w: Array, split: str, tasks: int, steps: int, engine: Engine
) -> Array:
    """Return the score (steps + 1, tasks) after 0, 1, ..., steps steps from w (M,)."""
    start = config.method.start(w, problem(config))
    chunks = spans(tasks, config.test_chunk)
    scores = gather(engine, chunk_scores, (config, start, split, steps), chunks)
    return np.concatenate(scores, axis=1)


def evaluate_alone(
    config: Config, w: Array, split: str, tasks: int, steps: Sequence[int], engine: Engine
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
    score = problem(config).score
    return np.stack([of_finite(theta_k, score(theta_k, episodes)) for theta_k in thetas])


@np.errstate(over="ignore", invalid="ignore")
def chunk_alone(
    config: Config, start: Array, split: str, steps: Sequence[int], tasks: range
) -> Array:
    """Return the score (len(steps), len(tasks)), each query example on its own."""
    episodes = held_out(config, split, tasks)
    thetas = adapted(config, start, episodes, len(tasks), max(steps))
    score = problem(config).score_alone
    if score is None:
        raise TypeError(f"{config.name}: the examples of a batch do not see each other")
    return np.stack([of_finite(thetas[k], score(thetas[k], episodes)) for k in steps])


def of_finite(theta: Array, scores: Array) -> Array:
    """Return the scores (T,), nan for a task whose theta (T, P) is not finite.

    The outputs of such a theta may be finite: tanh(inf) is 1.
    """
    return np.where(np.isfinite(theta).all(axis=-1), scores, np.nan)


@np.errstate(over="ignore", invalid="ignore")
def adapted(
    config: Config, start: Array, episodes: Episode, tasks: int, steps: int
) -> list[Array]:
    """Return [theta_0, ..., theta_steps], (tasks, P) each, adapted to the tasks' episodes.

    start: (M',), made by the algorithm's `start` from everything meta-learned
    """
    family, starts = problem(config), np.tile(start, (tasks, 1))
    return config.method.adapt(starts, family.task(episodes), family.at_test(steps), steps)


def held_out(config: Config, split: str, tasks: range) -> Episodes:
    """Return a chunk of the fixed tasks of a split, stacked."""
    return drawn(problem(config), TASK_SEED, split, 0, tasks)


def tuned(config: Config, w: Array, steps: int, engine: Engine) -> Config:
    """Return the options for adapting to held-out tasks, with a tuned step size."""
    return choice(config, w, steps, engine)[0]


def choice(
    config: Config, w: Array, steps: int, engine: Engine
) -> tuple[Config, list[str]]:
    """Return the options for adapting to held-out tasks, and a remark on the step size.

    Where alpha is an option in use, they do not change. Otherwise alpha is the one of its
    `step_sizes` with the best mean score after `steps` steps on validation tasks; test
    tasks are not used. Without a finite score it is the smallest, and the remark says so.
    Source: section 5.1, "an automatically tuned step size".
    """
    if config.uses("alpha") or steps == 0:
        return config, []
    sizes, tasks = config.step_sizes, f"{config.validation_tasks} validation tasks"
    tried = [config.restored(config.values() | {"alpha": alpha}) for alpha in sizes]
    costs = [_cost(one, w, steps, engine) for one in tried]
    best = int(np.argmin(costs))
    if not np.isfinite(costs[best]):
        best = int(np.argmin(sizes))
        failed = f"the score of all {len(sizes)} is {NOT_FINITE} on {tasks}"
        return tried[best], [f"step size {sizes[best]:g}, not tuned: {failed}"]
    edge = ", at an end of the range" * (best in (0, len(sizes) - 1))
    chosen = f"step size {sizes[best]:g}, the best of {len(sizes)}"
    return tried[best], [f"{chosen} on {tasks}{edge}"]


@np.errstate(over="ignore", invalid="ignore")
def _cost(config: Config, w: Array, steps: int, engine: Engine) -> float:
    tasks = config.validation_tasks
    last = evaluate(config, w, "val", tasks, steps, engine)[-1].astype(float)
    cost = -last.mean() if config.score.higher_is_better else last.mean()
    return cost if np.isfinite(cost) else np.inf


def fingerprint(config: Config, split: str, tasks: int, engine: Engine) -> str:
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
        found.update(np.ascontiguousarray(array).data)
    return found.digest()
