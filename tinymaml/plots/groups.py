"""What pictures are drawn from: run folders, and the name and scores of each line.

Runs that differ in their seeds only are a group, and one line. Nothing that is drawn
comes from a live object: a picture can be drawn again from the folder alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinymaml import maml
from tinymaml.cli.options import shown
from tinymaml.errors import UsageError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode
from tinymaml.harness import results, runs, thetas
from tinymaml.report import tables


Array = np.ndarray

NAMES = {
    "maml": "MAML",
    "maml-low-memory": "MAML",
    "fomaml": "first-order MAML",
    "e-maml": "E-MAML",
    "random": "random initial values",
    "averaged": "averaged regressors",
    "averaged-l2": "averaged, pulled to zero",
    "averaged-mean": "averaged, pulled to their mean",
}
TITLES = {
    "sine": "Sine",
    "glyphs": "Glyphs",
    "omniglot": "Omniglot",
    "miniimagenet": "mini-ImageNet",
    "pointnav": "2D navigation",
}
TASKS = ("ways", "shots")  # options that every label or the title tells


class Run(NamedTuple):
    """A run's folder and its configuration."""

    path: Path
    config: Config


class Group(NamedTuple):
    """Runs that differ in their seeds only, and what they are called."""

    label: str
    runs: list[Run]

    @property
    def config(self) -> Config:
        """The configuration of the first."""
        return self.runs[0].config

    @property
    def first(self) -> str:
        """What the first is called where it alone is shown."""
        seeds = len(self.runs)
        return f"{self.label}, first of {seeds} seeds" if seeds > 1 else self.label


class Judged(NamedTuple):
    """How a run does on held-out tasks.

    config: with the step size with which held-out tasks adapt
    theta: all that was trained, as a run's state has it
    mean, half: the score after 0, 1, ... steps, and half its 95 % interval over tasks
    tasks: their number
    """

    config: Config
    theta: Array
    mean: Array
    half: Array
    tasks: int


# ----- Which runs, and their names -----


def read(folders: Sequence[Path], data: str | None = None) -> list[Group]:
    """Return the runs in folders of one or of several seeds, those of equal options as one.

    data: the data file, when it has moved
    Raises UsageError for runs of different experiments or of the same seed, WorldError
    where there is no run.
    """
    paths = [path for folder in dict.fromkeys(folders) for path in runs.members(folder)]
    found = [Run(path, runs.read_config(path, data)) for path in paths]
    alike = [[found[i] for i in numbers] for numbers in results.alike(found)]
    names = sorted({run.config.name for run in found})
    if len(names) > 1:
        raise UsageError(f"runs of {' and '.join(names)} do not share a picture")
    kinds = [results.but_for_its_seed(first.config) for first, *_ in alike]
    return [*map(Group, labels(kinds), alike)]


def labels(configs: Sequence[Config]) -> list[str]:
    """Return what to call runs: the algorithm, and the options in which they differ."""
    told = [_label(config) for config in configs]
    tasks = [_task(config) for config in configs]
    if len({*tasks}) > 1:
        told = [", ".join(pair) for pair in zip(told, tasks, strict=True)]
    rivals: dict[str, list[Config]] = {}
    for label, config in zip(told, configs, strict=True):
        rivals.setdefault(label, []).append(config)
    return [
        ", ".join([label, *_apart(config, rivals[label])])
        for label, config in zip(told, configs, strict=True)
    ]


def _label(config: Config) -> str:
    if getattr(config, "context", 0):
        return f"context vector of {config.context}"
    name = NAMES.get(config.algorithm, config.algorithm)
    if not config.uses("inner_steps"):
        return name
    return f"{name}, {config.inner_steps} inner step" + "s" * (config.inner_steps != 1)


