"""`tinymaml reuse`: does adaptation reuse the features of a net, or change them?"""

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
from tinymaml.harness import checkpoints, reuse, runs
from tinymaml.harness.checkpoints import Kept
from tinymaml.harness.reuse import Reuse
from tinymaml.options import COUNT, SAMPLE
from tinymaml.plots import figures, place
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
        "PNG file to write  [reuse.png beside the run's pictures, as `tinymaml plot`]",
    ),
    JSON,
)


@click.command("reuse", params=[DATA, LAST, FALLBACK, WORKERS, QUIET, *OPTIONS])
@click.argument("run", nargs=-1, required=True, type=Folder())
def reuse_command(
    run: tuple[str, ...], out: Path | None, as_json: bool, quiet: bool, **given: Any
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
    names: dict[str, Path] = {}
    for name in run:
        paths = runs.members(checkpoints.locate(name))
        names |= {name if len(paths) == 1 else str(path): path for path in paths}
    folder = out.parent if out else place_of(run)  # raises before the work
    found = opened([*names.values()], given, reuse.check)
    with engine(given["workers"]) as pool, progress("reuse", quiet) as show:
        pool = Watched(pool, show)

        def analysed(config: Config, kept: Kept) -> tuple[Reuse, Reuse]:
            steps = given["steps"] or max(config.test_steps, 1)
            how = given["split"], given["tasks"], steps, given["queries"]
            return reuse.analyse(config, kept, *how, pool)

        pairs = {
            name: analysed(config, kept)
            for name, (_, config, kept) in zip(names, found, strict=True)
        }
    text = json_of(pairs) if as_json else as_text(pairs, columns(sys.stdout))
    click.echo(text, nl=not as_json)
    try:
        drawn = picture(pairs)
    except WorldError as error:  # without matplotlib there are tables still
        click.echo(f"no picture: {error}", err=True)
    else:
        if out is None:
            folder.mkdir(parents=True, exist_ok=True)
        click.echo(figures.save(drawn, out or folder / "reuse.png"), err=as_json)


def place_of(run: tuple[str, ...]) -> Path:
    """Return the folder of the picture; one run of the package has the current folder."""
    if len({*run}) == 1 and run[0].startswith(checkpoints.PREFIX):
        return Path()
    return place([Path(name.removeprefix(checkpoints.PREFIX)) for name in run])
