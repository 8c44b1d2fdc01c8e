"""Many numbers as one figure: their mean and its 95 % interval, unless one is not finite.

A number that is not finite leaves no mean: that of the others would flatter. So texts and
pictures say how many are not finite, in the words of `lacking`, and JSON has null.
"""

import json
import math
from functools import lru_cache
from typing import Any

import numpy as np


Array = np.ndarray

NOT_FINITE = "not finite"
SHARE = 0.95  # of the intervals that contain the true mean
HALVINGS = 60  # of an angle, until it has the precision of float64


def lost(values: Array) -> Array:
    """Return how many values are not finite along the last axis: (..., n) -> (...)."""
    return np.sum(~np.isfinite(values), axis=-1)


def lacking(values: Array) -> str:
    """Return "not finite in 3 of 600", or "" when all values are finite."""
    count = int(lost(np.ravel(values)))
    return f"{NOT_FINITE} in {count} of {np.size(values)}" if count else ""


def text(form: str, *numbers: float) -> str:
    """Return the numbers in a format, as "{:.1f} %", or "not finite" when one is not."""
    return form.format(*numbers) if np.isfinite(numbers).all() else NOT_FINITE


@np.errstate(over="ignore", invalid="ignore")
def interval(values: Array) -> tuple[Array, Array]:
    """Return the mean and half the width of its 95 % interval: (..., n) -> (...), (...).

    The interval is Student's, for independent values of one normal distribution. A single
    value has none: nan. Neither is finite when a value is not.
    """
    values = values.astype(float)  # the squares of large values exceed float32
    mean, n = values.mean(axis=-1), values.shape[-1]
    if n < 2:
        return mean, np.full_like(mean, np.nan)
    return mean, student(n - 1) * values.std(axis=-1, ddof=1) / np.sqrt(n)


@lru_cache
def student(freedom: int) -> float:
    """Return t such that a variable of Student's t lies in [-t, t] with probability SHARE.

    freedom: its degrees of freedom, at least 1. Raises ValueError for fewer.
    Source: Abramowitz & Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4:
    the probability as a finite sum in the angle arctan(t / sqrt(freedom)).
    """
    if freedom < 1:
        raise ValueError(f"Student's t has at least 1 degree of freedom, not {freedom}")
    odd = freedom % 2
    k = np.arange(1, (freedom - odd) // 2, dtype=float)
    factors = 2 * k / (2 * k + 1) if odd else (2 * k - 1) / (2 * k)

    def probability(angle: float) -> float:
        terms = np.cumprod(factors * math.cos(angle) ** 2)
        series = math.sin(angle) * (1 + terms.sum())
        if not odd:
            return series
        return 2 / math.pi * (angle + series * math.cos(angle) * (freedom > 1))

    low, high = 0.0, math.pi / 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle) < SHARE else (low, middle)
    return math.sqrt(freedom) * math.tan(high)


def finite(value: Any) -> Any:
    """Return the value for JSON: None for a number that is not finite, inside others too.

    value: dicts, sequences, arrays, NumPy's and Python's numbers, or anything else
    """
    if isinstance(value, dict):
        return {key: finite(x) for key, x in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return finite(value.tolist())
    if isinstance(value, list | tuple):
        return [finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(value: Any, indent: int | None = None) -> str:
    """Return JSON without a final newline, with null for what is not finite."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)
