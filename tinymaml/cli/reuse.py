"""`tinymaml reuse`: does adaptation reuse the features of a net, or change them?"""

from pathlib import Path
from typing import Any

import click

from tinymaml.cli.options import (
    DATA,
    FALLBACK,
    JSON,
    LAST,
    WORKERS,
    Folder,
    Value,
    asked,
    note,
)
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments.common import Config
from tinymaml.harness import checkpoints, reuse, runs
from tinymaml.harness.checkpoints import Kept
from tinymaml.harness.reuse import Reuse
from tinymaml.options import COUNT, SAMPLE
from tinymaml.plots import figures
from tinymaml.plots.reuse import picture
from tinymaml.report.reuse import as_json as json_of
from tinymaml.report.reuse import as_text
from tinymaml.speed.workers import engine


OPTIONS = (
    asked("--tasks", Value(int, **SAMPLE), "number of held-out tasks", 100),
    asked("--steps", Value(int, least=1, most=1000), "gradient steps  [as the run's test]"),
    asked(
        "--queries",
        Value(int, **COUNT),
        f"query examples per class  [{reuse.QUERIES}, or as many as the data have]",
    ),
    asked("--split", click.Choice(["train", "val", "test"]), "split of the tasks", "test"),
    asked(
        "--out",
        click.Path(path_type=Path),
        "PNG file to write  [reuse.png in the folder of the first run]",
    ),
    JSON,
)


@click.command("reuse", params=[DATA, LAST, FALLBACK, WORKERS, *OPTIONS])
@click.argument("run", nargs=-1, required=True, type=Folder())
def reuse_command(
    run: tuple[str, ...], out: Path | None, as_json: bool, **given: Any
) -> None:
    """Measure which layers adaptation changes, and which changes the accuracy needs.

    For image runs, on held-out tasks: change and similarity (CKA, CCA) of each layer,
    accuracy with layers frozen, accuracy without a head (NIL), and the head's step size as
    an axis. The net before its training stands beside each run. kept:NAME is a run in the
    package; its picture goes to the current folder.

    \b
    tinymaml reuse runs/glyphs-1 runs/glyphs-2
    tinymaml reuse kept:omniglot-5w1s --data omniglot.npz
    """
    if out is not None and out.suffix != ".png":
        raise UsageError(f"--out: the picture is a PNG, so {str(out)!r} must end with .png")
    names = {}
    for name in run:
        paths = runs.members(checkpoints.locate(name))
        names |= {name if len(paths) == 1 else str(path): path for path in paths}
    configs, opened = runs.read_configs([*names.values()], given["data"]), {}
    for (name, path), config in zip(names.items(), configs, strict=True):
        reuse.check(config)
        kept = checkpoints.load(path, config, given["last"], given["fallback"])
        opened[name] = config, kept
        note(path, config)
    with engine(given["workers"]) as pool:

        def analysed(config: Config, kept: Kept) -> tuple[Reuse, Reuse]:
            steps = given["steps"] or max(config.test_steps, 1)
            how = given["split"], given["tasks"], steps, given["queries"]
            return reuse.analyse(config, kept, *how, pool)

        found = {name: analysed(*one) for name, one in opened.items()}
    click.echo(json_of(found) if as_json else as_text(found), nl=not as_json)
    folder = Path() if run[0].startswith(checkpoints.PREFIX) else Path(run[0])
    try:
        drawn = picture(found)
    except WorldError as error:  # without matplotlib there are tables still
        click.echo(f"no picture: {error}", err=True)
    else:
        click.echo(figures.save(drawn, out or folder / "reuse.png"), err=as_json)
