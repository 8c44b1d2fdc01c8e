"""What is found about a run, or several with the same options, on held-out tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinymaml.errors import UsageError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.harness import evaluation
from tinymaml.harness.checkpoints import Kept
from tinymaml.harness.evaluation import interval, tuned
from tinymaml.harness.loop import initial_state
from tinymaml.harness.step import own_tasks


Array = np.ndarray

# The two-sided 95 % of Student's t with 1, 2, ... 30 degrees of freedom, from its tables.
STUDENT_95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


class Result(NamedTuple):
    """How one or several runs with the same options do on the same held-out tasks.

    config: of the first run, as it adapted
    trained: the same as it was trained, perhaps with other shots
    seeds, iterations, validations: of each run; a validation is nan where the theta was
        not chosen by validation tasks
    tasks_sha256: what `fingerprint` gives
    scores: (runs, steps + 1, tasks) after 0, 1, ..., steps gradient steps
    alone: (runs, len(alone_steps), tasks), each query example judged on its own, after
        alone_steps steps; None for a model to which that makes no difference
    remarks: what else is to be told, a line each
    """

    config: Config
    trained: Config
    split: str
    seeds: tuple[int, ...]
    iterations: tuple[int, ...]
    validations: tuple[float, ...]
    tasks_sha256: str
    scores: Array
    alone: Array | None
    alone_steps: tuple[int, ...]
    remarks: tuple[str, ...]


def judge(
    config: Config,
    kept: Kept,
    split: str,
    tasks: int,
    steps: int,
    alone_steps: Iterable[int],
    engine: Executor,
    shots: int | None = None,
) -> Result:
    """Return the result of one theta on the first `tasks` fixed tasks of a split.

    config: of the training; shots: examples to adapt on, where they are others
    alone_steps: after which of the `steps` steps each query example is judged alone too
    """
    trained = config
    if shots is not None:
        config = config.with_changes({"shots": shots})
    config = tuned(config, kept.theta, steps, engine)
    scores = evaluation.evaluate(config, kept.theta, split, tasks, steps, engine)
    alone, alone_steps = None, tuple(alone_steps)
    if alone_steps and problem(config).score_alone:
        alone = evaluation.evaluate_alone(
            config, kept.theta, split, tasks, alone_steps, engine
        )[None]
    remarks = (
        *evaluation.tuning_remarks(config, steps),
        *config.method.remarks(kept.theta, problem(config), own_tasks(config, engine)),
        *diverged(scores),
        *unimproved(config, kept, steps, tasks, engine),
    )
    return Result(
        config=config,
        trained=trained,
        split=split,
        seeds=(config.seed,),
        iterations=(kept.iteration,),
        validations=(kept.validation,),
        tasks_sha256=evaluation.fingerprint(config, split, tasks, engine),
        scores=scores[None],
        alone=alone,
        alone_steps=alone_steps,
        remarks=remarks,
    )


@np.errstate(over="ignore", invalid="ignore")
def unimproved(
    config: Config, kept: Kept, steps: int, tasks: int, engine: Executor
) -> list[str]:
    """Return a line when training did not improve the score after `steps` steps.

    config: as it adapts
    tasks: the number of validation tasks at most; test tasks have no part in it

    The score must be better, beyond the 95 % interval of the difference, than that of the
    untrained net after as many steps; and, by more than its own interval, than before the
    first step, unless an oracle need not adapt. Data without validation classes, and
    scores that diverge, have no line.
    """
    if not (steps and kept.iteration):
        return []
    tasks = min(tasks, config.validation_tasks)
    thetas = kept.theta, initial_state(config).theta
    try:
        trained, untrained = (
            evaluation.evaluate(config, theta, "val", tasks, steps, engine).astype(float)
            for theta in thetas
        )
    except UsageError:
        return []
    after, sign = trained[-1], 1 if config.score.higher_is_better else -1
    others = [("from the untrained net", untrained[-1], after - untrained[-1])]
    if not config.method.sees_task:
        others.append(("before them", trained[0], after))
    for name, other, uncertain in others:
        gain, (_, half) = sign * (after - other).mean(), interval(uncertain)
        if gain <= half < np.inf:
            told = f"no clear improvement: on {tasks} validation tasks {config.score.name}"
            told += f" {after.mean():.4f} after {steps} gradient steps, {other.mean():.4f}"
            told += f" {name} (half of the 95 % interval is {half:.4f})"
            return [told + _advice(config, gain < -half)]
    return []


def _advice(config: Config, worse: bool) -> str:
    if config.method.iterate:  # the average of nets that fit their tasks may be poor
        return ""
    step = "--max-kl" if getattr(config, "outer", "adam") == "trpo" else "--beta"
    size = "smaller" if worse else "larger"
    return f"; try more --iterations, a {size} {step} or another --seed"


def diverged(scores: Array) -> list[str]:
    """Return a line on the tasks whose last score (steps + 1, tasks) is not finite."""
    finite = np.isfinite(last := scores[-1])
    if finite.all():
        return []
    told = f"{np.sum(~finite)} of {len(last)} tasks diverged; the median is"
    return [f"{told} {np.median(np.where(finite, last, np.inf)):.4f}"]


def alike(runs: Sequence[tuple[Path, Config]]) -> list[list[int]]:
    """Return the numbers of the runs that differ in their seeds only, a list of each kind.

    runs: the folder and the options of each
    Raises UsageError when two of a kind have the same seed: they are one sample.
    """
    kinds: dict[Config, dict[int, int]] = {}
    for number, (path, config) in enumerate(runs):
        seeds = kinds.setdefault(config.but_for_its_seed(), {})
        if config.seed in seeds:
            other, _ = runs[seeds[config.seed]]
            told = f"{str(other)!r} and {str(path)!r}"
            raise UsageError(f"{told} have the same options and seed")
        seeds[config.seed] = number
    return [[*seeds.values()] for seeds in kinds.values()]


def pooled(results: Sequence[Result]) -> Result:
    """Return the result of several runs from that of each.

    Raises ValueError when they are not of the same tasks.
    """
    if len({result.tasks_sha256 for result in results}) > 1:
        raise ValueError("these results are of different tasks")

    def joined(name: str) -> tuple:
        return sum((getattr(result, name) for result in results), ())

    alone = [result.alone for result in results]
    return results[0]._replace(
        seeds=joined("seeds"),
        iterations=joined("iterations"),
        validations=joined("validations"),
        scores=np.concatenate([result.scores for result in results]),
        alone=None if alone[0] is None else np.concatenate(alone),
        remarks=joined("remarks") if len(results) == 1 else _by_seed(results),
    )


def _by_seed(results: Sequence[Result]) -> tuple[str, ...]:
    """The remarks of several runs, each with the seed of its run."""
    return tuple(
        f"seed {one.seeds[0]}: {remark}" for one in results for remark in one.remarks
    )


@np.errstate(over="ignore", invalid="ignore")
def over_tasks(scores: Array) -> tuple[Array, Array]:
    """Return mean and half the 95 % interval over tasks of scores (runs, k, tasks): (k,).

    Every task counts once, with its mean over the runs.
    """
    return interval(scores.astype(float).mean(axis=0))


@np.errstate(over="ignore", invalid="ignore")
def over_seeds(scores: Array) -> Array:
    """Return half the 95 % interval over runs of their means: (runs, k, tasks) -> (k,).

    Runs are few, so that Student's t tells the width. There must be at least two.
    """
    means = scores.astype(float).mean(axis=-1)
    t = STUDENT_95[min(len(means) - 1, len(STUDENT_95)) - 1]
    return t * means.std(axis=0, ddof=1) / np.sqrt(len(means))


def is_final(result: Result) -> bool:
    """Return whether a result of one run is what the end of its training reports."""
    trained = result.trained
    shape = 1, trained.test_steps + 1, trained.test_tasks
    same_shots = result.config.values().get("shots") == trained.values().get("shots")
    return result.split == "test" and result.scores.shape == shape and same_shots
