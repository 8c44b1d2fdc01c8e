"""Sine curves, and what nets make of a few of their points: figure 2 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from tinymaml.data import sine
from tinymaml.data.sine import INPUTS, Curve
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode, stream
from tinymaml.harness.evaluation import TASK_SEED, held_out
from tinymaml.plots import figures
from tinymaml.plots.figures import BLACK, BLUE, GREEN, ORANGE
from tinymaml.plots.groups import Group, Judged, adapted, title


Array = np.ndarray

TASKS = ("a held-out task (left)", "another, all its points in one half (right)")
WIDTH = 8  # inches
STEPS = ((0, ":", ORANGE), (1, "--", BLUE), (10, "-", GREEN))
LIMIT = 1.2 * sine.AMPLITUDES[1]  # no true curve is so large


class Panel(NamedTuple):
    """One task: its curve (n,) at x (n,), its support points (K,) each, a net's curves."""

    x: Array
    truth: Array
    points: tuple[Array, Array]
    fits: dict[int, Array]


def draw(groups: Sequence[Group], judged: Sequence[Sequence[Judged]], task: int):
    """Draw two held-out tasks before and after 1 and 10 gradient steps, a row a group.

    Of several seeds the first is drawn. All rows have the same curves, and points of
    their own: as many as the net is judged with.
    """
    figure = figures.new_figure(WIDTH, 2.5 * len(groups) + 1.2)
    grid = figure.subplots(len(groups), 2, squeeze=False, sharex=True, sharey=True)
    for row, group, (one, *_) in zip(grid, groups, judged, strict=True):
        for axes, panel in zip(row, panels(one, task), strict=True):
            _draw(axes, panel)
        row[0].set_ylabel("y")
        # Beside the row there is no room for a long name.
        name = figures.wrapped(group.first, WIDTH - 0.6)
        row[0].set_title(name, loc="left", fontsize="medium")
    for axes in grid[-1]:
        axes.set_xlabel("x")
    # A net whose steps diverge must not hide the others.
    low, high = grid[0, 0].get_ylim()
    grid[0, 0].set_ylim(max(low, -LIMIT), min(high, LIMIT))
    told = f"{title(groups)}: the net before and after gradient steps"
    figure.suptitle("\n".join([told, "; ".join(TASKS)]))
    figures.legend(figure, grid[0, 0])
    return figure


def panels(judged: Judged, task: int) -> list[Panel]:
    """Return what a net makes of two held-out tasks from a number on.

    The second has its support points moved into the right half of the inputs.
    """
    config = judged.config
    episodes, curves = _tasks(config, task)
    steps = max(step for step, *_ in STEPS)
    thetas = adapted(judged, episodes, len(TASKS), steps)
    x = np.linspace(*INPUTS, 200).astype(config.dtype)
    seen = _seen(config, curves, np.tile(x[:, None], (len(TASKS), 1, 1)))
    apply = problem(config).model.apply
    with np.errstate(over="ignore", invalid="ignore"):  # steps may diverge
        fits = {step: apply(thetas[step], seen)[..., 0] for step, *_ in STEPS}
    truth = curves(x[:, None])[..., 0]
    return [
        Panel(
            x,
            truth[i],
            (episodes.x_support[i, :, 0], episodes.y_support[i, :, 0]),
            {step: fit[i] for step, fit in fits.items()},
        )
        for i in range(len(TASKS))
    ]


def _tasks(config: Config, task: int) -> tuple[Episode, Curve]:
    """The tasks of a row, the second with its support points in the right half."""
    tasks = range(task, task + len(TASKS))
    episodes = held_out(config, "test", tasks)
    curves = sine.draw_curves(partial(stream, TASK_SEED, "test", 0), tasks)
    x, y = episodes.x_support[..., :1].copy(), episodes.y_support.copy()
    x[1] = (x[1] + INPUTS[1]) / 2
    y[1] = curves(x)[1]
    return episodes._replace(x_support=_seen(config, curves, x), y_support=y), curves


def _seen(config: Config, curves: Curve, x: Array) -> Array:
    return sine.with_parameters(curves, x) if config.method.sees_task else x


def _draw(axes, panel: Panel) -> None:
    figures.tidy(axes)
    axes.plot(panel.x, panel.truth, color=BLACK, linewidth=1.2, label="truth")
    # In front of the curves.
    axes.plot(*panel.points, "^", color=BLACK, zorder=3, label="support points")
    for step, dashes, color in STEPS:
        how = {"color": color, "linestyle": dashes, "label": figures.after(step)}
        axes.plot(panel.x, panel.fits[step], linewidth=2, **how)
