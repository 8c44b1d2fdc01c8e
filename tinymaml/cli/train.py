"""`tinymaml train`: begin a run or go on with one, then evaluate and draw it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tinymaml import plots
from tinymaml.cli.options import (
    QUIET,
    WORKERS,
    Flag,
    Number,
    Text,
    options_of,
    read_file,
    types_of,
)
from tinymaml.errors import Interrupted, UsageError, WorldError
from tinymaml.experiments import MODULES, problem
from tinymaml.experiments.common import Config
from tinymaml.harness import results, runs, thetas
from tinymaml.harness.finetune import tuned
from tinymaml.harness.loop import train as train_run
from tinymaml.harness.results import Result
from tinymaml.harness.thetas import Kept
from tinymaml.published import presets
from tinymaml.report import tables
from tinymaml.speed.machine import versions
from tinymaml.speed.workers import engine


Plan = list[tuple[Path, Config]]

MOST_PARAMETERS = 10**7  # far above any use on a CPU

SEEDS = Number(int, least=1, most=1000)
TRAIN_ONLY = (
    click.Option(["--out"], type=Text(), help="folder of the new run  [runs/NAME-N]"),
    click.Option(["--resume"], type=Text(), metavar="RUN", help="go on with this run"),
    click.Option(
        ["--seeds"],
        type=SEEDS,
        default=1,
        show_default=True,
        help="runs, of this seed and the next ones, each in a folder of its own",
    ),
    click.Option(
        ["--config", "config_file"],
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE.toml",
        help="options by the same names; the command line wins",
    ),
)


class TrainGroup(click.Group):
    """Lets `train --resume RUN` do without the experiment's name."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Put the experiment's name in front when a run to resume tells it."""
        run = _resumed(args) if args and args[0].startswith("--") else None
        if run is not None:
            first, *_ = runs.members(Path(run))
            args = [runs.read_config(first).name, *args]
        return super().parse_args(context, args)


def _resumed(args: list[str]) -> str | None:
    for name, value in zip(args, [*args[1:], None], strict=True):
        if name == "--resume":
            return value
        if name.startswith("--resume="):
            return name.partition("=")[2]
    return None


@click.group(cls=TrainGroup)
def train() -> None:
    """Train an experiment and evaluate it on held-out tasks.

    \b
    tinymaml train sine
    tinymaml train omniglot --data omniglot.npz --workers 2
    tinymaml train --resume runs/sine-1
    """


def train_command(name: str) -> click.Command:
    """Return the command that trains one experiment."""
    kind = MODULES[name].CONFIG
    return click.Command(
        name,
        params=[*options_of(kind), WORKERS, *TRAIN_ONLY, QUIET],
        callback=lambda **given: run_training(kind, given),
        help=f"{kind.__doc__.splitlines()[0]}\n\nExample: tinymaml train {name} --seed 1",
    )


# The options of `train` that are not the experiment's.
OTHERS = {
    "workers": WORKERS.type,
    "out": Text(),
    "resume": Text(),
    "seeds": SEEDS,
    "quiet": Flag(),
}


def run_training(kind: type[Config], given: dict[str, Any]) -> None:
    """Begin runs or go on with them, then evaluate each and print its table."""
    source = click.get_current_context().get_parameter_source
    typed = {k: v for k, v in given.items() if source(k) is ParameterSource.COMMANDLINE}
    file = typed.pop("config_file", None)
    changes = {**(read_file(file, kind, OTHERS) if file else {}), **typed}
    shared = {name: changes.pop(name, given[name]) for name in OTHERS}
    if shared["resume"] is not None:
        folder, planned = resumed_runs(shared, kind, changes)
    else:
        folder, planned = new_runs(shared, kind, changes)
    for path, config in planned:  # all of them, so that the folder tells what it is for
        path.mkdir(parents=True, exist_ok=True)
        with runs.locked(path):
            runs.write_config(path, config, versions())
    told = []
    for path, config in planned:
        with runs.locked(path):
            told.append(train_and_report(path, config, shared, folder))
    if len(told) > 1 and all(told):
        together = results.pooled(told)
        click.echo(f"\n{tables.title(together)}")
        click.echo(tables.as_text([together], config.shown_steps))
        runs.write(folder / runs.EVALUATION, tables.as_json([together]).encode())


def new_runs(
    shared: dict[str, Any], kind: type[Config], changes: dict[str, Any]
) -> tuple[Path, Plan]:
    """Return the folder of a new run or of several, and the configuration of each.

    Runs of several seeds that the folder has already go on.
    """
    published = presets.values(kind(**changes), changes)
    config = kind(**{**published, **changes})
    check_used(config, changes)
    # A validation would tune the step size anew, which takes longer than the training.
    if config.uses("tune") and config.tune and "validate_every" not in changes:
        config = config.with_changes({"validate_every": 0})
    if not config.uses("iterations"):
        config = config.with_changes({"iterations": 0})
    check_model(config)  # whatever does not fit is told before anything is written
    folder, number = runs.new_folder(shared["out"], kind.name), shared["seeds"]
    begun = runs.members(folder)
    if number == 1:
        if begun != [folder]:
            raise WorldError(f"{str(folder)!r} holds runs of several seeds")
        return folder, [(folder, config)]
    last = config.seed + number - 1
    types_of(kind)["seed"].convert(last, None, None)
    planned = [
        (runs.seed_folder(folder, seed), config.with_changes({"seed": seed}))
        for seed in range(config.seed, last + 1)
    ]
    for path, wanted in planned:
        if path in begun:
            runs.check_resumable(runs.read_config(path), wanted)
    return folder, planned


def resumed_runs(
    shared: dict[str, Any], kind: type[Config], changes: dict[str, Any]
) -> tuple[Path, Plan]:
    """Return the folder of a run or of several that go on, and their configurations."""
    if shared["out"] is not None:
        raise UsageError("--out and --resume do not go together")
    folder = Path(shared["resume"])
    planned = []
    for path in runs.members(folder):
        saved = runs.read_config(path)
        if type(saved) is not kind:
            raise UsageError(f"{str(path)!r} is a run of {saved.name}, not {kind.name}")
        if (path / thetas.THETA).exists():
            raise WorldError(f"{str(path)!r} holds a theta only; no run to go on with")
        config = saved.with_changes(changes)
        check_used(config, changes)
        runs.check_resumable(saved, config)
        check_model(config)
        planned.append((path, config))
    if shared["seeds"] not in (1, len(planned)):
        raise UsageError(f"--seeds: {str(folder)!r} has {len(planned)}")
    return folder, planned


def check_used(config: Config, changes: dict[str, Any]) -> None:
    """Raise UsageError when an option was given that the algorithm has no use for."""
    for name in changes:
        if not config.uses(name):
            flag = "--" + name.replace("_", "-")
            unless = ", unless --no-tune" if name == "alpha" else ""
            raise UsageError(
                f"{flag} means nothing to --algorithm {config.algorithm}{unless}"
            )


def check_model(config: Config) -> None:
    """Raise UsageError when the options do not fit the data or ask for a huge model."""
    count = problem(config).size
    if count > MOST_PARAMETERS:
        raise UsageError(f"the model has {count} parameters, more than {MOST_PARAMETERS}")


def train_and_report(
    path: Path, config: Config, shared: dict[str, Any], folder: Path
) -> Result | None:
    """Train in the folder `path`, then print, write and draw how test tasks go.

    With --no-test they are not looked at, and None is returned.
    """
    click.echo(f"run folder: {path}", err=True)
    with engine(shared["workers"]) as pool:
        try:
            with progress_bar(config, shared["quiet"]) as progress:
                train_run(path, config, pool, progress)
        except Interrupted as stop:
            told = f"interrupted at iteration {stop.iteration}; go on with:"
            click.echo(f"{told} tinymaml train --resume {folder}", err=True)
            raise
        theta, steps = thetas.load(path, config), config.test_steps
        if not config.test:
            click.echo(untested(path, config, theta))
            config = tuned(config, theta.theta, steps, pool)
            for line in results.unimproved(config, theta, steps, config.test_tasks, pool):
                click.echo(line)
            draw(path)
            return None
        result = results.judge(
            config, theta, "test", config.test_tasks, steps, [steps], pool
        )
    runs.write(path / runs.EVALUATION, tables.as_json([result]).encode())
    if theta.chosen:
        click.echo(tables.title(result))
    click.echo(tables.as_text([result], config.shown_steps))
    draw(path)
    return result


def draw(path: Path) -> None:
    """Draw a run, or tell why not: a training does not fail for want of pictures."""
    try:
        plots.draw([path])
    except WorldError as error:
        click.echo(f"no pictures: {error}", err=True)


def untested(path: Path, config: Config, theta: Kept) -> str:
    """Return what is told of a run whose test tasks are left alone, in one line."""
    told = f"{config.name}, {theta.iteration} iterations"
    if theta.chosen:
        told += f", {config.score} {theta.validation:.4f} on validation tasks"
    return f"{told}; to test it: tinymaml evaluate {path}"


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


for _name in MODULES:
    train.add_command(train_command(_name))
