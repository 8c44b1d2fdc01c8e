"""`tinymaml evaluate` and `tinymaml export`: a run's theta judged, or given away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tinymaml.cli.options import QUIET, WORKERS, Number, Text, Widths
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments.common import MOST, Config
from tinymaml.harness import results, runs, thetas
from tinymaml.harness.results import Result
from tinymaml.harness.thetas import Kept
from tinymaml.report import tables
from tinymaml.speed.workers import engine


ALONE = ("last", "all", "none")
LAST = click.Option(
    ["--last"], is_flag=True, help="the last theta, not the best on validation tasks"
)
FALLBACK = click.Option(
    ["--fallback"], is_flag=True, help="use an older theta where the newest is damaged"
)
DATA = click.Option(["--data"], type=Text(), help="data file, when it has moved")


@click.command(params=[DATA, LAST, FALLBACK, WORKERS, QUIET])
@click.argument("run", nargs=-1, required=True)
@click.option("--tasks", type=Number(int, least=2, most=MOST), help="held-out tasks")
@click.option("--steps", type=Number(int, least=0, most=1000), help="gradient steps")
@click.option(
    "--shots",
    type=Widths(Number(int, least=1, most=MOST)),
    metavar="K,K,...",
    help="examples to adapt on, when they are others than in training",
)
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test")
@click.option(
    "--alone",
    type=click.Choice(ALONE),
    default="last",
    show_default=True,
    help="steps after which every query example is judged on its own as well, where"
    " batch norm lets it see the others",
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.option("--markdown", "as_markdown", is_flag=True, help="print Markdown")
def evaluate(
    run: tuple[str, ...], as_json: bool, as_markdown: bool, quiet: bool, **asked: Any
) -> None:
    """Score runs on held-out tasks after each gradient step.

    Runs that differ in their seeds only are told together. kept:NAME is one that comes
    with the package.

    \b
    tinymaml evaluate runs/omniglot-1
    tinymaml evaluate runs/sine-1 --shots 5,10,20
    """
    del quiet  # it prints its result only
    if as_json and as_markdown:
        raise UsageError("--json and --markdown do not go together")
    paths = [path for name in run for path in runs.members(thetas.locate(name))]
    which = asked["last"], asked["fallback"]
    chosen = [opened(path, asked["data"], *which) for path in paths]
    configs = [config for config, _ in chosen]
    groups = results.alike([*zip(paths, configs, strict=True)])
    with engine(asked["workers"]) as pool:
        told = [judged([chosen[i] for i in group], asked, pool) for group in groups]
    if as_json:
        click.echo(tables.as_json([result for group in told for result in group]), nl=False)
    elif as_markdown:
        click.echo("\n".join(map(tables.as_markdown, told)), nl=False)
    else:
        click.echo("\n\n".join(f"{tables.title(one[0])}\n{_text(one)}" for one in told))


def _text(told: list[Result]) -> str:
    return tables.as_text(told, range(told[0].scores.shape[1]))


def opened(path: Path, data: str | None, last: bool, fallback: bool) -> tuple[Config, Kept]:
    """Return a run's configuration, with its data file if it has moved, and its theta."""
    config = runs.read_config(path, data)
    return config, thetas.load(path, config, last, fallback)


def judged(group: list[tuple[Config, Kept]], asked: dict[str, Any], pool) -> list[Result]:
    """Return the pooled result of runs of several seeds, for each number of shots."""
    first, _ = group[0]
    tasks = first.test_tasks if asked["tasks"] is None else asked["tasks"]
    steps = first.test_steps if asked["steps"] is None else asked["steps"]
    alone = {"last": [steps], "all": range(steps + 1), "none": []}[asked["alone"]]
    if asked["shots"] and not hasattr(first, "shots"):
        raise UsageError(f"--shots means nothing to {first.name}")
    told = []
    for shots in asked["shots"] or [None]:
        each = [
            results.judge(config, theta, asked["split"], tasks, steps, alone, pool, shots)
            for config, theta in group
        ]
        told.append(results.pooled(each))
    return told


@click.command(params=[LAST, FALLBACK])
@click.argument("run")
@click.argument("folder", type=click.Path(path_type=Path))
def export(run: str, folder: Path, last: bool, fallback: bool) -> None:
    """Write a run's theta, without all that going on would need, into a new folder.

    That is the theta that validation tasks chose, or else the last; evaluate takes the
    folder as it takes a run.

    Example: tinymaml export runs/omniglot-1 omniglot-5w1s
    """
    config, theta = opened(thetas.locate(run), None, last, fallback)
    if (folder / runs.CONFIG).exists():
        raise WorldError(f"{str(folder)!r} already holds a run")
    folder.mkdir(parents=True, exist_ok=True)
    thetas.export(folder, config, theta)
    click.echo(folder)
