"""Derivatives from values alone: slopes and remainders of a function along directions.

What is here knows no rule of differentiation, so it can judge those who do. float64 only:
in float32 the rounding error is larger than what is to be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


Array = np.ndarray
Scalar = Callable[[Array], float]

# Central differences err by the step's square and by rounding over it: best near 1e-5, and
# larger or smaller steps help where the function is bent or rough.
STEPS = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
# Central differences of a smooth function in float64 reach 1e-9.
NUMERIC = 1e-6
# The first step of a remainder's rate, without and with the second term (which leaves less
# to see), how often it is halved, and how many halvings in a row must agree on the rate.
FIRST_STEP, SECOND_STEP, HALVINGS, AGREEING = 1e-3, 1e-1, 12, 3
SLACK = 0.1
# Remainders below this many roundings of the function say nothing.
ROUNDINGS = 100 * np.finfo(float).eps


class Slope(NamedTuple):
    """A directional derivative and how far independent estimates of it differ."""

    value: Array
    doubt: float


def directions(
    rng: np.random.Generator, shape: tuple[int, ...], number: int
) -> list[Array]:
    """Return random directions of length 1."""
    drawn = rng.standard_normal((number, *shape))
    return [direction / np.linalg.norm(direction) for direction in drawn]


def slope(function: Callable[[Array], Array], at: Array, direction: Array) -> Slope:
    """Return d function(at + t direction) / dt at t = 0, by central differences.

    Of three neighbouring step sizes those are taken that agree best; no claimed derivative
    has a say in it. The function may return a scalar or an array.
    """
    found = []
    for step in STEPS:
        ahead = np.asarray(function(at + step * direction))
        behind = np.asarray(function(at - step * direction))
        found.append((ahead - behind) / (2 * step))
    # Three, since two may agree by chance where the function is rounded coarsely.
    triples = [*zip(found, found[1:], found[2:], strict=False)]
    doubts = [max(map(np.linalg.norm, (a - b, b - c, a - c))) for a, b, c in triples]
    best = int(np.argmin(doubts))
    return Slope(triples[best][1], float(doubts[best]))


def gradient(function: Callable[[Array], Array], at: Array, step: float = 1e-3) -> Array:
    """Return the gradient (..., P) of a smooth function at (..., P), from five points.

    function: (..., P) -> (...), any leading axes. Errs by the fourth power of the step, and
    by rounding over it: some 1e-12 where the function and its derivatives are about 1.
    """
    shifts = step * np.eye(at.shape[-1])
    far, near = (
        function(at[..., None, :] + n * shifts) - function(at[..., None, :] - n * shifts)
        for n in (2, 1)
    )
    return (8 * near - far) / (12 * step)


def remainder_rate(
    function: Scalar, at: Array, direction: Array, first: float, second: float | None = None
) -> float:
    """Return the power of t with which a Taylor remainder vanishes, nan for rounding.

    The remainder is function(at + t direction) - function(at) - t first
    [- t^2 second / 2]: its rate is 2 [3] when the derivatives claimed are right, and 1 [2]
    when `first` [`second`] is wrong. t is halved; of the halvings in a row those are taken
    that agree on a rate, whatever it is, since a kink between two of them spoils it.
    """
    value = function(at)
    rates: list[float] = []
    before = np.nan
    start = FIRST_STEP if second is None else SECOND_STEP
    for step in start / 2.0 ** np.arange(HALVINGS):
        remainder = function(at + step * direction) - value - step * first
        if second is not None:
            remainder -= step**2 * second / 2
        if abs(remainder) < ROUNDINGS * max(abs(value), 1.0):
            break
        rates.append(float(np.log2(before / abs(remainder))))
        before = abs(remainder)
    rates = rates[1:]
    if len(rates) < AGREEING:
        return float("nan")
    windows = np.lib.stride_tricks.sliding_window_view(rates, AGREEING)
    spreads = np.ptp(windows, axis=1)
    # Of those that agree about as well, the smallest steps: a rate is a limit.
    return float(windows[np.flatnonzero(spreads <= spreads.min() + SLACK)[-1]].mean())


def difference(a: Array, b: Array) -> float:
    """Return the norm of a - b relative to that of b."""
    return float(np.linalg.norm(a - b) / (np.linalg.norm(b) or 1.0))


def slopes_error(
    value: Callable[[Array], float], at: Array, ways: list[Array], gradient: Array
) -> float:
    """Return how far a gradient's slopes along directions are from the measured ones.

    Relative, over all directions together. A direction in which the measurement itself is
    in doubt (it crosses a kink) is left out; nan when too few are left.
    """
    measured = [slope(value, at, way) for way in ways]
    claimed = np.array([np.sum(gradient * way) for way in ways])
    return relative_error(
        claimed,
        np.array([float(m.value) for m in measured]),
        np.array([m.doubt for m in measured]),
    )


def relative_error(claimed: Array, measured: Array, doubts: Array) -> float:
    """Return the size of claimed - measured slopes (n,) relative to the measured ones.

    Those in doubt are left out; nan when fewer than half are left.
    """
    size = np.sqrt(np.mean(measured**2))
    sure = doubts <= NUMERIC / 4 * (size or 1.0)
    if sure.sum() < len(sure) / 2:
        return float("nan")
    return float(
        np.linalg.norm((claimed - measured)[sure]) / (size * np.sqrt(sure.sum()) or 1)
    )
