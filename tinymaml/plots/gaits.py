"""How bodies move before and after gradient steps, in held-out tasks of two kinds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from tinymaml.experiments import acting, locomotion
from tinymaml.harness.evaluation import held_out
from tinymaml.maml import Array
from tinymaml.plots import figures
from tinymaml.plots.bodies import Side
from tinymaml.plots.figures import BLACK, BLUE, GREY, ORANGE, PALE, VERMILLION, WHITE
from tinymaml.plots.groups import Group, Judged, adapted, title
from tinymaml.rl.locomotion import Locomotion, Simulations, compiled


TASKS = 10  # held-out tasks, of which those of the least and the largest goal are shown
LINES = 5  # trajectories after a step
STEPS = ((0, ":", BLACK), (1, "-", BLUE), (3, "--", ORANGE))
MOVING = STEPS[:2]  # in the animation
FRAMES, FRAME_MS, PAUSE_MS = 50, 40, 1500  # real time with the default options
WIDTH, SMALL = 7, 75  # inches; the animation's dots per inch
# The animation's colours. Two are for smooth edges; more would make a large file.
COLORS = (WHITE, PALE, BLACK, GREY, "#BBBBBB", BLUE, "#80B8D8")


class Gaits(NamedTuple):
    """How one run's policy moves in two tasks.

    asked: (2,), the direction -1 or 1, or the velocity in m/s
    seconds: (H + 1,)
    positions: (len(STEPS), 2, N, H + 1, q) in the simulator's coordinates, of which the
        first is x; nan after the end of a trajectory
    lost: (len(STEPS), 2), whether the task's score is not finite
    """

    title: str
    task: str
    model: Any  # mujoco.MjModel
    asked: Array
    seconds: Array
    positions: Array
    lost: Array


class Recorder(Locomotion):
    """The world, which keeps `positions` of its last rollout: a list of H + 1 (T, N, q)."""

    def start(
        self, goals: Array, trajectories: int, rngs: Sequence[Generator]
    ) -> Simulations:
        """Return the world's start."""
        now = super().start(goals, trajectories, rngs)
        self.positions = [now.qpos.reshape(len(goals), trajectories, -1).copy()]
        return now

    def step(
        self, now: Simulations, goals: Array, actions: Array, alive: Array
    ) -> tuple[Simulations, Array, Array]:
        """Return the world's step."""
        now, rewards, done = super().step(now, goals, actions, alive)
        met = (alive & np.isfinite(rewards))[..., None]
        self.positions.append(np.where(met, now.qpos.reshape(*alive.shape, -1), np.nan))
        return now, rewards, done


def pictures(
    groups: Sequence[Group], judged: Sequence[Sequence[Judged]], task: int, into: Path
) -> list[Path]:
    """Draw gaits.png and gaits.gif into a folder: a row a group, of seeds the first."""
    pairs = zip(groups, judged, strict=True)
    found = [gaits(group, first, task) for group, (first, *_) in pairs]
    above = f"{title(groups)}: held-out tasks before and after gradient steps"
    picture = figures.save(draw(found, above), into / "gaits.png")
    return [picture, animate(found, into / "gaits.gif")]


@np.errstate(over="ignore", invalid="ignore")  # steps may diverge
def gaits(group: Group, judged: Judged, task: int) -> Gaits:
    """Return how a group's first policy moves, in two of the held-out tasks from `task` on.

    Of TASKS they are those of the least and the largest goal: backward and forward, or slow
    and fast. The trajectories are those whose mean return is the evaluation's score, with
    the same starts and the same noise of the actions after every step.
    """
    config: Any = judged.config  # of locomotion
    world = Recorder(*locomotion.world(config))
    few = held_out(config, "test", range(task, task + TASKS))
    asked = world.target(few.goals)
    two = [asked.argmin(), asked.argmax()]
    draws = few._make(part[two] for part in few)
    thetas = adapted(judged, draws, len(two), STEPS[-1][0])
    score = acting.setup(config, world).score
    positions, scores = [], []
    for step, *_ in STEPS:
        scores.append(score(thetas[step], draws))
        positions.append(np.stack(world.positions, axis=2))
    model = compiled(world.body, world.rules)
    seconds = np.arange(config.horizon + 1) * world.frame_skip * model.opt.timestep
    return Gaits(
        *(group.first, world.task, model, asked[two], seconds, np.stack(positions)),
        lost=~np.isfinite(scores),
    )


