"""The command line: options come from the experiments' dataclasses.

Exit codes: 0 well; 2 the command line or configuration is wrong, nothing written; 1 the
world is (a file, the data, the disk, divergence), told in one line; 130 after Ctrl-C and
143 after SIGTERM, resumable.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource

from tinymaml import __version__, check, evaluation, params, plots, runs
from tinymaml.errors import Interrupted, UsageError, WorldError
from tinymaml.experiments import MODULES, glyphs, problem, sine
from tinymaml.experiments.common import Config
from tinymaml.options import Flag, Number, Text, options_of, read_file, shown
from tinymaml.train import train as train_run
from tinymaml.workers import engine


MOST_PARAMETERS = 10**7  # far above any use on a CPU


# ----- Options that every command shares -----

WORKERS = click.Option(
    ["--workers"],
    type=Number(int, least=1, most=256),
    default=1,
    show_default=True,
    help="processes to compute in; the result does not depend on it",
)
QUIET = click.Option(["--quiet"], is_flag=True, help="no progress on stderr")
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


# ----- The command group -----


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


def _print_version(context: click.Context, _: Any, asked: bool) -> None:
    if asked:
        told = "\n".join(f"{name} {version}" for name, version in versions().items())
        click.echo(told)
        context.exit()


def versions() -> dict[str, str]:
    """Return the versions of tinymaml and of what it computes with."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "tinymaml": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "autograd": version("autograd"),
        "blas": f"{blas['name']} {blas['version']}",
    }


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions of tinymaml, NumPy, autograd and the BLAS, and exit.",
)
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
def main(debug: bool) -> None:
    """Model-agnostic meta-learning on a CPU, the second-order term written out."""


@main.group(cls=TrainGroup)
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
    runs.check_resumable(saved, config)
    check_model(config)
    return path, config


def check_model(config: Config) -> None:
    """Raise UsageError when the options do not fit the data or ask for a huge model."""
    count = params.count(problem(config).model.shapes)
    if count > MOST_PARAMETERS:
        raise UsageError(f"the model has {count} parameters, more than {MOST_PARAMETERS}")


def train_and_report(path: Path, config: Config, count: int, quiet: bool) -> None:
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
        scores = evaluation.evaluate(
            config, state.theta, "test", config.test_tasks, config.test_steps, pool
        )
    told = evaluation.as_json(config, "test", state.iteration, scores)
    runs.write(path / "evaluation.json", told.encode())
    click.echo(evaluation.as_table(config, scores, config.shown_steps))
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


# ----- The other commands -----


@main.command(params=[WORKERS, QUIET])
@click.argument("run")
@click.option("--tasks", type=Number(int, least=2, most=10**6), help="held-out tasks")
@click.option("--steps", type=Number(int, least=0, most=1000), help="gradient steps")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test")
@click.option("--data", type=Text(), help="data file, when it has moved")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def evaluate(
    run: str,
    tasks: int | None,
    steps: int | None,
    split: str,
    data: str | None,
    as_json: bool,
    workers: int,
    quiet: bool,
) -> None:
    """Score a run's last checkpoint on held-out tasks after each gradient step.

    Example: tinymaml evaluate runs/omniglot-1
    """
    del quiet  # it prints its result only
    path = Path(run)
    config = runs.read_config(path)
    if data is not None:
        if not hasattr(config, "data"):
            raise UsageError(f"a run of {config.name} has no data file")
        config = config.with_changes({"data": data})
    state = runs.load(path, config, params.count(problem(config).model.shapes))
    if state is None:
        raise WorldError(f"no checkpoint in {run!r}")
    tasks = config.test_tasks if tasks is None else tasks
    steps = config.test_steps if steps is None else steps
    with engine(workers) as pool:
        scores = evaluation.evaluate(config, state.theta, split, tasks, steps, pool)
    if as_json:
        click.echo(evaluation.as_json(config, split, state.iteration, scores), nl=False)
    else:
        click.echo(f"{config.name}, {state.iteration} iterations, {split} tasks")
        click.echo(evaluation.as_table(config, scores, tuple(range(steps + 1))))


@main.command()
@click.argument("run")
def plot(run: str) -> None:
    """Draw a run's pictures into its folder.

    Example: tinymaml plot runs/sine-1
    """
    for picture in plots.draw(Path(run)):
        click.echo(picture)


