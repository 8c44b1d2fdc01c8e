"""Curves with their 95 % intervals: learning, and held-out tasks after each step.

The second is figure 3 of the paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tinymaml.harness import results, runs
from tinymaml.harness.evaluation import interval
from tinymaml.losses import Score
from tinymaml.plots import figures
from tinymaml.plots.groups import Group, Judged, scores, title


Array = np.ndarray

# Points of a learning curve at most, and iterations of each at least.
POINTS, SPAN = 100, 10


class Line(NamedTuple):
    """Where (n,), the mean there, and half its 95 % interval, nan where there is none."""

    x: Array
    mean: Array
    half: Array


# ----- Learning curves -----


def learning(groups: Sequence[Group]):
    """Draw the loss, or returns, of training tasks, and the score of validation tasks.

    Runs without metrics are left out; returns None when no run has any.
    """
    told = [[runs.read_metrics(run.path) for run in group.runs] for group in groups]
    records = {
        name: some for name, some in zip(_names(groups), told, strict=True) if all(some)
    }
    if not records:
        return None
    config = groups[0].config
    both = len(records) == 1 and config.uses("inner_steps")
    keys = [*zip(config.learning, ("", ", before adaptation"), strict=False)]
    keys = keys[: None if both else 1]
    trained = {
        (number + i, label + more): smoothed(some, key)
        for (number, label), some in records.items()
        for i, (key, more) in enumerate(keys)
    }
    checked = {name: validations(some, config.score) for name, some in records.items()}
    checked = {name: line for name, line in checked.items() if len(line.x)}
    figure = figures.new_figure(8, 3.8)
    left, *right = figure.subplots(1, 1 + bool(checked), squeeze=False, sharex=True)[0]
    subject = keys[0][0].partition("_")[0]  # loss or return
    _draw(left, trained, from_zero=subject == "loss")
    left.set(xlabel="outer updates", ylabel=f"{subject} on training tasks")
    for axes in right:
        _draw(axes, checked, *_axis(config.score))
        axes.set(xlabel="outer updates", ylabel=f"{config.score.axis} on validation tasks")
    figure.suptitle(title(groups))
    alone = "iterations (left), tasks (right)" if checked else "iterations"
    figures.legend(figure, left, _over(records.values(), alone))
    return figure


def smoothed(records: Sequence[Sequence[dict]], name: str) -> Line:
    """Return the means of what is told of runs over up to POINTS spans of iterations.

    The interval is that of a span's mean over its iterations, each of which has tasks of
    its own; for several runs, that of the mean over runs.
    """
    length = min(map(len, records))
    iterations = np.array([record["iteration"] for record in records[0][:length]])
    values = np.array([[record[name] for record in one[:length]] for one in records], float)
    spans = np.array_split(np.arange(length), max(1, min(POINTS, length // SPAN)))
    x = np.array([iterations[span].mean() for span in spans])
    if len(records) > 1:
        return _over_runs(x, np.stack([values[:, span].mean(1) for span in spans], 1))
    if length == 1:
        return Line(x, values[0], np.full(1, np.nan))
    return Line(x, *np.array([interval(values[0, span]) for span in spans]).T)


def validations(records: Sequence[Sequence[dict]], score: Score) -> Line:
    """Return what validation tasks scored: for one run with the interval over its tasks."""
    told = [[record for record in one if "validation" in record] for one in records]
    length = min(map(len, told))
    x = np.array([record["iteration"] for record in told[0][:length]])
    mean, half = (
        score.scale
        * np.array([[r.get(name, np.nan) for r in one[:length]] for one in told], float)
        for name in ("validation", "validation_half_width_95")
    )
    return Line(x, mean[0], half[0]) if len(told) == 1 else _over_runs(x, mean)


def _over_runs(x: Array, means: Array) -> Line:
    """The line of several runs' means (runs, n)."""
    return Line(x, means.mean(axis=0), results.over_seeds(means[..., None]))


def _axis(score: Score) -> tuple[bool, bool]:
    """Whether the axis of a score may be logarithmic, and whether it begins at 0."""
    return score.scale == 1, not score.higher_is_better


def _draw(
    axes,
    lines: dict[tuple[int, str], Line],
    may_be_log: bool = True,
    from_zero: bool = True,
) -> None:
    """Draw lines by number, which is their style's, and label."""
    figures.tidy(axes)
    means = np.concatenate([line.mean for line in lines.values()])
    log = figures.log_from(means) if may_be_log else None
    for (number, label), line in lines.items():
        least = -np.inf if log is None else log
        figures.curve(axes, *line, label, least, **figures.style(number))
    if log is not None:
        figures.make_log(axes, log)
    elif from_zero and np.isfinite(axes.dataLim.ymax):
        axes.set_ylim(0, 1.05 * axes.dataLim.ymax)


# ----- Held-out tasks after each gradient step -----


def steps(groups: Sequence[Group], judged: Sequence[Sequence[Judged]]):
    """Draw the score of held-out tasks after 0, 1, ... gradient steps, a line a group."""
    config = groups[0].config
    lines = {}
    for name, some in zip(_names(groups), judged, strict=True):
        mean, half = (config.score.scale * x for x in scores(some))
        lines[name] = Line(np.arange(len(mean)), mean, half)
    figure = figures.new_figure(7, 4.4)
    axes = figure.subplots()
    _draw(axes, lines, *_axis(config.score))
    for name, value in config.anchors.items():
        figures.level(axes, value, name)
    if "ways" in config.options:
        for ways in sorted({group.config.ways for group in groups}):
            figures.level(axes, 100 / ways, f"chance, {ways}-way")
    tasks = {one.found.tasks for some in judged for one in some}
    axes.set(xlabel="gradient steps", ylabel=f"{config.score.axis} on held-out tasks")
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=10)
    axes.set_title(title(groups))
    alone = f"{' or '.join(map(str, sorted(tasks)))} tasks"
    figures.legend(figure, axes, _over(judged, alone))
    return figure


def _names(groups: Sequence[Group]) -> list[tuple[int, str]]:
    """Number and label of each group's line, the same in all pictures."""
    seeds = [len(group.runs) for group in groups]
    return [
        (i, f"{group.label}, {n} seeds" if n > 1 else group.label)
        for i, (group, n) in enumerate(zip(groups, seeds, strict=True))
    ]


def _over(lines: Iterable[Sequence], alone: str) -> str:
    """What the bands of lines are; each line is of so many runs."""
    kinds = {"seeds" if len(some) > 1 else alone for some in lines}
    return f"bands: 95 % intervals over {', or over '.join(sorted(kinds))}"
