"""Sine regression: y = A sin(x - phase), one amplitude and phase per task.

Source: section 5.1 of the paper; data_generator.py:29-31 and :173 of the official code,
whose sign of the phase is used. Phases of the full circle and points of a grid are from
the sine demo of Reptile (Nichol, Achiam, Schulman 2018).
"""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from tinymaml.contracts import check
from tinymaml.fewshot import Episode, Streams, check_tasks
from tinymaml.maml import Array


AMPLITUDES = (0.1, 5.0)
PHASES = {"half": (0.0, np.pi), "full": (0.0, 2 * np.pi)}
INPUTS = (-5.0, 5.0)
GRID = np.linspace(*INPUTS, 50)  # the points of Reptile's demo


class Curve(NamedTuple):
    """One task, or arrays of n (n, 1, 1): amplitudes in [0.1, 5], phases in radians."""

    amplitude: float | Array
    phase: float | Array

    def __call__(self, x: Array) -> Array:
        """Return A sin(x - phase), elementwise."""
        return self.amplitude * np.sin(x - self.phase)


def draw_curves(streams: Streams, tasks: range, phases: str = "half") -> Curve:
    """Draw n consecutive tasks uniformly, from stream 0: arrays (n, 1, 1).

    phases: a key of PHASES, [0, pi] or [0, 2 pi]. Raises ValueError for another, and when
    tasks are not consecutive.
    """
    if phases not in PHASES:
        raise ValueError(f"phases are {' or '.join(PHASES)}, not {phases!r}")
    amplitude, phase = _rows(streams(0), tasks, 2).T[..., None, None]
    return Curve(_between(AMPLITUDES, amplitude), _between(PHASES[phases], phase))


def sample(
    streams: Streams,
    tasks: range,
    shots: int,
    queries: int,
    dtype: str = "float32",
    phases: str = "half",
) -> Episode:
    """Draw n consecutive tasks, and their points from stream 1.

    phases: as in `draw_curves`
    Returns x and y (n, shots, 1) and (n, queries, 1), x in [-5, 5]. A task does not depend
    on the tasks drawn with it, and its curve does not depend on the number of points.
    Raises ValueError as `draw_curves` does and without shots or queries, TypeError for a
    dtype that is not floating point.
    """
    if min(shots, queries) < 1:
        wanted = f"{shots} shots and {queries} queries"
        raise ValueError(f"shots and queries must be 1 or more, not {wanted}")
    x = _between(INPUTS, _rows(streams(1), tasks, shots + queries)[..., None])
    return _episode(draw_curves(streams, tasks, phases), x, shots, dtype)


def sample_grid(
    streams: Streams,
    tasks: range,
    shots: int,
    dtype: str = "float32",
    phases: str = "half",
) -> Episode:
    """Draw n consecutive tasks; their points are those of GRID, 50 on [-5, 5].

    Returns what `sample` does: `shots` (at most 50) different support points in random
    order, and all points of the grid as query points. Fewer shots are the first of more.
    Raises ValueError for more shots than points or none, and as `sample` does.
    """
    if not 1 <= shots <= len(GRID):
        raise ValueError(f"{shots} shots asked for, the grid has {len(GRID)} points")
    order = np.argsort(_rows(streams(1), tasks, len(GRID)), axis=-1)
    query = np.broadcast_to(GRID, order.shape)
    x = np.concatenate([GRID[order[:, :shots]], query], axis=1)[..., None]
    return _episode(draw_curves(streams, tasks, phases), x, shots, dtype)


def _episode(curves: Curve, x: Array, shots: int, dtype: str) -> Episode:
    if np.dtype(dtype).kind != "f":
        raise TypeError(f"the points are floating point, not {dtype}")
    y = curves(x)
    parts = x[:, :shots], y[:, :shots], x[:, shots:], y[:, shots:]
    # Copies: products with slices of an array are slower.
    return Episode(*(part.astype(dtype) for part in parts))


def show_task(
    episode: Episode, streams: Streams, tasks: range, phases: str = "half"
) -> Episode:
    """Return the episodes of `sample` with the x of `with_parameters`, (n, points, 3)."""
    curves = draw_curves(streams, tasks, phases)
    support, query = (with_parameters(curves, x) for x in episode[::2])
    return episode._replace(x_support=support, x_query=query)


def with_parameters(curves: Curve, x: Array) -> Array:
    """Return (n, points, 3): x (n, points, 1) with the task's amplitude and phase.

    Raises TypeError for x that is not floating point.
    Source: the paper's oracle (section 5.1); main.py of the official code does the same.
    """
    check("with_parameters", "nd", x)
    columns = [np.broadcast_to(each, x.shape).astype(x.dtype) for each in curves]
    return np.concatenate([x, *columns], axis=-1)


def _rows(rng: Generator, tasks: range, columns: int) -> Array:
    """Return a row in [0, 1) for each task. Row i does not depend on how many follow it."""
    check_tasks(tasks)
    return rng.random((tasks.stop, columns))[tasks.start :]


def _between(ends: tuple[float, float], share: Array) -> Array:
    low, high = ends
    return low + (high - low) * share
