"""`tinymaml list`: the experiments, their options, and the published settings."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from tinymaml.cli.options import shown
from tinymaml.experiments import MODULES
from tinymaml.experiments.common import Config
from tinymaml.published import presets


KINDS = {name: module.CONFIG for name, module in MODULES.items()}


@click.command(name="list")
@click.argument("experiment", required=False, type=click.Choice([*MODULES]))
@click.option("--presets", "published", is_flag=True, help="published settings instead")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def list_command(experiment: str | None, published: bool, as_json: bool) -> None:
    """List the experiments, or one's options with the source of each default.

    \b
    tinymaml list sine
    tinymaml list --presets
    """
    if published:
        having = {n: k for n, k in KINDS.items() if n in presets.PUBLISHED}
        chosen = {n: k for n, k in having.items() if experiment in (None, n)}
        if as_json:
            told = {n: _as_json(presets.PUBLISHED[n]) for n in chosen}
            click.echo(json.dumps(told, indent=2))
        else:
            click.echo("\n\n".join(side_by_side(k) for k in chosen.values()))
    elif as_json:
        told = {n: dataclasses.asdict(k()) for n, k in KINDS.items()}
        click.echo(json.dumps(told[experiment] if experiment else told, indent=2))
    elif experiment is None:
        for name, kind in KINDS.items():
            click.echo(f"{name:<12} {kind.__doc__.splitlines()[0]}")
    else:
        for field in dataclasses.fields(KINDS[experiment]):
            flag = "--" + field.name.replace("_", "-")
            source = field.metadata["source"]
            click.echo(f"{flag:<20} {shown(field.default):<10} {field.metadata['help']}")
            if source:
                click.echo(f"{'':<31} source: {source}")


def side_by_side(kind: type[Config]) -> str:
    """Return an experiment's published settings: paper, code and our default, sources.

    A row in which paper and code disagree is marked with !.
    """
    settings, parts, notes = presets.PUBLISHED[kind.name]
    lines = [f"{kind.name}   (! where paper and code disagree)"]
    lines += [f"  published: {presets.flags(setting)}" for setting in settings]
    for part in parts:
        head = presets.flags(part.when) or "all of these"
        lines.append(f"  {head:<18} {'paper':<16} {'code':<16} our default")
        for row in part.rows:
            mark = "!" if row.paper != row.code else " "
            ours = getattr(kind, row.option)
            told = (f"{shown(x):<16}" for x in (row.paper, row.code, ours))
            flag = "--" + row.option.replace("_", "-")
            lines.append(f"{mark}   {flag:<16} {' '.join(told).rstrip()}")
            lines.append(f"{'':<6}paper: {row.paper_source} | code: {row.code_source}")
    lines += [f"!   {note}" for note in notes]
    return "\n".join(lines)


def _as_json(published: presets.Published) -> dict[str, Any]:
    return {
        "settings": published.settings,
        "parts": [
            {"when": part.when, "rows": [row._asdict() for row in part.rows]}
            for part in published.parts
        ],
        "notes": published.notes,
    }
