"""Run folders, read for pictures; runs that differ only in their seeds are a group.

A picture needs the folder alone, so that it can be drawn again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tinymaml.errors import UsageError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode
from tinymaml.harness import checkpoints, evaluation, results, runs
from tinymaml.maml import Array
from tinymaml.report import names, tables
from tinymaml.report.tables import Evaluation


class Run(NamedTuple):
    """A run's folder and its configuration."""

    path: Path
    config: Config


class Group(NamedTuple):
    """Runs that differ only in their seeds, and their label."""

    label: str
    runs: list[Run]

    @property
    def config(self) -> Config:
        """The configuration of the first."""
        return self.runs[0].config

    @property
    def name(self) -> str:
        """The name of a line that stands for all."""
        return self.label + f", {len(self.runs)} seeds" * (len(self.runs) > 1)

    @property
    def first(self) -> str:
        """The name of the first where it alone is shown."""
        return self.label + f", first of {len(self.runs)} seeds" * (len(self.runs) > 1)


class Judged(NamedTuple):
    """A run's theta (M,), and its evaluation on held-out tasks.

    config: with the step size of the evaluation
    """

    config: Config
    theta: Array
    found: Evaluation


def read(folders: Sequence[Path], data: str | None = None) -> list[Group]:
    """Return the runs in folders of one or of several seeds, in groups of equal options.

    data: the data file, when it has moved
    Raises UsageError for runs of different experiments or of the same seed, WorldError
    where there is no run.
    """
    paths = [path for folder in dict.fromkeys(folders) for path in runs.members(folder)]
    found = [*map(Run, paths, runs.read_configs(paths, data))]
    alike = [[found[i] for i in numbers] for numbers in results.alike(found)]
    experiments = sorted({run.config.name for run in found})
    if len(experiments) > 1:
        raise UsageError(f"runs of {' and '.join(experiments)} do not share a picture")
    kinds = [first.config.but_for_its_seed() for first, *_ in alike]
    return [*map(Group, names.labels(kinds), alike)]


def title(groups: Sequence[Group]) -> str:
    """Return what the groups' tasks have in common, as "Sine, 10 shots"."""
    return names.title([group.config for group in groups])


def judged(run: Run, fallback: bool) -> Judged | None:
    """Return a run's theta and evaluation.json; None where it was not evaluated.

    An evaluation of an older theta counts as none.
    fallback: use an older theta when the newest is damaged
    Raises WorldError when the run has no theta.
    """
    path, config = run
    kept = checkpoints.load(path, config, fallback=fallback)
    found = tables.saved(path, config)
    if found is None or found.iteration != kept.iteration:
        return None
    config = config.restored(config.values() | {"alpha": found.alpha})
    return Judged(config, kept.theta, found)


def adapted(one: Judged, episodes: Episode, tasks: int, steps: int) -> list[Array]:
    """Return the thetas (tasks, P) on those tasks after 0, 1, ..., steps steps."""
    start = one.config.method.start(one.theta, problem(one.config))
    return evaluation.adapted(one.config, start, episodes, tasks, steps)
