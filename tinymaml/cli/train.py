"""`tinymaml train`: begin runs or resume them, then evaluate and draw them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tinymaml import algorithms, plots
from tinymaml.algorithms.algorithm import Algorithm
from tinymaml.cli.options import (
    QUIET,
    SEEDS,
    WORKERS,
    Command,
    Value,
    check_file,
    option_of,
    read_file,
)
from tinymaml.errors import Interrupted, UsageError, WorldError
from tinymaml.experiments import MODULES
from tinymaml.experiments.common import Config, algorithm_of
from tinymaml.harness import checkpoints, loop, plan, results, runs
from tinymaml.harness.checkpoints import Kept
from tinymaml.harness.evaluation import tuned
from tinymaml.harness.results import Result
from tinymaml.report import tables
from tinymaml.speed.machine import versions
from tinymaml.speed.workers import engine


TRAIN_ONLY = (
    click.Option(["--out"], type=Value(str), help="folder of the new run  [runs/NAME-N]"),
    click.Option(["--resume"], type=Value(str), metavar="RUN", help="resume this run"),
    click.Option(
        ["--seeds"],
        type=SEEDS,
        default=1,
        show_default=True,
        help="number of runs, of this seed and the next ones, each in its own folder",
    ),
    click.Option(
        ["--config", "config_file"],
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE.toml",
        help="read options by the same names; the command line overrides them",
    ),
)
# The options of `train` that are not of the configuration.
OTHERS = {
    "workers": WORKERS.type,
    "out": Value(str),
    "resume": Value(str),
    "seeds": SEEDS,
    "quiet": Value(bool),
}


class TrainGroup(click.Group):
    """Chooses the options of `train NAME` by the algorithm that the arguments name.

    `train --resume RUN` needs no experiment's name.
    """

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of the experiments."""
        return [*MODULES]

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Put the experiment's name in front when a run to resume says it."""
        run = _argument(args, "--resume") if args and args[0].startswith("--") else None
        if run is not None:
            first, *_ = runs.members(Path(run))
            args = [runs.read_config(first).name, *args]
        context.obj = args[1:]
        return super().parse_args(context, args)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return the command that trains one experiment."""
        if name not in MODULES:
            return None
        return train_command(
            name, chosen_algorithm(MODULES[name].CONFIG, context.obj or [])
        )


def _argument(args: list[str], flag: str) -> str | None:
    """Return the value of a flag among unparsed arguments: the last, as click takes it."""
    found = None
    for name, value in zip(args, [*args, None][1:], strict=True):
        if name == flag:
            found = value
        elif name.startswith(f"{flag}="):
            found = name.partition("=")[2]
    return found


def chosen_algorithm(kind: type[Config], args: list[str]) -> str:
    """Return the algorithm that the arguments, a file or a run to resume name."""
    file = _argument(args, "--config")
    found = read_file(file) if file is not None and Path(file).is_file() else {}
    name = _argument(args, "--algorithm") or found.get("algorithm")
    run = _argument(args, "--resume") or found.get("resume")
    if name is None and isinstance(run, str):
        with suppress(WorldError):  # about which the command has more to say
            first, *_ = runs.members(Path(run))
            name = runs.read_config(first).algorithm
    return name if isinstance(name, str) else kind.algorithm


@click.group(cls=TrainGroup)
def train() -> None:
    """Train an experiment and evaluate it on held-out tasks.

    `train NAME --algorithm A --help` shows the options of algorithm A too.

    \b
    tinymaml train sine
    tinymaml train omniglot --data omniglot.npz --workers 2
    tinymaml train --resume runs/sine-1
    """


def train_command(name: str, algorithm: str) -> click.Command:
    """Return the command that trains one experiment with an algorithm."""
    kind = MODULES[name].CONFIG
    record = algorithm_of(kind, algorithm)
    choices = (*algorithms.available(kind.setting, kind.offers), "FILE.py:NAME")
    options = [
        option_of(option, choices if option.name == "algorithm" else ())
        for option in kind.options_for(record).values()
    ]
    unknown = partial(kind.unknown, record)
    return Command(
        name,
        unknown,
        params=[*options, WORKERS, *TRAIN_ONLY, QUIET],
        callback=lambda **given: run_training(kind, record, given),
        help=f"{kind.__doc__.splitlines()[0]}\n\nExample: tinymaml train {name} --seed 1",
    )


def run_training(kind: type[Config], record: Algorithm, given: dict[str, Any]) -> None:
    """Begin runs or resume them, then evaluate each and print its table."""
    source = click.get_current_context().get_parameter_source
    typed = {k: v for k, v in given.items() if source(k) is ParameterSource.COMMANDLINE}
    file = typed.pop("config_file", None)
    if file:
        options, unknown = kind.options_for(record), partial(kind.unknown, record)
        typed = check_file(file, read_file(file), options, OTHERS, unknown) | typed
    shared = {name: typed.pop(name, given[name]) for name in OTHERS}
    folder, planned = planned_runs(kind, typed, shared)
    for path, config in planned:  # all of them, so that the folder shows what it is for
        path.mkdir(parents=True, exist_ok=True)
        with runs.locked(path):
            if shared["resume"] is not None and runs.changed_algorithm(path, config):
                changed = f"{config.algorithm} has changed since the run was begun"
                click.echo(f"note: the file of --algorithm {changed}", err=True)
            runs.write_config(path, config, versions())
    found = []
    for path, config in planned:
        with runs.locked(path):
            found.append(train_and_report(path, config, shared, folder))
    if len(found) > 1 and all(found):
        together = results.pooled(found)
        click.echo(f"\n{tables.title(together)}")
        click.echo(tables.as_text([together], config.shown_steps))
        tables.save(folder, together)


def planned_runs(
    kind: type[Config], changes: dict[str, Any], shared: dict[str, Any]
) -> plan.Plan:
    """Return the runs that the options ask for."""
    if shared["resume"] is None:
        config = kind(**changes)
        return plan.new_runs(config, shared["out"], shared["seeds"])
    if shared["out"] is not None:
        raise UsageError("--out and --resume exclude each other")
    resumed = plan.resumed_runs(Path(shared["resume"]), changes)
    for path, config in resumed.runs:
        if type(config) is not kind:
            raise UsageError(f"{str(path)!r} is a run of {config.name}, not {kind.name}")
    if shared["seeds"] not in (1, len(resumed.runs)):
        raise UsageError(f"--seeds: {shared['resume']!r} has {len(resumed.runs)}")
    return resumed


def train_and_report(
    path: Path, config: Config, shared: dict[str, Any], folder: Path
) -> Result | None:
    """Train in the folder `path`, then print, write and draw the result on test tasks.

    With --no-test they are not used, and None is returned.
    """
    click.echo(f"run folder: {path}", err=True)
    with engine(shared["workers"]) as pool:
        try:
            with progress_bar(config, shared["quiet"]) as progress:
                loop.train(path, config, pool, progress)
        except Interrupted as stop:
            stopped = f"interrupted at iteration {stop.iteration}; resume with:"
            click.echo(f"{stopped} tinymaml train --resume {folder}", err=True)
            raise
        theta, steps = checkpoints.load(path, config), config.test_steps
        result = None
        if config.test:
            tasks = config.test_tasks
            result = results.judge(config, theta, "test", tasks, steps, [steps], pool)
            tables.save(path, result)
            if theta.chosen:
                click.echo(tables.title(result))
            click.echo(tables.as_text([result], config.shown_steps))
        else:
            click.echo(untested(path, config, theta))
            config = tuned(config, theta.theta, steps, pool)
            for line in results.unimproved(config, theta, steps, config.test_tasks, pool):
                click.echo(line)
    draw(path)
    return result


def draw(path: Path) -> None:
    """Draw a run, or say why not: a training does not fail for want of pictures."""
    try:
        plots.draw([path])
    except WorldError as error:
        click.echo(f"no pictures: {error}", err=True)


def untested(path: Path, config: Config, theta: Kept) -> str:
    """Return one line about a run whose test tasks are not used."""
    line = f"{config.name}, {theta.iteration} iterations"
    if theta.chosen:
        line += f", {config.score.name} {theta.validation:.4f} on validation tasks"
    return f"{line}; to test it: tinymaml evaluate {path}"


@contextmanager
def progress_bar(config: Config, quiet: bool) -> Iterator[Callable[[int, dict], None]]:
    """Yield what shows the progress on stderr, when that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda iteration, record: None
        return
    with click.progressbar(
        length=config.iterations,
        label=config.name,
        file=sys.stderr,
        item_show_func=lambda loss: loss,
        update_min_steps=max(1, config.iterations // 1000),
    ) as bar:
        seen = [0]

        def show(iteration: int, record: dict) -> None:
            bar.update(iteration - seen[0], f"loss {record['loss']:.4f}")
            seen[0] = iteration

        yield show
