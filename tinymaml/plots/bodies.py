"""A body of MuJoCo from the side, drawn with lines: no renderer is needed."""

from typing import Any

import numpy as np

from tinymaml.maml import Array
from tinymaml.plots.figures import GREY, PALE, WHITE


SIDE, TOP, GROUND = 1.6, 1.6, -0.3  # metres that are seen: to both sides, and z
ROUND = np.linspace(-np.pi / 2, np.pi / 2, 8)  # the end of a capsule


class Side:
    """Axes with a side view of a body (mujoco.MjModel) on the floor."""

    def __init__(self, axes, model: Any, color: str) -> None:
        from matplotlib.collections import LineCollection, PolyCollection

        axes.set(xlim=(-SIDE, SIDE), ylim=(GROUND, TOP), aspect="equal")
        axes.set(xticks=[], yticks=[])
        axes.axhspan(GROUND, 0, color=PALE, linewidth=0)
        self.model = model
        self.body = PolyCollection([], facecolors=color, edgecolors=WHITE, linewidths=0.8)
        self.ticks = LineCollection([], colors=GREY, linewidths=1)
        how = {"ha": "center", "va": "bottom", "fontsize": "small", "clip_on": True}
        self.numbers = [axes.text(0, GROUND, "", **how) for _ in range(-1, int(2 * SIDE))]
        box = {"facecolor": WHITE, "edgecolor": "none", "pad": 1}
        how = {"ha": "right", "va": "top", "transform": axes.transAxes, "bbox": box}
        self.caption = axes.text(0.98, 0.97, "", **how)
        for artist in (self.body, self.ticks):
            axes.add_collection(artist)

    def at(self, second: float, position: Array) -> list[Any]:
        """Return what moves, as it is at a time and a position (q,)."""
        x = position[0]
        self.body.set_verts(shapes(self.model, position) - [x, 0])
        halves = np.arange(np.ceil(2 * (x - SIDE)), 2 * (x + SIDE)) / 2
        self.ticks.set_segments([[(half - x, 0), (half - x, -0.07)] for half in halves])
        whole = np.ceil(x - SIDE)
        for i, number in enumerate(self.numbers):
            number.set(x=whole + i - x, text=f"{whole + i:z.0f} m")
        self.caption.set_text(f"{second:.2f} s, x = {x:z.2f} m")
        return [self.ticks, *self.numbers, self.body, self.caption]


def shapes(model: Any, position: Array) -> Array:
    """Return the outlines (geoms, points, 2) of a model at a position (q,), the far first.

    They are capsules and spheres in x and z, seen along y.
    """
    from mujoco import MjData, mj_kinematics

    data = MjData(model)
    data.qpos[:] = position
    mj_kinematics(model, data)
    order = np.argsort(-data.geom_xpos[1:, 1], kind="stable") + 1  # without the floor
    radius, half = model.geom_size[order, :2].T[..., None]
    along = data.geom_xmat[order].reshape(-1, 3, 3)[:, ::2, 2]  # x and z of the axis
    turn = np.arctan2(along[:, 1], along[:, 0])[:, None] + ROUND
    cap = radius[..., None] * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    centre, end = data.geom_xpos[order][:, None, ::2], (half * along)[:, None]
    return np.concatenate([centre + end + cap, centre - end - cap], axis=1)
