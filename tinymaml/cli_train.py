"""`tinymaml train`: begin a run or go on with one, then evaluate and draw it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tinymaml import evaluation, plots, presets, runs
from tinymaml.errors import Interrupted, UsageError, WorldError
from tinymaml.experiments import MODULES, problem
from tinymaml.experiments.common import Config
from tinymaml.finetune import remarks, tuned
from tinymaml.machine import versions
from tinymaml.options import QUIET, WORKERS, Flag, Text, options_of, read_file
from tinymaml.train import train as train_run
from tinymaml.workers import engine


MOST_PARAMETERS = 10**7  # far above any use on a CPU

TRAIN_ONLY = (
    click.Option(["--out"], type=Text(), help="folder of the new run  [runs/NAME-N]"),
    click.Option(["--resume"], type=Text(), metavar="RUN", help="go on with this run"),
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
            args = [runs.read_config(Path(run)).name, *args]
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
    "quiet": Flag(),
}


def run_training(kind: type[Config], given: dict[str, Any]) -> None:
    """Begin a run or go on with one, then evaluate it and print the table."""
    source = click.get_current_context().get_parameter_source
    typed = {k: v for k, v in given.items() if source(k) is ParameterSource.COMMANDLINE}
    file = typed.pop("config_file", None)
    changes = {**(read_file(file, kind, OTHERS) if file else {}), **typed}
    shared = {name: changes.pop(name, given[name]) for name in OTHERS}
    if shared["resume"] is not None:
        path, config = resumed_run(shared, kind, changes)
    else:
        config = kind(**changes)
        check_used(config, changes)
        published = presets.values(config)
        config = kind(**{**published, **changes})
        if not config.uses("iterations"):
            config = config.with_changes({"iterations": 0})
        check_model(config)  # whatever does not fit is told before anything is written
        path = runs.new_folder(shared["out"], kind.name)
    path.mkdir(parents=True, exist_ok=True)
    with runs.locked(path):
        runs.write_config(path, config, versions())
        train_and_report(path, config, shared["workers"], shared["quiet"])


def resumed_run(
    shared: dict[str, Any], kind: type[Config], changes: dict[str, Any]
) -> tuple[Path, Config]:
    """Return the folder and configuration of a run that goes on."""
    if shared["out"] is not None:
        raise UsageError("--out and --resume do not go together")
    path = Path(shared["resume"])
    saved = runs.read_config(path)
    if type(saved) is not kind:
        raise UsageError(f"{str(path)!r} is a run of {saved.name}, not {kind.name}")
    config = saved.with_changes(changes)
    check_used(config, changes)
    runs.check_resumable(saved, config)
    check_model(config)
    return path, config


def check_used(config: Config, changes: dict[str, Any]) -> None:
    """Raise UsageError when an option was given that the algorithm has no use for."""
    for name in changes:
        if not config.uses(name):
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} means nothing to --algorithm {config.algorithm}")


def check_model(config: Config) -> None:
    """Raise UsageError when the options do not fit the data or ask for a huge model."""
    count = problem(config).size
    if count > MOST_PARAMETERS:
        raise UsageError(f"the model has {count} parameters, more than {MOST_PARAMETERS}")


def train_and_report(path: Path, config: Config, count: int | str, quiet: bool) -> None:
    """Train in the folder, then print, write and draw how held-out tasks go."""
    click.echo(f"run folder: {path}", err=True)
    with engine(count) as pool:
        try:
            with progress_bar(config, quiet) as progress:
                state = train_run(path, config, pool, progress)
        except Interrupted as stop:
            told = f"interrupted at iteration {stop.iteration}; go on with:"
            click.echo(f"{told} tinymaml train --resume {path}", err=True)
            raise
        config = tuned(config, state.theta, config.test_steps, pool)
        scores = evaluation.evaluate(
            config, state.theta, "test", config.test_tasks, config.test_steps, pool
        )
    told = evaluation.as_json(config, "test", state.iteration, scores)
    runs.write(path / "evaluation.json", told.encode())
    click.echo(evaluation.as_table(config, scores, config.shown_steps))
    for remark in remarks(config, state.theta, config.test_steps):
        click.echo(remark)
    try:
        plots.draw(path)
    except WorldError as error:
        click.echo(f"no pictures: {error}", err=True)


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