STEPS = click.Option(
    ["--steps", "inner_steps"],
    type=Number(int, least=0, most=100),
    default=1,
    show_default=True,
    help="inner gradient steps, K",
)
JSON = click.Option(["--json", "as_json"], is_flag=True, help="print JSON")
# Options of an experiment that a meta-gradient does not depend on, or that a check decides.
NOT_CHECKED = {
    *("iterations", "seed", "algorithm", "beta", "dtype", "chunk", "inner_steps"),
    *("checkpoint_every", "validate_every", "validation_tasks", "test_tasks", "test_steps"),
    "activation",
}
# Small nets that check in seconds what every experiment's does.
EXAMPLES = (
    (sine.Sine(tasks=3), 1),
    (sine.Sine(tasks=3), 3),
    (glyphs.Glyphs(tasks=2, filters=4), 1),
    (glyphs.Glyphs(tasks=2, filters=4), 3),
)


@main.group(name="check", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.pass_context
def check_group(context: click.Context, as_json: bool) -> None:
    """Verify the meta-gradient of an experiment, in float64; exit 1 on any failure.

    Without an experiment: of the sine net and of a small convolutional one with batch norm.

    \b
    tinymaml check
    tinymaml check omniglot --steps 3
    """
    if context.invoked_subcommand is None:
        cases = [config.with_changes({"inner_steps": k}) for config, k in EXAMPLES]
        report_checks(cases, as_json)


def check_command(name: str) -> click.Command:
    """Return the command that checks one experiment."""
    kind = MODULES[name].CONFIG
    options = [o for o in options_of(kind) if o.name not in NOT_CHECKED]
    tasks = next(o for o in options if o.name == "tasks")
    tasks.default, tasks.show_default = 2, True

    def verify(as_json: bool, **given: Any) -> None:
        report_checks([kind(**given)], as_json)

    return click.Command(
        name,
        params=[*options, STEPS, JSON],
        callback=verify,
        help=f"Verify its meta-gradient.\n\nExample: tinymaml check {name} --steps 3",
    )


def report_checks(configs: list[Config], as_json: bool) -> None:
    """Verify each configuration, print the figures and exit 1 if one is out of range."""
    reports = [check.verify_experiment(config) for config in configs]
    if as_json:
        click.echo(json.dumps([report.as_dict() for report in reports], indent=2))
    else:
        click.echo("\n\n".join(map(str, reports)))
    if not all(report.passed for report in reports):
        raise SystemExit(1)


for _name in MODULES:
    check_group.add_command(check_command(_name))


@main.command(name="list")
@click.argument("experiment", required=False, type=click.Choice([*MODULES]))
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def list_command(experiment: str | None, as_json: bool) -> None:
    """List the experiments, or one's options with the source of each default.

    Example: tinymaml list sine
    """
    kinds = {name: module.CONFIG for name, module in MODULES.items()}
    if as_json:
        told = {n: dataclasses.asdict(k()) for n, k in kinds.items()}
        click.echo(json.dumps(told[experiment] if experiment else told, indent=2))
    elif experiment is None:
        for name, kind in kinds.items():
            click.echo(f"{name:<10} {kind.__doc__.splitlines()[0]}")
    else:
        for field in dataclasses.fields(kinds[experiment]):
            flag = "--" + field.name.replace("_", "-")
            source = field.metadata["source"]
            click.echo(f"{flag:<20} {shown(field.default):<10} {field.metadata['help']}")
            if source:
                click.echo(f"{'':<31} source: {source}")


# ----- Errors are for people -----


def run(args: list[str] | None = None) -> None:
    """Run the command line and exit with the code that the module's text promises."""
    arguments = sys.argv[1:] if args is None else args
    try:
        code = main.main(arguments, "tinymaml", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.exceptions.Exit as error:
        code = error.exit_code
    except Interrupted as error:
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except (UsageError, WorldError, OSError, MemoryError) as error:
        if "--debug" in arguments:
            traceback.print_exc()
        click.echo(f"Error: {one_line(error)}", err=True)
        code = 2 if isinstance(error, UsageError) else 1
    raise SystemExit(code or 0)


def one_line(error: BaseException) -> str:
    """Return what an error says, with the file of an OSError, in one line."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename!r}: {error.strerror}" if error.filename else error.strerror
    return " ".join(text.split())
