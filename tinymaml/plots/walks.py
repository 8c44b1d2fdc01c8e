"""Pictures of trajectories: how a policy walks before and after its gradient steps.

As figure 4 of the paper: held-out goals, a row for each run. Needs matplotlib; the
animation needs Pillow only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tinymaml.experiments import problem
from tinymaml.harness.evaluation import held_out
from tinymaml.plots import figures
from tinymaml.plots.figures import BLACK, BLUE, GREEN, ORANGE, VERMILLION
from tinymaml.plots.groups import Group, Judged


Array = np.ndarray

GOALS = 4  # held-out goals side by side
WALKS = 2  # trajectories of each, after each step
EDGE = 0.75  # half a panel's width, in the plane
STEPS = (
    (0, ":", BLACK, "before"),
    (1, "--", ORANGE, "1 step"),
    (2, "-.", BLUE, "2 steps"),
    (3, "-", GREEN, "3 steps"),
)


class Walks(NamedTuple):
    """Where one run's policy went: paths[step][goal] is a list of paths (length, 2)."""

    title: str
    goals: Array  # (GOALS, 2)
    paths: list[list[list[Array]]]


def pictures(
    groups: Sequence[Group], judged: Sequence[Sequence[Judged]], task: int, into: Path
) -> list[Path]:
    """Draw walks.png and walks.gif into a folder."""
    pairs = zip(groups, judged, strict=True)
    walked = [walks(group, some[0], task) for group, some in pairs]
    return [
        figures.save(draw(walked), into / "walks.png"),
        animate(walked, into / "walks.gif"),
    ]


def walks(group: Group, judged: Judged, task: int) -> Walks:
    """Return how a group's first policy walks to held-out goals, after each step."""
    family, method = problem(judged.config), judged.config.method
    draws = held_out(judged.config, "test", range(task, task + GOALS))
    acting = family.task(draws)
    steps = STEPS[-1][0]
    start = np.tile(method.start(judged.theta, family), (GOALS, 1))
    last = method.adapt(start, acting, family.at_test(steps), steps)[-1]
    acting.support(last)  # meets what the last one does
    paths = [
        [
            [
                walk[: int((weights > 0).sum()), :2]
                for walk, weights in zip(seen[:WALKS], heavy, strict=False)
            ]
            for seen, heavy in zip(m.observations, m.weights, strict=True)
        ]
        for m in acting.path
    ]
    return Walks(group.label, draws.goals, paths)


def draw(found: Sequence[Walks]):
    """Draw the walks of one run a row, one goal a column."""
    figure = figures.new_figure(8, 2 * len(found) + 0.6)
    grid = figure.subplots(len(found), GOALS, squeeze=False, sharex=True, sharey=True)
    for row, run in zip(grid, found, strict=True):
        row[0].set_title(run.title, loc="left", fontsize="medium")
        for goal, axes in enumerate(row):
            for step, dashes, color, label in STEPS:
                for i, walk in enumerate(run.paths[step][goal]):
                    name = label if i == 0 else "_"
                    axes.plot(*walk.T, dashes, color=color, linewidth=0.9, label=name)
            axes.plot(*run.goals[goal], "*", color=VERMILLION, markersize=9, label="goal")
            axes.plot(0, 0, "o", color=BLACK, markersize=4, label="start")
            axes.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), aspect="equal")
            axes.set(xticks=(-0.5, 0, 0.5), yticks=(-0.5, 0, 0.5))
    figures.legend(figure, grid[0, 0])
    return figure


# ----- The animation -----

PANEL, MARGIN = 140, 24  # pixels
SHARP = 2  # drawn so many times larger, then made smaller: smooth lines
STRIDE = 4  # time steps a frame
FRAME_MS, PAUSE_MS = 80, 900  # how long a frame stands, and the last one of a step


def animate(found: Sequence[Walks], file: Path) -> Path:
    """Draw the same over time, one gradient step after the other, as an animated GIF."""
    frames, durations = [], []
    for step, _, color, label in STEPS:
        longest = max(len(w) for run in found for g in run.paths[step] for w in g)
        times = [*range(1, longest, STRIDE), longest]
        frames += [_frame(found, step, time, color, label) for time in times]
        durations += [FRAME_MS] * (len(times) - 1) + [PAUSE_MS]
    first, *others = frames
    first.save(file, save_all=True, append_images=others, duration=durations, loop=0)
    return file


def _frame(
    found: Sequence[Walks], step: int, time: int, color: str, label: str
) -> Image.Image:
    panel, margin = PANEL * SHARP, MARGIN * SHARP
    size = GOALS * panel + margin, len(found) * panel + margin
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(13 * SHARP)
    told = label if step == 0 else f"after {label}"
    pen.text((margin, SHARP * 4), told, fill=color, font=font)
    for row, run in enumerate(found):
        for goal in range(GOALS):
            left, top = margin + goal * panel, margin + row * panel
            box = (left, top, left + panel - 4 * SHARP, top + panel - 4 * SHARP)
            pen.rectangle(box, outline="#BBBBBB", width=SHARP)
            _draw_walks(pen, run, step, goal, time, color, box)
        side = Image.new("RGB", (panel, margin), "white")
        ImageDraw.Draw(side).text((0, 4 * SHARP), run.title, fill=BLACK, font=font)
        image.paste(side.rotate(90, expand=True), (0, margin + row * panel))
    small = image.resize((size[0] // SHARP, size[1] // SHARP), Image.Resampling.LANCZOS)
    return small.quantize(64)


def _draw_walks(pen, run: Walks, step: int, goal: int, time: int, color: str, box) -> None:
    left, top, right, bottom = box

    def spot(place: Array) -> tuple[float, float]:
        x, y = np.clip(place, -EDGE, EDGE) / (2 * EDGE) + 0.5
        return left + x * (right - left), bottom - y * (bottom - top)

    def dot(place: Array, radius: float, **how) -> None:
        x, y = spot(place)
        r = radius * SHARP
        pen.ellipse((x - r, y - r, x + r, y + r), **how)

    for walk in run.paths[step][goal]:
        seen = walk[:time]
        if len(seen) > 1:
            pen.line([spot(p) for p in seen], fill=color, width=SHARP, joint="curve")
        dot(seen[-1], 2.5, fill=color)
    dot(np.zeros(2), 2, fill=BLACK)
    dot(run.goals[goal], 5, outline=VERMILLION, width=2 * SHARP)
