"""Derivatives from values alone: slopes and remainders of a function along directions.

No rule of differentiation is used, so the results can test such rules. float64 only: in
float32 the rounding error is too large.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tinymaml.maml import Array


Scalar = Callable[[Array], float]

# Central differences err by the step's square and by rounding over the step. The best step
# is near 1e-5; smaller and larger ones help where the function is bent or rough.
STEPS = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
# Central differences of a smooth function in float64 reach 1e-9.
NUMERIC = 1e-6
# For the rate of a remainder: the first step without and with the second term, the number
# of halvings, and how many in a row must agree.
FIRST_STEP, SECOND_STEP, HALVINGS, AGREEING = 1e-3, 1e-1, 12, 3
SLACK = 0.1
# The results show what is not finite.
quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")
# Smaller remainders, relative to the function, are rounding errors.
ROUNDINGS = 100 * np.finfo(float).eps


class Slope(NamedTuple):
    """A directional derivative, and how far independent estimates of it differ."""

    value: Array
    doubt: float


def directions(
    rng: np.random.Generator, shape: tuple[int, ...], number: int
) -> list[Array]:
    """Return random directions of length 1."""
    drawn = rng.standard_normal((number, *shape))
    return [direction / np.linalg.norm(direction) for direction in drawn]


@quiet
def slope(function: Callable[[Array], Array], at: Array, direction: Array) -> Slope:
    """Return d function(at + t direction) / dt at t = 0, by central differences.

    It uses the three neighbouring step sizes that agree best, independently of any claimed
    derivative; where the function is finite. It may return a scalar or an array.
    """
    found = []
    for step in STEPS:
        ahead = np.asarray(function(at + step * direction))
        behind = np.asarray(function(at - step * direction))
        found.append((ahead - behind) / (2 * step))
    # Three, since two may agree by chance where the function is rounded coarsely.
    triples = [*zip(found, found[1:], found[2:], strict=False)]
    # NumPy's max, unlike Python's, is nan whichever number is.
    doubts = [np.max([*map(np.linalg.norm, (a - b, b - c, a - c))]) for a, b, c in triples]
    best = int(np.argmin(np.where(np.isnan(doubts), np.inf, doubts)))
    return Slope(triples[best][1], float(doubts[best]))


def gradient(function: Callable[[Array], Array], at: Array, step: float = 1e-3) -> Array:
    """Return the gradient (..., P) of a smooth function at (..., P), from five points.

    function: (..., P) -> (...), any leading axes
    The error is the fourth power of the step plus rounding over the step: about 1e-12 where
    the function and its derivatives are about 1.
    """
    shifts = step * np.eye(at.shape[-1])
    far, near = (
        function(at[..., None, :] + n * shifts) - function(at[..., None, :] - n * shifts)
        for n in (2, 1)
    )
    return (8 * near - far) / (12 * step)


@quiet
def remainder_rate(
    function: Scalar, at: Array, direction: Array, first: float, second: float | None = None
) -> float:
    """Return the power of t with which a Taylor remainder vanishes, nan for rounding.

    The remainder is function(at + t direction) - function(at) - t first
    [- t^2 second / 2]. Its rate is 2 [3] when the claimed derivatives are right, and 1 [2]
    when `first` [`second`] is wrong. t is halved. The rate is that of consecutive halvings
    that agree on it, since a kink between two of them spoils it; nan where too few of the
    remainders are finite.
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
    windows = windows[np.isfinite(windows).all(axis=1)]
    if not len(windows):
        return float("nan")
    spreads = np.ptp(windows, axis=1)
    # A rate is a limit, so take the smallest steps among those that agree about as well.
    return float(windows[np.flatnonzero(spreads <= spreads.min() + SLACK)[-1]].mean())


def relative(size: float, other: float) -> float:
    """Return size / other, or size when other is 0; nan when other is not finite."""
    return float(size / (other or 1.0)) if np.isfinite(other) else float("nan")


@quiet
def difference(a: Array, b: Array) -> float:
    """Return the norm of a - b relative to that of b; nan when that overflows."""
    return relative(np.linalg.norm(a - b), np.linalg.norm(b))


def slopes_error(
    value: Callable[[Array], float], at: Array, ways: list[Array], gradient: Array
) -> float:
    """Return the relative error of a gradient's slopes along directions, over all of them.

    Directions with a doubtful measurement (across a kink) are left out, as below.
    """
    measured = [slope(value, at, way) for way in ways]
    claimed = np.array([np.sum(gradient * way) for way in ways])
    return relative_error(
        claimed,
        np.array([float(m.value) for m in measured]),
        np.array([m.doubt for m in measured]),
    )


@quiet
def relative_error(claimed: Array, measured: Array, doubts: Array) -> float:
    """Return the size of claimed - measured slopes (n,) relative to the measured ones.

    Doubtful slopes are left out; nan when fewer than half remain, or the size overflows.
    """
    size = np.sqrt(np.mean(measured**2))
    sure = doubts <= NUMERIC / 4 * (size or 1.0)
    if sure.sum() < len(sure) / 2:
        return float("nan")
    return relative(np.linalg.norm((claimed - measured)[sure]), size * np.sqrt(sure.sum()))
