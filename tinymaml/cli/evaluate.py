"""`tinymaml evaluate` and `tinymaml export`: a run's theta scored, or given away."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import click

from tinymaml.cli.options import DATA, FALLBACK, LAST, QUIET, WORKERS, Value
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments.common import Config
from tinymaml.harness import checkpoints, results, runs
from tinymaml.harness.checkpoints import Kept
from tinymaml.harness.results import Result
from tinymaml.options import MOST
from tinymaml.report import tables
from tinymaml.speed.workers import engine


ALONE = ("last", "all", "none")


@click.command(params=[DATA, LAST, FALLBACK, WORKERS, QUIET])
@click.argument("run", nargs=-1, required=True)
@click.option(
    "--tasks",
    type=Value(int, least=2, most=MOST),
    help="number of held-out tasks  [as the run]",
)
@click.option(
    "--steps",
    type=Value(int, least=0, most=1000),
    help="number of gradient steps  [as the run]",
)
@click.option(
    "--shots",
    type=Value(tuple, least=1, most=MOST),
    metavar="K,K,...",
    help="support examples per class, if other than in training",
)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="test",
    show_default=True,
    help="split that the tasks are of",
)
@click.option(
    "--alone",
    type=click.Choice(ALONE),
    default="last",
    show_default=True,
    help="after which steps to score every query example on its own as well, for nets"
    " whose batch norm lets it see the others",
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.option("--markdown", "as_markdown", is_flag=True, help="print Markdown")
def evaluate(
    run: tuple[str, ...], as_json: bool, as_markdown: bool, quiet: bool, **asked: Any
) -> None:
    """Score runs on held-out tasks after each gradient step.

    Runs that differ only in their seeds are pooled. kept:NAME is a run that comes with the
    package. A run scored as at the end of its training is ready for `tinymaml plot`.

    \b
    tinymaml evaluate runs/omniglot-1
    tinymaml evaluate runs/sine-1 --shots 5,10,20
    """
    del quiet  # it prints its result only
    if as_json and as_markdown:
        raise UsageError("--json and --markdown exclude each other")
    paths = [path for name in run for path in runs.members(checkpoints.locate(name))]
    which = asked["last"], asked["fallback"]
    opened = [(path, *open_run(path, asked["data"], *which)) for path in paths]
    groups = results.alike([(path, config) for path, config, _ in opened])
    with engine(asked["workers"]) as pool:
        found = [scored([opened[i] for i in group], asked, pool) for group in groups]
    if as_json:
        click.echo(tables.as_json([one for group in found for one in group]), nl=False)
    elif as_markdown:
        click.echo("\n".join(map(tables.as_markdown, found)), nl=False)
    else:
        click.echo("\n\n".join(f"{tables.title(one[0])}\n{_text(one)}" for one in found))


def _text(found: list[Result]) -> str:
    return tables.as_text(found, range(found[0].scores.shape[1]))


def open_run(
    path: Path, data: str | None, last: bool, fallback: bool
) -> tuple[Config, Kept]:
    """Return a run's configuration, with its data file if it has moved, and its theta."""
    config = runs.read_config(path, data)
    return config, checkpoints.load(path, config, last, fallback)


def scored(
    group: list[tuple[Path, Config, Kept]], asked: dict[str, Any], pool: Executor
) -> list[Result]:
    """Return the pooled result of runs of several seeds, for each number of shots."""
    _, first, _ = group[0]
    tasks = first.test_tasks if asked["tasks"] is None else asked["tasks"]
    steps = first.test_steps if asked["steps"] is None else asked["steps"]
    alone = {"last": [steps], "all": range(steps + 1), "none": []}[asked["alone"]]
    if asked["shots"] and "shots" not in first.options:
        raise UsageError(f"{first.name} has no --shots")
    found = []
    for shots in asked["shots"] or [None]:
        each = []
        for path, config, theta in group:
            result = results.judge(
                config, theta, asked["split"], tasks, steps, alone, pool, shots
            )
            if results.is_final(result) and not asked["last"]:
                tables.keep(path, result)
            each.append(result)
        found.append(results.pooled(each))
    return found


@click.command(params=[LAST, FALLBACK])
@click.argument("run")
@click.argument("folder", type=click.Path(path_type=Path))
def export(run: str, folder: Path, last: bool, fallback: bool) -> None:
    """Export a run's parameters, without optimiser state, to a new folder.

    They are those that validation chose, or else the last. `tinymaml evaluate` takes the
    folder like a run.

    Example: tinymaml export runs/omniglot-1 omniglot-5w1s
    """
    config, theta = open_run(checkpoints.locate(run), None, last, fallback)
    if (folder / runs.CONFIG).exists():
        raise WorldError(f"{str(folder)!r} already holds a run")
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints.export(folder, config, theta)
    click.echo(folder)