def _apart(config: Config, rivals: Sequence[Config]) -> list[str]:
    """Name and value of the options in which configurations of equal labels differ."""
    return [
        f"{field.name.replace('_', '-')} {shown(getattr(config, field.name))}"
        for field in dataclasses.fields(config)
        if field.name not in TASKS
        and len({getattr(rival, field.name) for rival in rivals}) > 1
    ]


def _task(config: Config) -> str:
    if hasattr(config, "ways"):
        return f"{config.ways}-way {config.shots}-shot"
    return f"K = {config.shots}" if hasattr(config, "shots") else ""


def title(groups: Sequence[Group]) -> str:
    """Return what the groups' tasks have in common, as "Sine, K = 10"."""
    config = groups[0].config
    name = TITLES.get(config.name, config.name) if config.is_original else "Images"
    tasks = {_task(group.config) for group in groups}
    shared = [*tasks] if len(tasks) == 1 else []
    return ", ".join(filter(None, [name, *shared]))


# ----- How they do on held-out tasks -----


def tested(group: Group) -> bool:
    """Return whether test tasks may be looked at: not in place of train --no-test."""
    return all(
        run.config.test or (run.path / runs.EVALUATION).exists() for run in group.runs
    )


def judged(group: Group, engine: Executor, fallback: bool = False) -> list[Judged]:
    """Return how the runs of a group do, from each one's evaluation.json.

    Where that is missing, or of another theta than the run has now, the run is evaluated
    as at the end of a training, and the file is written.
    fallback: use an older theta where the newest is damaged
    Raises WorldError when a run has no theta.
    """
    return [_judged(run, engine, fallback) for run in group.runs]


def _judged(run: Run, engine: Executor, fallback: bool) -> Judged:
    path, config = run
    kept = thetas.load(path, config, fallback=fallback)
    told = _evaluation(path)
    if told is None or told["iterations"] != [kept.iteration]:
        steps, tasks = config.test_steps, config.test_tasks
        found = results.judge(config, kept, "test", tasks, steps, [steps], engine)
        runs.write(path / runs.EVALUATION, tables.as_json([found]).encode())
        told = _evaluation(path)
    config = config.with_changes({"alpha": told["alpha"]})
    return Judged(config, kept.theta, told["mean"], told["half"], told["tasks"])


def _evaluation(path: Path) -> dict[str, Any] | None:
    """What evaluation.json tells; nothing where it is missing or not as we write it."""
    try:
        told = json.loads((path / runs.EVALUATION).read_text(encoding="utf-8"))
        found = {
            "iterations": told["iterations"],
            "alpha": float(told["alpha"]),
            # null, which stands for what is not finite, becomes nan.
            "mean": np.array(told["mean"], float),
            "half": np.array(told["half_width_95"], float),
            "tasks": int(told["tasks"]),
        }
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    except (OverflowError, RecursionError):  # too large a number, too deep a list
        return None
    one_each = found["mean"].ndim == 1 and found["mean"].shape == found["half"].shape
    sound = one_each and found["mean"].size and found["tasks"] > 0
    return found if sound and 0 <= found["alpha"] < np.inf else None


def scores(judged: Sequence[Judged]) -> tuple[Array, Array]:
    """Return mean and half the 95 % interval (steps + 1,) of the runs of a group.

    The interval is over tasks where there is one run, else over the runs' means.
    """
    if len(judged) == 1:
        return judged[0].mean, judged[0].half
    steps = min(len(one.mean) for one in judged)
    means = np.stack([one.mean[:steps] for one in judged])
    return means.mean(axis=0), results.over_seeds(means[..., None])


@np.errstate(over="ignore", invalid="ignore")  # steps may diverge
def adapted(judged: Judged, episodes: Episode, steps: int) -> list[Array]:
    """Return the thetas (tasks, P) on those tasks after 0, 1, ..., steps steps."""
    family = problem(judged.config)
    theta = np.tile(family.start(judged.theta), (len(episodes.x_support), 1))
    return maml.path(theta, family.task(episodes), family.alpha, steps)
