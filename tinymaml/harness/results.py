"""Results of one run, or of several with the same options, on held-out tasks."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinymaml.errors import UsageError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.harness import evaluation
from tinymaml.harness import ways as ways_of
from tinymaml.harness.checkpoints import Kept
from tinymaml.harness.evaluation import choice
from tinymaml.harness.loop import initial_state
from tinymaml.harness.step import own_tasks
from tinymaml.losses import Score
from tinymaml.maml import Array
from tinymaml.speed.workers import Engine
from tinymaml.summary import interval, lacking, lost


class Result(NamedTuple):
    """Scores of one or several runs with the same options on the same held-out tasks.

    config: the first run's options when it adapted
    trained: its options in training, perhaps with other shots
    seeds, iterations, validations: one for each run; a validation is nan where validation
        tasks did not choose the theta
    tasks_sha256: the `fingerprint` of the tasks
    scores: (runs, steps + 1, tasks) after 0, 1, ..., steps gradient steps
    alone: (runs, len(alone_steps), tasks), each query example scored on its own after
        alone_steps steps; None for a model to which that makes no difference
    remarks: further lines for the reader
    """

    config: Config
    trained: Config
    split: str
    seeds: tuple[int, ...]
    iterations: tuple[int, ...]
    validations: tuple[float, ...]
    tasks_sha256: str
    scores: Any  # Array; `report.tables.Figures` of a result that is read from a file
    alone: Any
    alone_steps: tuple[int, ...]
    remarks: tuple[str, ...]


def judge(
    config: Config,
    kept: Kept,
    split: str,
    tasks: int,
    steps: int,
    alone_steps: Iterable[int],
    engine: Engine,
    shots: int | None = None,
    ways: int | None = None,
    within: str | None = None,
) -> Result:
    """Return the result of one theta on the first `tasks` fixed tasks of a split.

    config: the options in training
    alone_steps: the steps after which each query example is also scored on its own
    shots, ways: number of support examples, of classes, if other than in training
    within: the group of a task's classes, if other than in training
    """
    trained, w, alone, resized = config, kept.theta, None, ""
    if ways is not None:
        config, w, resized = ways_of.resized(config, w, ways)
        kept = kept._replace(theta=w)
    if shots is not None:
        config = config.with_changes({"shots": shots})
    if within is not None:
        if "within" not in config.options:
            raise UsageError(f"{config.name} has no --within")
        config = config.with_changes({"within": within})
    (config, chosen), alone_steps = choice(config, w, steps, engine), tuple(alone_steps)
    scores = evaluation.evaluate(config, w, split, tasks, steps, engine)
    if alone_steps and problem(config).score_alone:
        alone = evaluation.evaluate_alone(config, w, split, tasks, alone_steps, engine)
    return Result(
        config,
        trained,
        split,
        seeds=(config.seed,),
        iterations=(kept.iteration,),
        validations=(kept.validation,),
        tasks_sha256=evaluation.fingerprint(config, split, tasks, engine),
        scores=scores[None],
        alone=None if alone is None else alone[None],
        alone_steps=alone_steps,
        remarks=(
            *filter(None, [resized]),
            *chosen,
            *config.method.remarks(w, problem(config), own_tasks(config, engine)),
            *diverged(config.score, scores),
            *unimproved(config, kept, steps, tasks, engine),
        ),
    )


@np.errstate(over="ignore", invalid="ignore")
def unimproved(
    config: Config, kept: Kept, steps: int, tasks: int, engine: Engine
) -> list[str]:
    """Return a line when training did not improve the score after `steps` steps.

    config: the options when it adapts
    tasks: the largest number of validation tasks; test tasks are not used

    The score must exceed the untrained net's by more than the 95 % interval of the
    difference. It must also exceed the score before the first step by its own interval; an
    oracle is exempt. A score that is not finite has another line: it was not compared. Data
    without validation classes have none.
    """
    if not (steps and kept.iteration):
        return []
    tasks = min(tasks, config.validation_tasks)
    try:
        trained, untrained = (
            evaluation.evaluate(config, w, "val", tasks, steps, engine).astype(float)
            for w in (kept.theta, initial_state(config).theta)
        )
    except UsageError:
        return []
    after, sign = trained[-1], 1 if config.score.higher_is_better else -1
    on = f"on {tasks} validation tasks {config.score.name}"
    if missing := lacking(after):
        return [f"improvement unknown: {on} after {steps} gradient steps is {missing}"]
    others = [("from the untrained net", untrained[-1], after - untrained[-1])]
    if not config.method.sees_task:
        others.append(("before them", trained[0], after))
    for name, other, uncertain in others:
        gain, (_, half) = sign * (after - other).mean(), interval(uncertain)
        if gain <= half < np.inf:
            line = f"no clear improvement: {on}"
            now, then, width = map(config.score.shown, (after.mean(), other.mean(), half))
            line += f" {now} after {steps} gradient steps, {then} {name}"
            line += f" (half of the 95 % interval is {width})"
            if not config.method.iterate:  # the average of nets that fit may well be poor
                step = "--max-kl" if getattr(config, "outer", "") == "trpo" else "--beta"
                size = "smaller" if gain < -half else "larger"
                line += f"; try more --iterations, a {size} {step} or another --seed"
            return [line]
    return []


def diverged(score: Score, scores: Array) -> list[str]:
    """Return a line on the tasks whose last score (steps + 1, tasks) is not finite.

    They are the worst in its median.
    """
    last, count = scores[-1].astype(float), int(lost(scores[-1]))
    if not count:
        return []
    worst = -np.inf if score.higher_is_better else np.inf
    median = score.shown(np.median(np.where(np.isfinite(last), last, worst)))
    return [f"{count} of {len(last)} tasks diverged; the median is {median}"]


def alike(runs: Sequence[tuple[Path, Config]]) -> list[list[int]]:
    """Group the numbers of runs (folder, options) that differ only in their seeds.

    Raises UsageError when two of a group have the same seed: they are one sample.
    """
    kinds: dict[Config, dict[int, int]] = {}
    for number, (path, config) in enumerate(runs):
        seeds = kinds.setdefault(config.but_for_its_seed(), {})
        if config.seed in seeds:
            both = f"{str(runs[seeds[config.seed]][0])!r} and {str(path)!r}"
            raise UsageError(f"{both} have the same options and seed")
        seeds[config.seed] = number
    return [[*seeds.values()] for seeds in kinds.values()]


def pooled(results: Sequence[Result]) -> Result:
    """Pool the results of several runs. Raises ValueError if their tasks differ."""
    if len({one.tasks_sha256 for one in results}) > 1:
        raise ValueError("these results are of different tasks")
    first, *others = results
    if not others:
        return first
    each = ("seeds", "iterations", "validations")
    joined: dict[str, Any] = {
        k: sum((getattr(one, k) for one in results), ()) for k in each
    }
    return first._replace(
        **joined,
        scores=np.concatenate([one.scores for one in results]),
        alone=None if first.alone is None else np.concatenate([x.alone for x in results]),
        remarks=tuple(f"seed {one.seeds[0]}: {x}" for one in results for x in one.remarks),
    )


@np.errstate(over="ignore", invalid="ignore")
def over_tasks(scores: Array) -> tuple[Array, Array]:
    """Return mean and half the 95 % interval over tasks: (runs, k, tasks) -> (k,), (k,)."""
    return interval(scores.astype(float).mean(axis=0))


@np.errstate(over="ignore", invalid="ignore")
def over_seeds(scores: Array) -> Array:
    """Return half the 95 % interval (k,) of the runs' means; there are at least two."""
    return interval(scores.astype(float).mean(axis=-1).T)[1]


def is_final(result: Result) -> bool:
    """Return whether a result of one run is the one reported after its training."""
    trained = result.trained
    shape = 1, trained.test_steps + 1, trained.test_tasks
    tasks = [
        name
        for name, option in trained.options.items()
        if option.role.task or name == "within"
    ]
    same = all(getattr(result.config, k) == getattr(trained, k) for k in tasks)
    return result.split == "test" and result.scores.shape == shape and same
