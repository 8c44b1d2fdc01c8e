"""Learned step sizes: per array of the net, and per inner step where they differ."""

from collections.abc import Sequence

import numpy as np

from tinymaml import params
from tinymaml.algorithms.learned import described
from tinymaml.experiments import problem
from tinymaml.maml import Array
from tinymaml.plots import figures
from tinymaml.plots.groups import Group, Judged, title
from tinymaml.summary import lacking


PERCENTILES = (10, 50, 90)
WIDTH = 0.7  # of an array's place, which its steps share


def picture(groups: Sequence[Group], judged: Sequence[Sequence[Judged]]):
    """Draw the step sizes of the first run of each group that has learned them.

    A marker is the median over an array; its bar spans the 10th to the 90th percentile.
    Returns None when no run has learned its step sizes.
    """
    pairs = zip(groups, judged, strict=True)
    rows = [(group.first, *_by_array(some[0])) for group, some in pairs]
    rows = [row for row in rows if row[1]]
    if not rows:
        return None
    figure = figures.new_figure(8, 0.4 + 2.8 * len(rows))
    all_axes = figure.subplots(len(rows), squeeze=False)[:, 0]
    for axes, (name, found, counted) in zip(all_axes, rows, strict=True):
        figures.tidy(axes)
        _draw(axes, found)
        figures.name_row([axes], f"{name}: {counted}")
        axes.set(ylabel="step size")
    if max(len(values) for _, found, _ in rows for values in found.values()) > 1:
        figures.legend(figure, all_axes[0])
    figure.suptitle(title(groups))
    return figure


def _by_array(one: Judged) -> tuple[dict[str, Array], str]:
    """Return array name -> percentiles (steps, 3) of its rates, and their description."""
    family, method = problem(one.config), one.config.method
    rates = method.rates(one.theta, family)
    if rates is None:
        return {}, ""
    spans = params.spans(family.model.shapes)
    kept = {name: rates[:, span] for name, span in spans.items()}
    found = {
        name: np.percentile(values, PERCENTILES, axis=1).T
        for name, values in kept.items()
        if values.any()
    }
    return found, described(rates, family)


def _draw(axes, found: dict[str, Array]) -> None:
    steps = max(map(len, found.values()))
    for k in range(steps):
        low, middle, high = np.array([values[k] for values in found.values()]).T
        at = np.arange(len(found)) + WIDTH * ((k + 0.5) / steps - 0.5)
        how = figures.style(k) | {"linestyle": "none"}
        bars = np.array([middle - low, high - middle])
        axes.errorbar(at, middle, bars, label=f"step {k + 1}", markersize=5, **how)
    figures.missing(axes, [name for name, values in found.items() if lacking(values)])
    axes.axhline(0, color=figures.GREY, linewidth=1)
    axes.set_xticks(np.arange(len(found)), found)
