"""What pictures are drawn from: run folders, and the name and scores of each line.

Runs that differ only in their seeds are a group, and one line. Nothing that is drawn comes
from a live object: a picture can be drawn again from the folder alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinymaml.errors import UsageError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode
from tinymaml.harness import checkpoints, evaluation, results, runs
from tinymaml.report import names, tables
from tinymaml.report.tables import Evaluation


Array = np.ndarray


class Run(NamedTuple):
    """A run's folder and its configuration."""

    path: Path
    config: Config


class Group(NamedTuple):
    """Runs that differ only in their seeds, and what they are called."""

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
    """A run's theta (M,), and how it does on held-out tasks.

    config: with the step size with which held-out tasks are adapted to
    """

    config: Config
    theta: Array
    found: Evaluation


def read(folders: Sequence[Path], data: str | None = None) -> list[Group]:
    """Return the runs in folders of one or of several seeds, those of equal options as one.

    data: the data file, when it has moved
    Raises UsageError for runs of different experiments or of the same seed, WorldError
    where there is no run.
    """
    paths = [path for folder in dict.fromkeys(folders) for path in runs.members(folder)]
    found = [Run(path, runs.read_config(path, data)) for path in paths]
    alike = [[found[i] for i in numbers] for numbers in results.alike(found)]
    experiments = sorted({run.config.name for run in found})
    if len(experiments) > 1:
        raise UsageError(f"runs of {' and '.join(experiments)} do not share a picture")
    kinds = [first.config.but_for_its_seed() for first, *_ in alike]
    return [*map(Group, names.labels(kinds), alike)]


def title(groups: Sequence[Group]) -> str:
    """Return what the groups' tasks have in common, as "Sine, K = 10"."""
    return names.title([group.config for group in groups])


# ----- How they do on held-out tasks -----


def judged(run: Run, fallback: bool) -> Judged | None:
    """Return how a run does, from its evaluation.json; None where it was not evaluated.

    An evaluation of another theta than the run has now does not count.
    fallback: use an older theta when the newest is damaged
    Raises WorldError when the run has no theta.
    """
    path, config = run
    kept, found = checkpoints.load(path, config, fallback=fallback), tables.saved(path)
    if found is None or found.iteration != kept.iteration:
        return None
    config = config.restored(config.values() | {"alpha": found.alpha})
    return Judged(config, kept.theta, found)


def scores(some: Sequence[Judged]) -> tuple[Array, Array]:
    """Return mean and half the 95 % interval (steps + 1,) of the runs of a group.

    The interval is over tasks where there is one run, else over the runs' means.
    """
    if len(some) == 1:
        return some[0].found.mean, some[0].found.half
    steps = min(len(one.found.mean) for one in some)
    means = np.stack([one.found.mean[:steps] for one in some])
    return means.mean(axis=0), results.over_seeds(means[..., None])


def adapted(one: Judged, episodes: Episode, tasks: int, steps: int) -> list[Array]:
    """Return the thetas (tasks, P) on those tasks after 0, 1, ..., steps steps."""
    start = one.config.method.start(one.theta, problem(one.config))
    return evaluation.adapted(one.config, start, episodes, tasks, steps)
