"""Trajectories of policies before and after gradient steps: figure 4 of the paper."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinymaml.experiments import problem
from tinymaml.harness.evaluation import held_out
from tinymaml.maml import Array
from tinymaml.plots import figures
from tinymaml.plots.figures import BLACK, BLUE, GREEN, ORANGE, VERMILLION
from tinymaml.plots.groups import Group, Judged


GOALS, WALKS = 4, 2  # held-out goals side by side, and trajectories to each after a step
EDGE = 0.75  # half a panel's width, in the plane
STRIDE = 4  # time steps a frame of the animation
FRAME_MS, PAUSE_MS = 80, 900  # the time of a frame, and of the last one of a gradient step
SMALL = 75  # dots per inch of the animation
STEPS = (
    (0, ":", BLACK, "before"),
    (1, "--", ORANGE, "1 step"),
    (2, "-.", BLUE, "2 steps"),
    (3, "-", GREEN, "3 steps"),
)


class Walks(NamedTuple):
    """The walks of one run's policy: paths[step][goal] is a list of paths (length, 2).

    lost: (len(STEPS), GOALS), whether some rewards of the task were not finite
    """

    title: str
    goals: Array  # (GOALS, 2)
    paths: list[list[list[Array]]]
    lost: Array


def pictures(
    groups: Sequence[Group], judged: Sequence[Sequence[Judged]], task: int, into: Path
) -> list[Path]:
    """Draw walks.png and walks.gif into a folder: a row a group, of seeds the first."""
    pairs = zip(groups, judged, strict=True)
    walked = [walks(group, first, task) for group, (first, *_) in pairs]
    picture = figures.save(draw(walked), into / "walks.png")
    return [picture, animate(walked, into / "walks.gif")]


@np.errstate(over="ignore", invalid="ignore")  # steps may diverge
def walks(group: Group, judged: Judged, task: int) -> Walks:
    """Return the walks of a group's first policy to held-out goals, after each step."""
    family, method = problem(judged.config), judged.config.method
    draws = held_out(judged.config, "test", range(task, task + GOALS))
    acting = family.task(draws)
    steps = STEPS[-1][0]
    start = np.tile(method.start(judged.theta, family), (GOALS, 1))
    last = method.adapt(start, acting, family.at_test(steps), steps)[-1]
    acting.support(last)  # adds the walks of the last policy to `path`
    paths = [
        [
            [walk[: (w > 0).sum(), :2] for walk, w in zip(seen[:WALKS], some, strict=False)]
            for seen, some in zip(met.observations, met.weights, strict=True)
        ]
        for met in acting.path
    ]
    lost = np.array([met.lost > 0 for met in acting.path])
    return Walks(group.label, draws.goals, paths, lost)


def draw(found: Sequence[Walks]):
    """Draw one run a row and one goal a column."""
    figure, panels = _panels(found)
    for axes, paths in panels:
        for (_, dashes, color, label), walks in zip(STEPS, paths, strict=True):
            for i, walk in enumerate(walks):
                name = label if i == 0 else "_"
                axes.plot(*walk.T, dashes, color=color, linewidth=0.9, label=name)
    figures.legend(figure, panels[0][0])
    return figure


def _panels(found: Sequence[Walks]):
    """Return a figure without walks, and for each panel its axes and its walks by step."""
    figure = figures.new_figure(8, 2 * len(found) + 0.6)
    grid = figure.subplots(len(found), GOALS, squeeze=False, sharex=True, sharey=True)
    panels = []
    for row, run in zip(grid, found, strict=True):
        figures.name_row(row, run.title)
        for goal, axes in enumerate(row):
            axes.plot(*run.goals[goal], "*", color=VERMILLION, ms=9, zorder=3, label="goal")
            axes.plot(0, 0, "o", color=BLACK, ms=4, zorder=3, label="start")
            axes.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), aspect="equal")
            axes.set(xticks=(-0.5, 0, 0.5), yticks=(-0.5, 0, 0.5))
            lost = zip(STEPS, run.lost[:, goal], strict=True)
            figures.missing(axes, [label for (*_, label), gone in lost if gone])
            panels.append((axes, [paths[goal] for paths in run.paths]))
    return figure, panels


def animate(found: Sequence[Walks], file: Path) -> Path:
    """Draw the same over time, one gradient step after the other, as an animated GIF."""
    figure, panels = _panels(found)
    above = figure.suptitle(" ")  # keeps its room free
    film = figures.Film(figure, SMALL)
    for step, _, color, label in STEPS:
        above.set(text=label if step == 0 else f"after {label}", color=color)
        walks = [(axes, walk) for axes, paths in panels for walk in paths[step]]
        how = {"color": color, "linewidth": 0.9, "marker": ".", "markevery": [-1]}
        lines = [axes.plot([], [], **how)[0] for axes, _ in walks]
        longest = max(len(walk) for _, walk in walks)
        times = [*range(1, longest, STRIDE), longest]
        for time in times:
            for line, (_, walk) in zip(lines, walks, strict=True):
                line.set_data(*walk[:time].T)
            film.take([above, *lines], FRAME_MS if time < longest else PAUSE_MS)
    return film.save(file)
