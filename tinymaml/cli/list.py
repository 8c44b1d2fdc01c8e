"""`tinymaml list`: experiments, algorithms, their options, published settings."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from tinymaml.algorithms import ALGORITHMS
from tinymaml.cli.options import JSON, Folder, Value, asked
from tinymaml.cli.terminal import columns
from tinymaml.errors import UsageError
from tinymaml.experiments import MODULES, OWN, find
from tinymaml.experiments.common import Config
from tinymaml.options import flag, flags, options_of, shown
from tinymaml.published import presets
from tinymaml.published.work import Published, Work
from tinymaml.report import overview
from tinymaml.report.layout import Rows, aligned, laid_out


KINDS = {name: module.CONFIG for name, module in MODULES.items()}
RUNS = "runs"
TABLE = 72  # columns that a table of published settings needs
NAME = Value(str, choices=(RUNS, *MODULES, *ALGORITHMS), others=rf".+\{OWN}")
COLUMNS = ("algorithm", "meta-learns", "adapts", "relative cost", "source")


@click.command(
    "list", params=[asked("--presets published", None, "list published settings"), JSON]
)
@click.argument("name", required=False, type=NAME)
@click.argument("folder", required=False, type=Folder())
def list_command(
    name: str | None, folder: str | None, published: bool, as_json: bool
) -> None:
    """List the experiments and the algorithms, the options of one of them, or runs.

    NAME can be FILE.py, an experiment of your own. FOLDER is where the runs are, if not in
    runs/.

    \b
    tinymaml list sine
    tinymaml list averaged
    tinymaml list --presets
    tinymaml list sine --presets
    tinymaml list runs
    """
    width = columns(sys.stdout)
    if folder is not None and name != RUNS:
        raise UsageError(f"unexpected argument {folder!r}; try: tinymaml list runs")
    if name == RUNS:
        if published:
            raise UsageError("--presets are of experiments, not of runs")
        found = overview.read(Path(folder or RUNS))
        click.echo(overview.as_json(found) if as_json else overview.as_text(found, width))
    elif published:
        chosen = [n for n in KINDS if presets.of(n) and name in (None, n)]
        if not chosen:
            having = ", ".join(n for n in KINDS if presets.of(n))
            raise UsageError(f"no presets of {name}; there are {having}")
        if as_json:
            click.echo(json.dumps({n: _as_json(n) for n in chosen}, indent=2))
        else:
            click.echo("\n\n".join(side_by_side(KINDS[n], width) for n in chosen))
    elif as_json:
        own = {name: find(name).kind} if name and name.endswith(OWN) else {}
        kinds = KINDS | own | {n: row.options for n, row in ALGORITHMS.items()}
        known = {n: options_of(kind) for n, kind in kinds.items()}
        usual = {n: {k: o.default for k, o in row.items()} for n, row in known.items()}
        click.echo(json.dumps(usual[name] if name else usual, indent=2))
    elif name is None:
        rows = [[f"  {n}", kind.__doc__.splitlines()[0]] for n, kind in KINDS.items()]
        click.echo(laid_out([[["experiments", ""], *rows], "", algorithms()], width))
    else:
        kind = ALGORITHMS[name].options if name in ALGORITHMS else find(name).kind
        click.echo(described(kind, width) or f"{name} has no options of its own")


def algorithms() -> Rows:
    """Return the algorithms as a table; costs are relative to MAML with one inner step."""
    found = ALGORITHMS.values()
    rows = [[x.name, x.learns, x.adapts, x.cost, x.source] for x in found]
    return [[*COLUMNS], *rows]


def described(kind: type, width: int | None = None) -> str:
    """Return the options of a dataclass with their defaults, help and sources."""
    rows = []
    for option in options_of(kind).values():
        rows.append([option.flag, shown(option.default), option.help])
        rows += [["", "", f"source: {option.source}"]] if option.source else []
    return "\n".join(aligned(rows, width, headed=False)) if rows else ""


def side_by_side(kind: type[Config], width: int | None = None) -> str:
    """Return an experiment's published settings, work by work (see `_work`)."""
    found = presets.of(kind.name).items()
    narrow = width is not None and width < TABLE
    works = (_work(kind, presets.WORKS[n], x, narrow) for n, x in found)
    return "\n\n".join(laid_out(work, width) for work in works)


def _work(
    kind: type[Config], work: Work, published: Published, narrow: bool
) -> list[str | Rows]:
    """Return the settings of a work: paper, code and our default, with their sources.

    A row in which paper and code disagree is marked with !.
    narrow: without columns
    """
    names = " or ".join(f"{work.name}-{column}" for column in work.columns)
    lines: list[str | Rows] = [
        f"{kind.name} --preset {names}   (! where paper and code disagree)",
        f"  {work.title}; its code: {work.code}",
        *(f"  published: {flags(x)}" for x in published.settings if x),
    ]
    ours = _defaults(kind, published)
    for part in published.parts:
        head = flags(part.when) or "all of these"
        if not narrow:
            head = f"{head:<18} {'paper':<16} {'code':<16} our default"
        lines.append(f"  {head}")
        for row in part.rows:
            differ, name = row.paper != row.code, flag(row.option)
            cells = [shown(x) for x in (row.paper, row.code, ours[row.option])]
            if narrow:
                line = "    {}: paper {}, code {}, our default {}".format(name, *cells)
                lines.append(line + " (!)" * differ)
            else:
                line = f"   {name:<16} {' '.join(f'{x:<16}' for x in cells)}"
                lines.append(("!" if differ else " ") + line.rstrip())
            lines.append(f"{'':<6}paper: {row.paper_source} | code: {row.code_source}")
    lines += [f"!   {note}" for note in published.notes]
    lines += [f"    without effect in the code: {what}" for what in published.dead]
    lines += [f"    no option here: {what}" for what in published.missing]
    return lines


def _defaults(kind: type[Config], published: Published) -> dict[str, Any]:
    """Return our defaults with the first algorithm of the published settings."""
    record = ALGORITHMS[published.settings[0].get("algorithm", kind.algorithm)]
    usual = {n: option.default for n, option in kind.options_for(record).items()}
    return usual | record.defaults({})


def _as_json(name: str) -> dict[str, Any]:
    """Return the settings of each work of an experiment, by the work's name."""
    found = {}
    for work, published in presets.of(name).items():
        parts = [
            {"when": part.when, "rows": [row._asdict() for row in part.rows]}
            for part in published.parts
        ]
        title, code = presets.WORKS[work].title, presets.WORKS[work].code
        found[work] = {"title": title, "code": code, **published._asdict(), "parts": parts}
    return found
