"""`tinymaml report`: one page about runs."""

import io
import shlex
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from tinymaml import plots
from tinymaml.cli import check
from tinymaml.cli.options import DATA, FALLBACK, QUIET, Folder, asked, opened
from tinymaml.cli.terminal import Show, progress
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments.common import Config
from tinymaml.experiments.images import Images
from tinymaml.harness import checkpoints, results, runs
from tinymaml.report import html, page
from tinymaml.report.html import Html, element
from tinymaml.report.page import Checked


OUT = asked("--out", click.Path(path_type=Path), "HTML file to write", "report.html")
REUSE = "reuse.png"  # what `tinymaml reuse` draws in a run's folder
# What a picture shows, by the name of its file.
CAPTIONS = {
    "curve": "learning curves",
    "steps": "score of held-out tasks after each gradient step",
    "rates": "learned step sizes",
    "fit": "held-out tasks before and after gradient steps",
    "sheet": "held-out tasks before and after gradient steps",
    "walks": "held-out tasks before and after gradient steps",
    "gaits": "held-out tasks before and after gradient steps",
    "reuse": "feature reuse",
}


@click.command("report", params=[DATA, FALLBACK, OUT, QUIET])
@click.argument("run", nargs=-1, required=True, type=Folder())
def report_command(run: tuple[str, ...], out: Path, quiet: bool, **given: Any) -> None:
    """Write one HTML page about runs, which needs no network and no script.

    It has the settings and their sources, the tables of `tinymaml evaluate` with published
    figures, the pictures of `tinymaml plot`, the check of `tinymaml check` on a small net,
    versions, and the commands to repeat it. Runs that were not evaluated have no table: use
    `tinymaml evaluate` first.

    \b
    tinymaml report runs/sine-1
    tinymaml report runs/sine-1 runs/sine-2 --out both.html
    """
    html.check_place(out)
    folders = [*dict.fromkeys(checkpoints.locate(name) for name in run)]
    paths = [*dict.fromkeys(path for x in folders for path in runs.members(x))]
    found = {x[0]: x for x in opened(paths, given | {"last": False})}
    results.alike([x[:2] for x in found.values()])  # raises for a run that is there twice
    read = [[found[path] for path in runs.members(folder)] for folder in folders]
    members = [[(path, x, kept.iteration) for path, x, kept in some] for some in read]
    subjects = page.subjects([*zip(folders, members, strict=True)])
    configs = [config for _, config, _ in found.values()]
    with progress("report", quiet) as show:
        kinds: dict[str, list[Path]] = {}
        for folder, some in zip(folders, members, strict=True):
            kinds.setdefault(some[0][1].name, []).append(folder)
        pictures = [x for some in kinds.values() for x in drawn(some, given, show)]
        pictures += [x for path, config, _ in found.values() for x in reused(path, config)]
        checks = checked(configs, show)
    click.echo(html.write(out, page.as_html(subjects, pictures, checks)))


def reused(path: Path, config: Config) -> list[Html]:
    """Return the picture of a run's feature reuse, or how to get it for a run on images."""
    if (path / REUSE).exists():
        return [picture(path / REUSE)]
    if not isinstance(config, Images) or path.parent == checkpoints.FOLDER:
        return []
    command = element("code", shlex.join(["tinymaml", "reuse", str(path)]))
    return [element("p", "Feature reuse was not measured; this command does: ", command)]


def drawn(folders: Sequence[Path], given: dict[str, Any], show: Show) -> list[Html]:
    """Return the pictures of runs of one experiment, and a line for what has none."""
    configs = runs.read_configs([path for x in folders for path in runs.members(x)])
    data = given["data"] if any("data" in x.options for x in configs) else None
    noted, failed = io.StringIO(), ""
    with TemporaryDirectory() as folder:
        into, note = Path(folder), lambda name: show(0, None, name)
        try:
            with redirect_stderr(noted):
                plots.draw(folders, data, 0, given["fallback"], into, note)
        except WorldError as error:
            failed = f"no pictures: {error}"
        figures = [picture(file) for file in sorted(into.iterdir(), key=_order)]
    lines = [*noted.getvalue().splitlines(), *filter(None, [failed])]
    for line in lines:
        click.echo(line, err=True)
    return figures + [element("p", line) for line in lines]


def _order(file: Path) -> tuple[int, str]:
    return [*CAPTIONS].index(file.stem), file.suffix


def picture(file: Path) -> Html:
    """Return the figure of a picture in a file."""
    return html.picture(file.read_bytes(), file.suffix[1:], CAPTIONS[file.stem])


def checked(configs: Sequence[Config], show: Show) -> list[Checked]:
    """Return the gradient check of each algorithm and experiment."""
    todo: dict[str, Callable] = dict(map(check.of_run, configs))
    found = []
    for command, verify in todo.items():
        try:
            report = verify(check.watched("check", show))
        except (UsageError, WorldError) as error:
            report = str(error)
        found.append(Checked(command, report))
    return found
