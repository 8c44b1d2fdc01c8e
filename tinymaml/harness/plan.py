"""The runs of one training: new or resumed, of one or several seeds."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tinymaml.errors import WorldError
from tinymaml.experiments import check_split
from tinymaml.experiments.common import Config, check_parameters, check_resumable
from tinymaml.fewshot import drawn
from tinymaml.harness import checkpoints, runs
from tinymaml.harness.step import training


class Plan(NamedTuple):
    """The folder of a training, and the folder and configuration of each of its runs."""

    folder: Path
    runs: list[tuple[Path, Config]]


class Held(NamedTuple):
    """A plan whose folders are locked, and for each run the check of its lock."""

    plan: Plan
    checks: list[Callable[[], None]]


@contextmanager
def held(make: Callable[[str | None], Plan], out: str | None) -> Iterator[Held]:
    """Make and lock the folders of the plan make(out), and make it again under the locks.

    Another process may have begun or changed a run since the plan was made.
    make(out) -> a plan; it writes nothing, and raises where something does not fit
    out: the folder, which may exist; None for a new one, which is the next free number
    """
    plan = make(out)
    while out is None:
        try:
            plan.folder.mkdir(parents=True)
            out = str(plan.folder)
        except FileExistsError:  # another process took this number
            plan = make(None)
    with ExitStack() as stack:
        checks = []
        for path, _ in plan.runs:
            path.mkdir(parents=True, exist_ok=True)
            checks.append(stack.enter_context(runs.locked(path)))
        again = make(out)
        if [path for path, _ in again.runs] != [path for path, _ in plan.runs]:
            raise WorldError(f"the runs in {out!r} have changed meanwhile; start again")
        yield Held(again, checks)


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
    planned = []
    for seed in range(config.seed, config.seed + seeds):
        path, wanted = folder / f"{runs.SEED}{seed}", config.with_changes({"seed": seed})
        if path in begun:
            wanted = resumed(path, runs.read_config(path), wanted)
        planned.append((path, wanted))
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
        config = resumed(path, saved, saved.with_changes(changes))
        check_size(config)
        planned.append((path, config))
    return Plan(folder, planned)


def resumed(path: Path, saved: Config, wanted: Config) -> Config:
    """Return the options with which a run goes on; it keeps the iterations that it has.

    Raises UsageError when a fixed option was changed.
    """
    check_resumable(saved, wanted)
    done = (state.iteration for _, state in checkpoints.states(path, wanted, []))
    least = max(wanted.iterations, next(done, 0))
    return wanted.restored(wanted.values() | {"iterations": least})


def check_size(config: Config) -> None:
    """Raise UsageError when the options do not fit the data or ask for a huge model.

    Raises WorldError when the data are missing or damaged. Only splits that the run draws
    tasks of are checked.
    """
    check_parameters(checkpoints.size(config))
    if config.iterations:
        drawn(training(config), config.seed, "train", 0, range(1))
    if (config.iterations and config.validate_every) or not config.uses("alpha"):
        check_split(config, "val")
    if config.test:
        check_split(config, "test")
