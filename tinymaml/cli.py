"""The command line: the other commands, and how every failure is told.

Exit codes: 0 well; 2 the command line or configuration is wrong, nothing written; 1 the
world is (a file, the data, the disk, divergence), told in one line; 130 after Ctrl-C and
143 after SIGTERM, resumable.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from tinymaml import evaluation, plots, runs
from tinymaml.cli_check import check_group
from tinymaml.cli_train import train
from tinymaml.errors import Interrupted, UsageError, WorldError
from tinymaml.experiments import MODULES
from tinymaml.machine import advice, cpu, versions
from tinymaml.options import QUIET, WORKERS, Number, Text, shown
from tinymaml.workers import engine


def _print_version(context: click.Context, _: Any, asked: bool) -> None:
    if asked:
        told = versions()
        click.echo("\n".join(f"{name} {version}" for name, version in told.items()))
        if advised := advice(told["kernel"], cpu().flags):
            click.echo(advised, err=True)
        context.exit()


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


main.add_command(train)
main.add_command(check_group)


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
    workers: int | str,
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
    state = runs.last_state(path, config)
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
@click.option("--beside", type=Text(), metavar="RUN", help="another run of pointnav")
def plot(run: str, beside: str | None) -> None:
    """Draw a run's pictures into its folder.

    Example: tinymaml plot runs/sine-1
    """
    for picture in plots.draw(Path(run), Path(beside) if beside else None):
        click.echo(picture)


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
