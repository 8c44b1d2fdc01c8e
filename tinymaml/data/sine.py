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
    curve = draw_curve(rng)
    x = rng.uniform(*INPUTS, (shots + queries, 1))
    x, y = x.astype(dtype), curve(x).astype(dtype)
    return Episode(x[:shots], y[:shots], x[shots:], y[shots:])
