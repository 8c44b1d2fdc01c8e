"""`tinymaml evaluate` and `tinymaml export`: score a run's theta, or export it."""

import sys
from pathlib import Path
from typing import Any

import click

from tinymaml.cli.options import (
    DATA,
    FALLBACK,
    JSON,
    LAST,
    QUIET,
    WORKERS,
    Folder,
    Value,
    asked,
    opened,
)
from tinymaml.cli.terminal import Watched, columns, progress
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments.common import Config
from tinymaml.harness import checkpoints, results, runs
from tinymaml.harness.checkpoints import Kept
from tinymaml.harness.results import Result
from tinymaml.options import COUNT, MOST, SAMPLE, STEPS
from tinymaml.report import comparison, tables
from tinymaml.report.layout import laid_out, markdown
from tinymaml.speed.workers import Engine, engine


OPTIONS = (
    asked("--tasks", Value(int, **SAMPLE), "number of held-out tasks  [as the run]"),
    asked("--steps", Value(int, **STEPS), "number of gradient steps  [as the run]"),
    asked(
        "--shots",
        Value(tuple, **COUNT),
        "support examples per class, if other than in training",
        metavar="N,N,...",
    ),
    asked(
        "--ways",
        Value(int, least=2, most=MOST),
        "classes of a task, if other than in training",
    ),
    asked(
        "--within",
        Value(str, least=1, most=200),
        "group of a task's classes, if other than in training: any, group, or a name",
        metavar="GROUP",
    ),
    asked("--split", click.Choice(["train", "val", "test"]), "split of the tasks", "test"),
    asked(
        "--alone",
        click.Choice(["last", "all", "none"]),
        "also score each query example alone after these steps, for nets with batch norm",
        "last",
    ),
    JSON,
    asked("--markdown as_markdown", None, "print Markdown"),
)


@click.command(params=[DATA, LAST, FALLBACK, WORKERS, QUIET, *OPTIONS])
@click.argument("run", nargs=-1, required=True, type=Folder())
def evaluate(
    run: tuple[str, ...], as_json: bool, as_markdown: bool, quiet: bool, **given: Any
) -> None:
    """Score runs on held-out tasks after each gradient step.

    Runs that differ only in their seeds are pooled. Other runs have a table each, and one
    table that compares those with the same tasks. kept:NAME is a run in the package. A run
    scored as at the end of its training is ready for `tinymaml plot`.

    \b
    tinymaml evaluate runs/omniglot-1
    tinymaml evaluate runs/sine-1 --shots 5,10,20
    """
    if as_json and as_markdown:
        raise UsageError("--json and --markdown exclude each other")
    paths = [path for name in run for path in runs.members(checkpoints.locate(name))]
    found = opened(paths, given)
    groups = results.alike([(path, config) for path, config, _ in found])
    final: list[tuple[Path, Result]] = []
    with engine(given["workers"]) as pool, progress("evaluation", quiet) as show:
        how = given, Watched(pool, show), final
        tested = [scored([found[i] for i in group], *how) for group in groups]
    every = [one for group in tested for one in group]
    compared = comparison.blocks(every) if len(tested) > 1 else []
    if as_json:
        click.echo(tables.as_json(every), nl=False)
    elif as_markdown:
        texts = [*map(tables.as_markdown, tested)]
        texts += ["\n".join(markdown(x)) + "\n" for x in compared if x]
        click.echo("\n".join(texts), nl=False)
    else:
        width = columns(sys.stdout)
        steps = [range(group[0].scores.shape[1]) for group in tested]
        texts = [tables.titled(*pair, width) for pair in zip(tested, steps, strict=True)]
        texts += [laid_out(compared, width)] if compared else []
        click.echo("\n\n".join(texts))
    for path, result in final:
        try:
            files = tables.keep(path, result)
        except OSError as error:  # in a folder of somebody else's; the result is shown
            place = str(path / runs.EVALUATION)
            click.echo(f"note: {place!r} was not written: {error.strerror}", err=True)
            continue
        for file in files:
            click.echo(file, err=as_json or as_markdown)


def scored(
    group: list[tuple[Path, Config, Kept]],
    given: dict[str, Any],
    pool: Engine,
    final: list[tuple[Path, Result]],
) -> list[Result]:
    """Return the pooled result of runs of several seeds, for each number of shots.

    final: gains the results that are those at the end of a training, and their runs
    """
    _, first, _ = group[0]
    tasks = first.test_tasks if given["tasks"] is None else given["tasks"]
    steps = first.test_steps if given["steps"] is None else given["steps"]
    alone = {"last": [steps], "all": range(steps + 1), "none": []}[given["alone"]]
    if given["shots"] and "shots" not in first.options:
        raise UsageError(f"{first.name} has no --shots")
    how = given["split"], tasks, steps, alone, pool

    def one(path: Path, config: Config, theta: Kept, shots: int | None) -> Result:
        result = results.judge(config, theta, *how, shots, given["ways"], given["within"])
        other = is_other(path, given["data"])
        if results.is_final(result) and not given["last"] and not other:
            final.append((path, result))
        return result

    return [
        results.pooled([one(*run, shots) for run in group])
        for shots in given["shots"] or [None]
    ]


def is_other(path: Path, data: str | None) -> bool:
    """Return whether a data file is not the run's own, which is still where it was."""
    own = getattr(runs.read_config(path), "data", "")
    if not (data and own and Path(own).is_file() and Path(data).is_file()):
        return False
    return not Path(own).samefile(data)


@click.command(params=[LAST, FALLBACK])
@click.argument("run", type=Folder())
@click.argument("folder", type=Folder())
def export(run: str, folder: str, last: bool, fallback: bool) -> None:
    """Export a run's parameters, without optimiser state, to a new folder.

    It exports the parameters that validation chose, or else the last. `tinymaml evaluate`
    takes the folder like a run.

    Example: tinymaml export runs/omniglot-1 omniglot-5w1s
    """
    path, to = checkpoints.locate(run), Path(folder)
    config = runs.read_config(path)
    theta = checkpoints.load(path, config, last, fallback)
    to.mkdir(parents=True, exist_ok=True)
    with runs.locked(to):  # two exports, or a training that begins
        if (to / runs.CONFIG).exists():
            raise WorldError(f"{folder!r} already holds a run")
        checkpoints.export(to, config, theta, runs.library_versions(path, config))
    click.echo(folder)
