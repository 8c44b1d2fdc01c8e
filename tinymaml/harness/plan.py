"""The runs of one training: new or resumed, of one or several seeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments.common import Config, check_resumable
from tinymaml.harness import checkpoints, runs
from tinymaml.harness.step import training


MOST_PARAMETERS = 10**7  # far above any use on a CPU


class Plan(NamedTuple):
    """The folder of a training, and the folder and configuration of each of its runs."""

    folder: Path
    runs: list[tuple[Path, Config]]


def new_runs(config: Config, out: str | None, seeds: int) -> Plan:
    """Return the plan of new runs, of config's seed and the next ones.

    Several seeds resume the runs that the folder has already.
    out: the folder; None for the next free one in runs/
    Raises UsageError or WorldError when something does not fit. It writes nothing.
    """
    check_size(config)
    folder = runs.new_folder(out, config.name)
    begun = runs.members(folder)
    if seeds == 1:
        if begun != [folder]:
            raise WorldError(f"{str(folder)!r} holds runs of several seeds")
        return Plan(folder, [(folder, config)])
    planned = [
        (folder / f"{runs.SEED}{seed}", config.with_changes({"seed": seed}))
        for seed in range(config.seed, config.seed + seeds)
    ]
    for path, wanted in planned:
        if path in begun:
            check_resumable(runs.read_config(path), wanted)
    return Plan(folder, planned)


def resumed_runs(folder: Path, changes: Mapping[str, Any]) -> Plan:
    """Return the plan of the runs in a folder, with some options changed.

    Raises UsageError when a changed option is fixed, WorldError when there is no run.
    """
    planned = []
    for path in runs.members(folder):
        saved = runs.read_config(path)
        if (path / runs.THETA).exists():
            raise WorldError(f"{str(path)!r} holds a theta only; there is no run to resume")
        config = saved.with_changes(changes)
        check_resumable(saved, config)
        check_size(config)
        planned.append((path, config))
    return Plan(folder, planned)


def check_size(config: Config) -> None:
    """Raise UsageError when the options do not fit the data or ask for a huge model."""
    training(config)
    if (count := checkpoints.size(config)) > MOST_PARAMETERS:
        raise UsageError(f"the model has {count} parameters, more than {MOST_PARAMETERS}")
