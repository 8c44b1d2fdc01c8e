"""`tinymaml list`: experiments, algorithms, their options, published settings."""

import json
from typing import Any

import click

from tinymaml.algorithms import ALGORITHMS
from tinymaml.cli.options import JSON, asked
from tinymaml.errors import UsageError
from tinymaml.experiments import MODULES
from tinymaml.experiments.common import Config
from tinymaml.options import Option, flag, flags, options_of, shown
from tinymaml.published import presets
from tinymaml.published.work import Published, Work


KINDS = {name: module.CONFIG for name, module in MODULES.items()}
COLUMNS = ("algorithm", "meta-learns", "adapts", "relative cost", "source")


@click.command(
    "list", params=[asked("--presets published", None, "list published settings"), JSON]
)
@click.argument("name", required=False, type=click.Choice([*MODULES, *ALGORITHMS]))
def list_command(name: str | None, published: bool, as_json: bool) -> None:
    """List the experiments and the algorithms, or the options of one of them.

    \b
    tinymaml list sine
    tinymaml list averaged
    tinymaml list --presets
    tinymaml list sine --presets
    """
    if published:
        chosen = [n for n in KINDS if presets.of(n) and name in (None, n)]
        if not chosen:
            having = ", ".join(n for n in KINDS if presets.of(n))
            raise UsageError(f"no presets of {name}; there are {having}")
        if as_json:
            click.echo(json.dumps({n: _as_json(n) for n in chosen}, indent=2))
        else:
            click.echo("\n\n".join(side_by_side(KINDS[n]) for n in chosen))
    elif as_json:
        kinds = KINDS | {n: row.options for n, row in ALGORITHMS.items()}
        known = {n: options_of(kind) for n, kind in kinds.items()}
        found = {n: {k: o.default for k, o in row.items()} for n, row in known.items()}
        click.echo(json.dumps(found[name] if name else found, indent=2))
    elif name is None:
        lines = [f"  {n:<14} {kind.__doc__.splitlines()[0]}" for n, kind in KINDS.items()]
        click.echo("\n".join(["experiments", *lines, "", algorithms()]))
    else:
        kind = KINDS[name] if name in KINDS else ALGORITHMS[name].options
        lines = [_described(option) for option in options_of(kind).values()]
        click.echo("\n".join(lines) or f"{name} has no options of its own")


def algorithms() -> str:
    """Return the algorithms as a table; costs are relative to MAML with one inner step."""
    found = ALGORITHMS.values()
    rows = [COLUMNS, *((x.name, x.learns, x.adapts, x.cost, x.source) for x in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _described(option: Option) -> str:
    line = f"{option.flag:<20} {shown(option.default):<10} {option.help}"
    return f"{line}\n{'':<31} source: {option.source}" if option.source else line


def side_by_side(kind: type[Config]) -> str:
    """Return an experiment's published settings, work by work (see `_work`)."""
    found = presets.of(kind.name).items()
    return "\n\n".join(_work(kind, presets.WORKS[n], published) for n, published in found)


def _work(kind: type[Config], work: Work, published: Published) -> str:
    """Return the settings of a work: paper, code and our default, with their sources.

    A row in which paper and code disagree is marked with !.
    """
    names = " or ".join(f"{work.name}-{column}" for column in work.columns)
    lines = [
        f"{kind.name} --preset {names}   (! where paper and code disagree)",
        f"  {work.title}; its code: {work.code}",
        *(f"  published: {flags(x)}" for x in published.settings if x),
    ]
    ours = _defaults(kind, published)
    for part in published.parts:
        head = flags(part.when) or "all of these"
        lines.append(f"  {head:<18} {'paper':<16} {'code':<16} our default")
        for row in part.rows:
            mark = "!" if row.paper != row.code else " "
            cells = (f"{shown(x):<16}" for x in (row.paper, row.code, ours[row.option]))
            lines.append(f"{mark}   {flag(row.option):<16} {' '.join(cells).rstrip()}")
            lines.append(f"{'':<6}paper: {row.paper_source} | code: {row.code_source}")
    lines += [f"!   {note}" for note in published.notes]
    lines += [f"    without effect in the code: {what}" for what in published.dead]
    lines += [f"    no option here: {what}" for what in published.missing]
    return "\n".join(lines)


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
