"""Sine regression: y = A sin(x - phase), one amplitude and phase per task.

Source: section 5.1 of the paper; data_generator.py:29-31 and :173 of the official code,
whose sign of the phase is used.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from tinymaml.fewshot import Episode


Array = np.ndarray

AMPLITUDES = (0.1, 5.0)
PHASES = (0.0, np.pi)
INPUTS = (-5.0, 5.0)


class Curve(NamedTuple):
    """One task: amplitude in [0.1, 5], phase in [0, pi]."""

    amplitude: float
    phase: float

    def __call__(self, x: Array) -> Array:
        """Return A sin(x - phase), elementwise."""
        return self.amplitude * np.sin(x - self.phase)


def draw_curve(rng: Generator) -> Curve:
    """Draw a task uniformly."""
    return Curve(rng.uniform(*AMPLITUDES), rng.uniform(*PHASES))


def sample(rng: Generator, shots: int, queries: int, dtype: str = "float32") -> Episode:
    """Draw a task and its points: x and y (shots, 1) and (queries, 1), x in [-5, 5]."""
    return _points(draw_curve(rng), rng, shots, queries, dtype)


def sample_told(rng: Generator, shots: int, queries: int, dtype: str) -> Episode:
    """Draw what `sample` does, for the oracle: x (n, 3) as `told` makes it."""
    curve = draw_curve(rng)
    episode = _points(curve, rng, shots, queries, dtype)
    x_support, x_query = (told(curve, x) for x in (episode.x_support, episode.x_query))
    return episode._replace(x_support=x_support, x_query=x_query)


def told(curve: Curve, x: Array) -> Array:
    """Return x (n, 1) with amplitude and phase in every row (n, 3).

    Source: the paper's oracle (section 5.1); main.py of the official code concatenates
    them to the input.
    """
    return np.concatenate([x, np.tile(np.array(curve, x.dtype), (len(x), 1))], axis=1)


def _points(curve: Curve, rng: Generator, shots: int, queries: int, dtype: str) -> Episode:
    x = rng.uniform(*INPUTS, (shots + queries, 1))
    x, y = x.astype(dtype), curve(x).astype(dtype)
    return Episode(x[:shots], y[:shots], x[shots:], y[shots:])
