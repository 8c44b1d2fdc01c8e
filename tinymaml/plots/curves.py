"""Curves with their 95 % intervals: learning, and held-out tasks after each step.

The second is figure 3 of the paper.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tinymaml.harness import results
from tinymaml.harness.metrics import read_metrics
from tinymaml.losses import MSE, RETURN, Score
from tinymaml.maml import Array
from tinymaml.plots import figures
from tinymaml.plots.groups import Group, Judged, title
from tinymaml.summary import interval, lost


POINTS, SPAN = 100, 10  # most points of a learning curve, and least iterations of a point
MARKED = 10  # markers of a line, about: more of them would hide the dashes


class Line(NamedTuple):
    """x (n,), the mean there, and half of its 95 % interval, nan where there is none."""

    x: Array
    mean: Array
    half: Array


def learning(groups: Sequence[Group]):
    """Draw the loss or the return of training tasks, and the score of validation tasks.

    Runs without metrics are left out; returns None when no run has any. Lines on stderr
    report damaged and missing metrics.
    """
    faults: list[str] = []
    needs = groups[0].config.learning
    metrics = [
        aligned([read_metrics(run.path, faults, needs) for run in group.runs])
        for group in groups
    ]
    for line in faults:
        print(line, file=sys.stderr)
    pairs = enumerate(zip(groups, metrics, strict=True))
    records = {(i, group.name): some for i, (group, some) in pairs if all(some)}
    if not records:
        return None
    config = groups[0].config
    both = len(records) == 1 and config.uses("inner_steps")
    trained = {
        (number + i, label + ", before adaptation" * i): smoothed(some, key)
        for (number, label), some in records.items()
        for i, key in enumerate(config.learning if both else config.learning[:1])
    }
    checked = {name: validations(some, config.score) for name, some in records.items()}
    checked = {name: line for name, line in checked.items() if len(line.x)}
    figure = figures.new_figure(8, 3.8)
    left, *right = figure.subplots(1, 1 + bool(checked), squeeze=False, sharex=True)[0]
    subject = config.learning[0].partition("_")[0]  # loss or return
    _draw(left, trained, MSE if subject == "loss" else RETURN)
    left.set(xlabel="outer updates", ylabel=f"{subject} on training tasks")
    for axes in right:
        _draw(axes, checked, config.score)
        axes.set(xlabel="outer updates", ylabel=f"{config.score.axis} on validation tasks")
    figure.suptitle(title(groups))
    alone = "iterations (left), tasks (right)" if checked else "iterations"
    figures.legend(figure, left, _over(records.values(), alone))
    return figure


def aligned(records: Sequence[Sequence[dict]]) -> list[list[dict]]:
    """Return the records of the iterations that all runs have, in order."""
    found = [{record["iteration"]: record for record in one} for one in records]
    common = sorted(set.intersection(*map(set, found)))
    return [[one[iteration] for iteration in common] for one in found]


def smoothed(records: Sequence[Sequence[dict]], name: str) -> Line:
    """Return the means of a metric over up to POINTS spans of iterations.

    For one run the interval is over a span's iterations, each of which has its own tasks.
    """
    length = min(map(len, records))
    iterations = np.array([record["iteration"] for record in records[0][:length]])
    values = np.array([[record[name] for record in one[:length]] for one in records], float)
    spans = np.array_split(np.arange(length), max(1, min(POINTS, length // SPAN)))
    x = np.array([iterations[span].mean() for span in spans])
    means = np.stack([values[:, span].mean(axis=1) for span in spans], axis=1)
    half = [interval(values[0, span])[1] for span in spans] if length > 1 else [np.nan]
    return _line(x, means, np.array(half))


def validations(records: Sequence[Sequence[dict]], score: Score) -> Line:
    """Return the scores of validation tasks; for one run the interval is over tasks."""
    checked = aligned([[x for x in one if "validation" in x] for one in records])
    length = min(map(len, checked))
    x = np.array([record["iteration"] for record in checked[0][:length]])
    mean, half = (
        np.array([[r.get(name, np.nan) for r in one[:length]] for one in checked], float)
        for name in ("validation", "validation_half_width_95")
    )
    return _line(x, score.scale * mean, score.scale * half[0])


def evaluated(some: Sequence[Judged]) -> Line:
    """Return the score after 0, 1, ... steps; for one run the interval is over tasks."""
    scale, length = some[0].config.score.scale, min(len(one.found.mean) for one in some)
    means = scale * np.stack([one.found.mean[:length] for one in some])
    return _line(np.arange(length), means, scale * some[0].found.half[:length])


def _line(x: Array, means: Array, half: Array) -> Line:
    """Return the line of runs' means (runs, n); several have an interval over runs."""
    half = results.over_seeds(means[..., None]) if len(means) > 1 else half
    return Line(x, means.mean(axis=0), half)


def _draw(axes, lines: dict[tuple[int, str], Line], score: Score) -> None:
    """Draw the lines of a score or, like an MSE, of a loss, with their bands.

    lines: by the number of their style, and their label
    The axis may be logarithmic where it is not in per cent. Else it begins at 0 where lower
    is better. A mean that is not finite is a gap, and a text says how many there are.
    """
    figures.tidy(axes)
    means = np.concatenate([line.mean for line in lines.values()])
    log = figures.log_from(means) if score.scale == 1 else None
    lacking: list[str] = []
    for (number, label), (x, mean, half) in lines.items():
        how = figures.style(number)
        every = max(1, len(x) // MARKED)
        if count := lost(mean):
            lacking.append(f"{label}, {count} of {len(mean)} points")
        mean, half = (np.where(np.isfinite(y), y, np.nan) for y in (mean, half))
        axes.plot(x, mean, label=label, linewidth=1.8, markersize=5, markevery=every, **how)
        low = np.maximum(mean - half, -np.inf if log is None else log)
        axes.fill_between(x, low, mean + half, color=how["color"], alpha=0.2, linewidth=0)
    figures.missing(axes, lacking)
    if log is not None:
        figures.make_log(axes, log)
    elif not score.higher_is_better and np.isfinite(axes.dataLim.ymax):
        axes.set_ylim(0, 1.05 * axes.dataLim.ymax)


def steps(groups: Sequence[Group], judged: Sequence[Sequence[Judged]]):
    """Draw the score of held-out tasks after 0, 1, ... gradient steps, a line a group."""
    config = groups[0].config
    names = enumerate(group.name for group in groups)  # the same numbers in all pictures
    lines = dict(zip(names, map(evaluated, judged), strict=True))
    figure = figures.new_figure(7, 4.4)
    axes = figure.subplots()
    _draw(axes, lines, config.score)
    ways = {group.config.ways for group in groups} if "ways" in config.options else ()
    chance = {f"chance, {n}-way": 100 / n for n in sorted(ways)}
    for name, value in (config.anchors | chance).items():
        figures.level(axes, value, name)
    tasks = {one.found.tasks for some in judged for one in some}
    axes.set(xlabel="gradient steps", ylabel=f"{config.score.axis} on held-out tasks")
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=10)
    axes.set_title(title(groups))
    alone = f"{' or '.join(map(str, sorted(tasks)))} tasks"
    figures.legend(figure, axes, _over(judged, alone))
    return figure


def _over(lines: Iterable[Sequence], alone: str) -> str:
    """Return what the bands show; a line stands for one run or several."""
    kinds = {"seeds" if len(some) > 1 else alone for some in lines}
    return f"bands: 95 % intervals over {', or over '.join(sorted(kinds))}"
