"""`tinymaml adapt`: adapt a run's theta to the points of a file, and predict others."""

import csv
import io
import sys
from typing import NamedTuple

import click
import numpy as np

from tinymaml import study, summary
from tinymaml.cli.options import JSON, LAST, Folder, Value, asked, note
from tinymaml.cli.terminal import columns
from tinymaml.errors import UsageError, WorldError
from tinymaml.fewshot import drawn
from tinymaml.harness import checkpoints
from tinymaml.maml import Array
from tinymaml.options import STEPS
from tinymaml.report.layout import laid_out


LARGEST = 2**24  # bytes of a file of points
STEPS_OPTION = asked(
    "--steps", Value(int, **STEPS), "number of gradient steps  [as the run]"
)
OPTIONS = (
    STEPS_OPTION,
    asked("--csv as_csv", None, "print CSV"),
    JSON,
)


class Points(NamedTuple):
    """Points of one task: x (n, d) and y (n, k), y nan where it is to be predicted."""

    x: Array
    y: Array

    @property
    def known(self) -> Array:
        """Which points (n,) have targets: the support set."""
        return ~np.isnan(self.y).any(axis=1)


@click.command("adapt", params=[*OPTIONS, LAST])
@click.argument("run", type=Folder())
@click.argument("points", type=click.Path(exists=True, dir_okay=False))
def adapt_command(
    run: str, points: str, steps: int | None, as_csv: bool, as_json: bool, last: bool
) -> None:
    """Adapt a regression run to the points of a CSV file, and predict others.

    A line has a point's inputs and then its targets. A line without targets is to be
    predicted. A first line of names is skipped.

    \b
    tinymaml adapt runs/sine-1 points.csv

    \b
    x,y
    -1.5,0.3
    2.0,-0.8
    0.5,
    """
    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other")
    trained = opened_run(run, last)
    sizes = dimensions(trained)
    found = read(points, *sizes)
    if not found.known.any():
        raise WorldError(f"{points!r}: no line has inputs and targets to adapt to")
    support, steps = found.known, trained.config.test_steps if steps is None else steps
    fits = before_and_after(trained, points, found.x[support], found.y[support], steps)
    before, after = (np.asarray(fit(found.x), float) for fit in fits)
    names = heads(*sizes)
    rows = np.hstack([found.x, found.y, before, after]).tolist()
    if as_json:
        keys = ("inputs", "targets", "before", "after")
        parts = (found.x, found.y, before, after)
        each = [
            dict(zip(keys, map(np.ndarray.tolist, row), strict=True))
            for row in zip(*parts, strict=True)
        ]
        click.echo(summary.as_json({"steps": steps, "points": each}, indent=2))
    elif as_csv:
        out = csv.writer(sys.stdout)
        out.writerow(names)
        out.writerows([["" if np.isnan(x) else x for x in row] for row in rows])
    else:
        cells = [["" if np.isnan(x) else f"{x:.4f}" for x in row] for row in rows]
        title = f"{run}: adapted to {support.sum()} of {len(support)} points, {steps} steps"
        click.echo(laid_out([title, [names, *cells]], columns(sys.stdout)))


def opened_run(run: str, last: bool, fallback: bool = False) -> study.Run:
    """Return a run; print on stderr what has changed since it was begun."""
    found = study.open_run(run, last, fallback)
    note(checkpoints.locate(run), found.config)
    if not found.config.uses("alpha"):
        tuned = "is not tuned here; `tinymaml evaluate` tunes it on validation tasks"
        click.echo(f"note: the step size {found.config.alpha:g} {tuned}", err=True)
    return found


def before_and_after(
    trained: study.Run, place: str, x: Array, y: Array, steps: int
) -> list[study.Adapted]:
    """Return the nets before and after adaptation to examples from a place.

    Raises WorldError that names the place where `study.Run.adapt` raises ValueError.
    """
    try:
        return [trained.adapt(x, y, k) for k in (0, steps)]
    except UsageError:
        raise
    except ValueError as error:  # too large, too few outputs, or the steps diverge
        raise WorldError(f"{place!r}: {error}") from error


def dimensions(trained: study.Run) -> tuple[int, int]:
    """Return the numbers of inputs and targets of a point. Raises UsageError for others."""
    config = trained.config
    if "regression" not in config.offers and config.score.higher_is_better:
        raise UsageError(f"a run of {config.name} is no regression of points")
    family = study.problem(config)
    episode = drawn(
        family._replace(sample=family.plain or family.sample), 0, "test", 0, range(1)
    )
    shapes = episode.x_support.shape, episode.y_support.shape
    if config.method.sees_task or any(len(shape) != 3 for shape in shapes):
        raise UsageError(f"the inputs of this run of {config.name} are more than a point's")
    return shapes[0][2], shapes[1][2]


def read(file: str, inputs: int, targets: int) -> Points:
    """Return the points of a CSV file. Raises WorldError naming the line that is wrong."""
    with open(file, "rb") as opened:
        data = opened.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise WorldError(f"{file!r} has more than {LARGEST} bytes")
    try:
        lines = [*csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))]
    except (csv.Error, UnicodeDecodeError) as error:
        raise WorldError(f"{file!r} is not a readable csv file: {error}") from error
    rows: list[list[float]] = []
    for number, cells in enumerate(lines, 1):
        cells = [cell.strip() for cell in cells]
        if not any(cells) or (number == 1 and not rows and not _numbers(cells[:inputs])):
            continue
        cells += [""] * (inputs + targets - len(cells))
        wanted = cells[:inputs] + [cell for cell in cells[inputs:] if cell]
        blank = len(wanted) == inputs
        if len(cells) > inputs + targets or not (blank or len(wanted) == inputs + targets):
            form = f"{inputs} inputs and {targets} targets, or none"
            raise WorldError(f"line {number} of {file!r} has not {form}")
        if not _numbers(wanted):
            raise WorldError(f"line {number} of {file!r} has not only finite numbers")
        rows.append([float(cell) if cell else np.nan for cell in cells])
    table = np.array(rows).reshape(len(rows), inputs + targets)
    return Points(table[:, :inputs], table[:, inputs:])


def heads(inputs: int, targets: int) -> list[str]:
    """Return the names of the columns: x, y, before, after; numbered if there are more."""
    sizes = {"x": inputs, "y": targets, "before": targets, "after": targets}
    return [
        name if size == 1 else f"{name}{i}"
        for name, size in sizes.items()
        for i in range(1, size + 1)
    ]


def _numbers(cells: list[str]) -> bool:
    """Return whether cells are finite numbers."""
    try:
        return bool(np.isfinite([float(cell) for cell in cells]).all())
    except ValueError:
        return False