def draw(found: Sequence[Gaits], above: str = ""):
    """Draw x over time in LINES trajectories of each step: a run a row, a task a column."""
    figure = figures.new_figure(WIDTH, 2.2 * len(found) + 1.2)
    grid = figure.subplots(len(found), 2, squeeze=False, sharex=True, sharey=True)
    for row, run in zip(grid, found, strict=True):
        figures.name_row(row, run.title)
        row[0].set_ylabel("x (m)")
        for task, axes in enumerate(row):
            figures.tidy(axes)
            axes.margins(x=0.01, y=0.12)  # room for the name
            _name(axes, run, task)
            if run.task.endswith("vel"):
                asked = run.asked[task] * run.seconds
                how = {"color": VERMILLION, "label": "asked velocity"}
                axes.plot(run.seconds, asked, "-.", **how)
            for (step, dashes, color), met in zip(STEPS, run.positions, strict=True):
                for i, x in enumerate(met[task, :LINES, :, 0]):
                    name = "_" if i else figures.after(step)
                    axes.plot(run.seconds, x, dashes, color=color, linewidth=1, label=name)
            _note(axes, run, task, range(len(STEPS)))
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    figure.suptitle(above)
    # Rows that ask for a velocity have one line more.
    figures.legend(figure, max(grid[:, 0], key=lambda axes: len(axes.lines)))
    return figure


def _name(axes, run: Gaits, task: int) -> None:
    """Write into a panel what its task asks for."""
    asked = run.asked[task]
    direction = "forward" if asked > 0 else "backward"
    name = f"{asked:.2f} m/s" if run.task.endswith("vel") else direction
    axes.text(0.02, 0.97, f"asked: {name}", va="top", transform=axes.transAxes)


def _note(axes, run: Gaits, task: int, steps: Sequence[int]) -> None:
    """Write into a panel after which of these steps the task's score is not finite."""
    figures.missing(axes, [figures.after(STEPS[i][0]) for i in steps if run.lost[i, task]])


def animate(found: Sequence[Gaits], file: Path) -> Path:
    """Draw the bodies from the side as an animated GIF: a row a step, a column a task.

    Of each the first trajectory is shown, be it good or bad: it has the same start and the
    same noise before and after the step. The camera follows the torso; the floor has its x
    in metres. After the end of a trajectory its last position stays.
    """
    rows = len(MOVING) * len(found)
    figure = figures.new_figure(WIDTH, 2.1 * rows + 0.2)
    grid = iter(figure.subplots(rows, 2, squeeze=False))
    panels = []
    for run in found:
        for i, (step, _, color) in enumerate(MOVING):
            row = next(grid)
            row[0].set_ylabel(figures.after(step), color=color)
            if i == 0:
                figures.name_row(row, run.title)
            for task, axes in enumerate(row):
                _name(axes, run, task)
                _note(axes, run, task, [i])
                path = run.positions[i, task, 0]
                path = path[np.isfinite(path).all(axis=-1)]
                panels.append((Side(axes, run.model, color), run.seconds, path))
    film = figures.Film(figure, SMALL, COLORS)
    last = max(len(run.seconds) for run in found) - 1
    for t in np.unique(np.linspace(0, last, FRAMES).round().astype(int)):
        moving = []
        for side, seconds, path in panels:
            now = min(t, len(path) - 1)
            moving += side.at(seconds[now], path[now])
        film.take(moving, FRAME_MS if t < last else PAUSE_MS)
    return film.save(file)
