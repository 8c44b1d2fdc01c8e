"""What an evaluation found, for people, for a paper and for machines.

A table has one row per number of gradient steps and one column per result (a number of
shots, say), with a further one where every query example was also judged on its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinymaml.harness import runs
from tinymaml.harness.results import Result, over_seeds, over_tasks
from tinymaml.losses import Score
from tinymaml.options import PLACE, SEED, flags, shown
from tinymaml.published import figures
from tinymaml.published.figures import Figure


Array = np.ndarray


class Column(NamedTuple):
    """A head, and a cell for each number of gradient steps that has one."""

    head: str
    cells: dict[int, str]


# ----- For people -----


def as_text(results: Sequence[Result], steps: Iterable[int]) -> str:
    """Return the table of results of the same runs, with only the steps shown."""
    columns = _columns(results)
    steps = [k for k in steps if k in columns[0].cells]
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
    roles = {name: option.role for name, option in result.trained.options.items()}
    options = result.trained.differences()
    options = {name: x for name, x in options.items() if roles[name].titled}
    name = " ".join(filter(None, [config.name, flags(options)]))
    iterations = ", ".join(map(str, sorted({*result.iterations})))
    told = f"{name}, {iterations} iterations, {tasks} {result.split} tasks"
    if len(result.seeds) > 1:
        told += f", seeds {', '.join(map(str, result.seeds))}"
    chosen = [config.score.shown(x) for x in result.validations if not np.isnan(x)]
    if chosen:
        told += f", chosen on validation tasks ({config.score.name} {', '.join(chosen)})"
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
        head = f"{config.score.name} {subject}{seen} ({over})"
        columns.append(Column(head, _cells(config.score, result.scores)))
        if result.alone is not None:
            cells = _cells(config.score, result.alone).values()
            told = dict(zip(result.alone_steps, cells, strict=True))
            columns.append(Column("each query alone (not transductive)", told))
    return columns


def _row(columns: Sequence[Column], step: int) -> list[str]:
    return [column.cells.get(step, "") for column in columns]


def _cells(score: Score, scores: Array) -> dict[int, str]:
    mean, half = over_tasks(scores)
    cells = {k: score.shown(*pair) for k, pair in enumerate(zip(mean, half, strict=True))}
    if len(scores) > 1:
        for k, seeds in enumerate(over_seeds(scores)):
            cells[k] = score.shown(mean[k], half[k], seeds)
    return cells


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
    for figure in figures.matching(config, result.split):
        steps = [k for k, *_ in figure.values if k is not None]
        theirs = [_told(*value) + config.score.unit for _, *value in figure.values]
        same = figures.is_method(figure, config)
        told = [ours.get(k, "-") for k in steps or [max(ours)]] if same else []
        cells = ((str(k) for k in steps), theirs, told)
        known = _differences(figure, result) is not None
        source = figure.source if known else f"{figure.source}; settings of its own"
        rows.append([figure.method, *map(", ".join, cells), source])
    return rows


def _differing(result: Result) -> list[str]:
    """What of the paper's setting the result has not, in a line if there is anything.

    The paper's first figure tells most: the own method's, if it has one.
    """
    shown = figures.matching(result.config, result.split)
    for found in filter(None, (_differences(one, result) for one in shown)):
        parts = [_difference(name, **values) for name, values in found.items()]
        return [f"differs from {figures.PAPER}: {', '.join(parts)}"]
    return []


def _differences(figure: Figure, result: Result) -> dict[str, dict[str, Any]] | None:
    """What `figures.differences` finds of the theta that was tested."""
    last = np.isnan(result.validations).all()  # else it trained on after that theta
    tested = min(result.iterations) if last else None
    return figures.differences(figure, result.config, result.trained, tested)


def _difference(name: str, ours: Any, published: Sequence[Any]) -> str:
    """An option as it was given, and as it was published: "--filters 4 (64)"."""
    theirs = [flags({name: x}) if isinstance(x, bool) else shown(x) for x in published]
    return f"{flags({name: ours})} ({' or '.join(theirs)})"


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
    config, trained = result.config, result.trained.values()
    roles = {name: option.role for name, option in result.trained.options.items()}
    told = {
        "experiment": config.name,
        "algorithm": config.algorithm,
        "alpha": config.alpha,
        "options": {k: x for k, x in trained.items() if roles[k] not in (SEED, PLACE)},
        "score": config.score.name,
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
    told["published"] = [
        {**figure._asdict(), "differs": _differences(figure, result)}
        for figure in figures.matching(config, result.split)
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


# ----- In a run's folder -----


class Evaluation(NamedTuple):
    """What evaluation.json has of a run.

    iteration, alpha: of the theta, and the step size it was adapted with
    mean, half: the score after 0, 1, ... steps, and half its 95 % interval over tasks
    tasks: their number
    """

    iteration: int
    alpha: float
    mean: Array
    half: Array
    tasks: int


def save(path: Path, result: Result) -> None:
    """Write evaluation.json into the folder of a run, or of several seeds."""
    runs.write(path / runs.EVALUATION, as_json([result]).encode())


def keep(path: Path, result: Result) -> None:
    """Write evaluation.json of a run whose theta has none, for `tinymaml plot`.

    A theta without a run's checkpoints, as the package has them, is left alone.
    """
    found = saved(path)
    if not (path / runs.THETA).exists() and (
        found is None or [found.iteration] != [*result.iterations]
    ):
        save(path, result)


def saved(path: Path) -> Evaluation | None:
    """Return what evaluation.json has; None when it is missing or not as we write it."""
    try:
        told = json.loads((path / runs.EVALUATION).read_text(encoding="utf-8"))
        (iteration,) = told["iterations"]
        found = Evaluation(
            iteration=iteration,
            alpha=float(told["alpha"]),
            # null, which stands for what is not finite, becomes nan.
            mean=np.array(told["mean"], float),
            half=np.array(told["half_width_95"], float),
            tasks=int(told["tasks"]),
        )
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    except (OverflowError, RecursionError):  # too large a number, too deep a list
        return None
    one_each = found.mean.ndim == 1 and found.mean.shape == found.half.shape
    sound = one_each and found.mean.size and found.tasks > 0
    return found if sound and 0 <= found.alpha < np.inf else None
