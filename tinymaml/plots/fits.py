"""Sine curves, and nets that are fitted to a few of their points: figure 2 of the paper."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from tinymaml.data import sine
from tinymaml.data.sine import INPUTS, Curve
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode, stream
from tinymaml.harness.evaluation import TASK_SEED, held_out, of_finite
from tinymaml.maml import Array
from tinymaml.plots import figures
from tinymaml.plots.figures import BLACK, BLUE, GREEN, ORANGE
from tinymaml.plots.groups import Group, Judged, adapted, title


TASKS = ("a held-out task (left)", "another, all its points in one half (right)")
WIDTH = 8  # inches
STEPS = ((0, ":", ORANGE), (1, "--", BLUE), (10, "-", GREEN))
LIMIT = 1.2 * sine.AMPLITUDES[1]  # no true curve is so large


def pictures(
    groups: Sequence[Group], judged: Sequence[Sequence[Judged]], task: int, into: Path
) -> list[Path]:
    """Draw fit.png into a folder."""
    return [figures.save(draw(groups, judged, task), into / "fit.png")]


def draw(groups: Sequence[Group], judged: Sequence[Sequence[Judged]], task: int):
    """Draw two held-out tasks before and after 1 and 10 gradient steps, a row a group.

    Of several seeds the first is drawn. All rows have the same curves, and as many points
    as the net is evaluated with. The second task has them in the right half of the inputs.
    """
    figure = figures.new_figure(WIDTH, 2.5 * len(groups) + 1.2)
    grid = figure.subplots(len(groups), 2, squeeze=False, sharex=True, sharey=True)
    for row, group, (one, *_) in zip(grid, groups, judged, strict=True):
        _draw(row, one, task)
        row[0].set_ylabel("y")
        figures.name_row(row, group.first)
    for axes in grid[-1]:
        axes.set_xlabel("x")
    # A net whose steps diverge must not hide the others.
    low, high = grid[0, 0].get_ylim()
    grid[0, 0].set_ylim(max(low, -LIMIT), min(high, LIMIT))
    above = f"{title(groups)}: the net before and after gradient steps"
    figure.suptitle("\n".join([above, "; ".join(TASKS)]))
    figures.legend(figure, grid[0, 0])
    return figure


def _draw(row, judged: Judged, task: int) -> None:
    """Draw the two tasks from number `task` on, and a net's curves."""
    config = judged.config
    episodes, curves = _tasks(config, task)
    thetas = adapted(judged, episodes, len(TASKS), STEPS[-1][0])
    x = np.linspace(*INPUTS, 200).astype(config.dtype)
    seen = _seen(config, curves, np.tile(x[:, None], (len(TASKS), 1, 1)))
    points = zip(episodes.x_support, episodes.y_support, strict=True)
    for axes, truth, (inputs, outputs) in zip(row, curves(x[:, None]), points, strict=True):
        figures.tidy(axes)
        axes.plot(x, truth[:, 0], color=BLACK, linewidth=1.2, label="truth")
        how = {"color": BLACK, "zorder": 3, "label": "support points"}  # before the curves
        axes.plot(inputs[:, 0], outputs[:, 0], "^", **how)
    lacking: list[list[str]] = [[] for _ in row]
    for step, dashes, color in STEPS:
        how = {"color": color, "linestyle": dashes, "label": figures.after(step)}
        with np.errstate(over="ignore", invalid="ignore"):  # steps may diverge
            fits = problem(config).model.apply(thetas[step], seen)[..., 0]
        fits = of_finite(thetas[step], fits.T).T
        for axes, fit, names in zip(row, fits, lacking, strict=True):
            axes.plot(x, np.where(np.isfinite(fit), fit, np.nan), linewidth=2, **how)
            names += [] if np.isfinite(fit).all() else [figures.after(step)]
    for axes, names in zip(row, lacking, strict=True):
        figures.missing(axes, names)


def _tasks(config: Config, task: int) -> tuple[Episode, Curve]:
    """Return the tasks of a row, the second with its support points in the right half."""
    tasks = range(task, task + len(TASKS))
    episodes = held_out(config, "test", tasks)
    streams = partial(stream, TASK_SEED, "test", 0)
    curves = sine.draw_curves(streams, tasks, config.phases)
    x, y = episodes.x_support[..., :1].copy(), episodes.y_support.copy()
    x[1] = (x[1] + INPUTS[1]) / 2
    y[1] = curves(x)[1]
    return episodes._replace(x_support=_seen(config, curves, x), y_support=y), curves


def _seen(config: Config, curves: Curve, x: Array) -> Array:
    return sine.with_parameters(curves, x) if config.method.sees_task else x
