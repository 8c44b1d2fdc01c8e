"""What an evaluation found, for people, for a paper and for machines.

A table has one row per number of gradient steps and one column per result (a number of
shots, say), with a further one where every query example was also judged on its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from tinymaml.cli.options import shown
from tinymaml.harness.results import Result, over_seeds, over_tasks
from tinymaml.published import figures, presets


Array = np.ndarray


# Options that a title leaves out: they matter little to a figure, or stand elsewhere.
TOLD_APART = (
    *("iterations", "seed", "data", "test", "test_tasks", "test_steps"),
    *("chunk", "replay", "checkpoint_every", "validate_every", "validation_tasks"),
)


class Column(NamedTuple):
    """A head, and a cell for each number of gradient steps that has one."""

    head: str
    cells: dict[int, str]


# ----- For people -----


def as_text(results: Sequence[Result], shown: Iterable[int]) -> str:
    """Return the table of results of the same runs, with only the steps shown."""
    columns = _columns(results)
    steps = [k for k in shown if k in columns[0].cells]
    rows = [[f"{k:>14}", *_row(columns, k)] for k in steps]
    lines = _aligned([["gradient steps", *(column.head for column in columns)], *rows])
    for result in results:
        told = [*result.remarks, *_anchors(result)]
        lines += [f"{_tasks(result)}: sha256 {result.tasks_sha256}", *told]
        if compared := _compared(result):
            heads = ["published", "steps", "theirs", "ours", "source"]
            lines += ["", *_aligned([heads, *compared]), *_differing(result), ""]
    if not lines[-1]:
        lines.pop()
    return "\n".join(lines)


def as_markdown(results: Sequence[Result]) -> str:
    """Return the same in Markdown, under a heading, with every step."""
    columns = _columns(results)
    rows = [[str(k), *_row(columns, k)] for k in columns[0].cells]
    heads = ["gradient steps", *(column.head for column in columns)]
    lines = [f"**{title(results[0])}**", "", *_markdown(heads, rows)]
    for result in results:
        told = [f"{_tasks(result)}: sha256 `{result.tasks_sha256}`"]
        told += [*result.remarks, *_anchors(result)]
        lines += ["", "; ".join(told)]
        if compared := _compared(result):
            heads = ["published", "steps", "theirs", "ours", "source"]
            lines += ["", *_markdown(heads, compared)]
            lines += ["", *differing] if (differing := _differing(result)) else []
    return "\n".join(lines) + "\n"


def title(result: Result) -> str:
    """Return one line: what was evaluated, of which runs, on which tasks."""
    config, tasks = result.config, result.scores.shape[-1]
    options = presets.apart(result.trained)
    options = {k: x for k, x in options.items() if k not in TOLD_APART}
    name = " ".join(filter(None, [config.name, presets.flags(options)]))
    iterations = ", ".join(map(str, sorted({*result.iterations})))
    told = f"{name}, {iterations} iterations, {tasks} {result.split} tasks"
    if len(result.seeds) > 1:
        told += f", seeds {', '.join(map(str, result.seeds))}"
    chosen = [_figure(config.score, x) for x in result.validations if not np.isnan(x)]
    if chosen:
        told += f", chosen on validation tasks ({config.score} {', '.join(chosen)})"
    return told


def _anchors(result: Result) -> list[str]:
    """Scores that do not depend on a theta, to compare with."""
    return [f"{name}: {value}" for name, value in result.config.anchors.items()]


def _tasks(result: Result) -> str:
    shots = getattr(result.config, "shots", None)
    return "tasks" if shots is None else f"tasks, K = {shots}"


def _columns(results: Sequence[Result]) -> list[Column]:
    columns = []
    for result in results:
        config, tasks = result.config, result.scores.shape[-1]
        over = "95 % interval" if len(result.seeds) == 1 else "95 % over tasks, over seeds"
        subject = f"on {tasks} tasks" if len(results) == 1 else f"of K = {config.shots}"
        seen = "" if result.alone is None else ", transductive"
        head = f"{config.score} {subject}{seen} ({over})"
        columns.append(Column(head, _cells(config.score, result.scores)))
        if result.alone is not None:
            cells = _cells(config.score, result.alone).values()
            told = dict(zip(result.alone_steps, cells, strict=True))
            columns.append(Column("each query alone (not transductive)", told))
    return columns


def _row(columns: Sequence[Column], step: int) -> list[str]:
    return [column.cells.get(step, "") for column in columns]


def _cells(score: str, scores: Array) -> dict[int, str]:
    mean, half = over_tasks(scores)
    cells = {
        k: _figure(score, *pair) for k, pair in enumerate(zip(mean, half, strict=True))
    }
    if len(scores) > 1:
        for k, seeds in enumerate(over_seeds(scores)):
            cells[k] = _figure(score, mean[k], half[k], seeds)
    return cells


def _figure(score: str, *numbers: float) -> str:
    """A mean and half-widths as "98.57 +- 0.50 %" or "0.5900 +- 0.0600"."""
    factor, digits, unit = (100, 2, " %") if score == "accuracy" else (1, 4, "")
    return " +- ".join(f"{factor * x:.{digits}f}" for x in numbers) + unit


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["   ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


# ----- Beside what was published -----


def _compared(result: Result) -> list[list[str]]:
    """Method, steps, theirs, ours after as many steps, source; ours of the same method."""
    config, rows = result.config, []
    ours = _cells(config.score, result.scores)
    unit = " %" if config.score == "accuracy" else ""
    for figure in figures.matching(config, result.split):
        steps = [k for k, *_ in figure.values if k is not None]
        theirs = [_told(*value) + unit for _, *value in figure.values]
        same = figures.is_method(figure, config)
        told = [ours.get(k, "-") for k in steps or [max(ours)]] if same else []
        cells = ((str(k) for k in steps), theirs, told)
        known = figures.differences(figure, result) is not None
        source = figure.source if known else f"{figure.source}; settings of its own"
        rows.append([figure.method, *map(", ".join, cells), source])
    return rows


def _differing(result: Result) -> list[str]:
    """What of the paper's setting the result has not, in a line if there is anything.

    The paper's first figure tells most: the own method's, if it has one.
    """
    figures = figures.matching(result.config, result.split)
    for found in filter(None, (figures.differences(one, result) for one in figures)):
        told = [_difference(name, **values) for name, values in found.items()]
        return [f"differs from {figures.PAPER}: {', '.join(told)}"]
    return []


def _difference(name: str, ours: Any, published: Sequence[Any]) -> str:
    """An option as it was given, and as it was published: "--filters 4 (64)"."""
    theirs = [
        presets.flags({name: x}) if isinstance(x, bool) else shown(x) for x in published
    ]
    return f"{presets.flags({name: ours})} ({' or '.join(theirs)})"


def _told(value: float, half: float | None) -> str:
    return f"{value:g}" if half is None else f"{value:g} +- {half:g}"


# ----- For machines -----


def as_json(results: Sequence[Result]) -> str:
    """Return the results as JSON: an object of one, a list of several.

    What is not finite becomes null, for which JSON has no number.
    """
    told = [_as_dict(result) for result in results]
    return json.dumps(told[0] if len(told) == 1 else told, indent=2) + "\n"


def _as_dict(result: Result) -> dict[str, Any]:
    config, trained = result.config, asdict(result.trained)
    told = {
        "experiment": config.name,
        "algorithm": config.algorithm,
        "alpha": config.alpha,
        "options": {k: x for k, x in trained.items() if k not in ("seed", "data")},
        "score": config.score,
        "split": result.split,
        "shots": getattr(config, "shots", None),
        "seeds": result.seeds,
        "iterations": result.iterations,
        "validations": _finite(np.array(result.validations)),
        "tasks": result.scores.shape[-1],
        "tasks_sha256": result.tasks_sha256,
        "remarks": result.remarks,
        **_numbers(result.scores),
    }
    if config.anchors:
        told["anchors"] = config.anchors
    if result.alone is not None:
        told["alone"] = {"steps": result.alone_steps, **_numbers(result.alone)}
    figures = figures.matching(config, result.split)
    told["published"] = [
        {**figure._asdict(), "differs": figures.differences(figure, result)}
        for figure in figures
    ]
    return told


def _numbers(scores: Array) -> dict[str, list[float | None]]:
    mean, half = over_tasks(scores)
    told = {"mean": _finite(mean), "half_width_95": _finite(half)}
    if len(scores) > 1:
        told["half_width_95_over_seeds"] = _finite(over_seeds(scores))
    return told


def _finite(numbers: Array) -> list[float | None]:
    return [x if np.isfinite(x) else None for x in numbers.tolist()]
