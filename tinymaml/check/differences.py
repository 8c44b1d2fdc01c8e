"""Derivatives from values alone: slopes and remainders of a function along directions.

No rule of differentiation is used, so the results can test such rules. Each slope comes
with a bound on its error, of which rounding is a part: a loss that is too coarse to be
measured (float32, or a large constant in it) gives a large bound, and not a wrong slope.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tinymaml.maml import Array


Scalar = Callable[[Array], float]
Function = Callable[[Array], Array | float]

# Steps of central differences, relative to the size of the point. The error is the step's
# square plus rounding over the step, so 1e-5 is about the best; larger and smaller steps
# help where the function is flat, bent or rough. The search goes down from FIRST.
STEPS = 10.0 ** (np.arange(-21, 17) / 2)
FIRST = 1e-2
# Relative changes of a point that are tried in turn, until one changes the function.
NUDGES = 10.0 ** -(np.arange(32, 1, -1) / 2)
NUDGED = 3  # how often, each time with other signs
# Central differences of a smooth function in float64 reach 1e-9.
NUMERIC = 1e-6
# Slopes that cannot be measured well contradict a claim that is off by so many bounds, if
# so large a share of them does.
CLEARLY, MOST = 20, 0.7
# A slope is known at all when its bound is below this share of the slopes' size.
KNOWN = 0.1
# For the rate of a remainder: the first step without and with the second term, relative to
# the size of the point, the number of halvings, and how many in a row must agree.
FIRST_STEP, SECOND_STEP, HALVINGS, AGREEING = 1e-3, 1e-1, 12, 3
SLACK = 0.1
# The results show what is not finite.
quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")
# Along other directions, the best step is smaller than so many times that of the first.
NEARBY = 11
# What rounding does to an extrapolated bend, in noise over the step.
BENDS = 8
# Smaller remainders, relative to the function's noise, are rounding errors.
ROUNDINGS = 30


class Slope(NamedTuple):
    """A directional derivative, a bound on its error, and the step that gave it."""

    value: Array
    doubt: float
    step: float = np.inf


def directions(
    rng: np.random.Generator, shape: tuple[int, ...], number: int
) -> list[Array]:
    """Return random directions of length 1. Raises ValueError when there is none."""
    if number < 1:
        raise ValueError(f"number is {number}: pass the number of directions, 1 or more")
    drawn = rng.standard_normal((number, *shape))
    return [direction / np.linalg.norm(direction) for direction in drawn]


def size(at: Array) -> float:
    """Return the length of a point, to which steps are relative; 1 at the origin."""
    return float(np.linalg.norm(at)) or 1.0


@quiet
def rounding(function: Function, at: Array) -> float:
    """Return the smallest change of the function that can be seen near a point.

    It is measured: every entry of the point changes by a small ratio, which grows until the
    function changes. It is at least one rounding error of the value, that of float32 when
    every value seen is one. It is 0 for a function that is constant.
    """
    value = np.asarray(function(at), float)
    nudge = np.where(at == 0, size(at) / np.sqrt(at.size), at)
    values, changes = [value], []
    for signs in np.random.default_rng(0).choice([-1.0, 1.0], (NUDGED, *at.shape)):
        for ratio in NUDGES:
            values.append(np.asarray(function(at + ratio * signs * nudge), float))
            change = float(np.linalg.norm(values[-1] - value))
            if change:
                changes.append(change)
                break
    if not changes:
        return 0.0
    single = all(is_single(one) for one in values)
    eps = np.finfo(np.float32 if single else float).eps
    return max(float(np.median(changes)), float(eps * np.linalg.norm(value)))


def is_single(value: Array) -> bool:
    """Return whether float32 holds a value without loss."""
    return bool(np.all(np.float32(value) == value))


def slope(
    function: Function,
    at: Array,
    direction: Array,
    noise: float | None = None,
    start: float = np.inf,
) -> Slope:
    """Return d function(at + t direction) / dt at t = 0, by central differences.

    function: -> a scalar or an array
    noise: of the function's values; measured by `rounding` when it is not given
    start: the largest step; larger ones are tried only if it was too small
    The slope is that of the middle of the three neighbouring steps with the least bound:
    how far the three differ, plus what rounding and kinks can do to it. It does not depend
    on any claimed derivative.
    """
    noise = rounding(function, at) if noise is None else noise
    here = np.asarray(function(at))

    def central(step: float) -> tuple[Array, Array]:
        """Return the slope, and by how much the slopes on both sides differ."""
        ahead, behind = (np.asarray(function(at + s * direction)) for s in (step, -step))
        return (ahead - behind) / (2 * step), (ahead - 2 * here + behind) / step

    def walk(steps: Array, best: Slope, smaller: bool) -> Slope:
        """Return the best slope of the steps, which end where no other can be better."""
        found: list[tuple[Array, Array]] = []
        for before, step in zip([np.nan, *steps], steps, strict=False):
            found.append(central(step))
            # Three, since two may agree by chance where the function is rounded coarsely.
            if len(found) < 3:
                continue
            (a, _), (b, far), (c, near) = found[-3:]
            # NumPy's max, unlike Python's, is nan whichever number is.
            spread = np.max([*map(np.linalg.norm, (a - b, b - c, a - c))])
            # What is left of the bend at step 0 is a kink, unless it is rounding.
            kink = np.linalg.norm(near * before - far * step) / abs(before - step)
            kink = max(0.0, kink / 2 - BENDS * noise / min(before, step))
            doubt = float(spread + noise / before + kink)
            if doubt < best.doubt:
                best = Slope(b, doubt, before)
            elif not smaller or noise / step > best.doubt:
                break
        return best

    steps = STEPS * size(at)
    below = steps[steps <= min(start, FIRST * size(at))][::-1]
    below = below if len(below) > 2 else steps[2::-1]
    with np.errstate(all="ignore"):  # far from the point, values may be infinite
        best = walk(below, Slope(np.array(np.nan), np.inf), True)
        if best.step < below[1]:
            return best
        return walk(steps[steps >= below[1]], best, False)


def five_points(function: Function, at: Array, shift: Array, step: float) -> Array | float:
    """Return the slope of a smooth function along shift / step.

    The error is the fourth power of the step plus rounding over the step: about 1e-12 for a
    step of 1e-3, where the function and its derivatives are about 1.
    """
    far, near = (function(at + n * shift) - function(at - n * shift) for n in (2, 1))
    return (8 * near - far) / (12 * step)


def gradient(function: Callable[[Array], Array], at: Array, step: float = 1e-3) -> Array:
    """Return the gradient (..., P) of a smooth function at (..., P), by `five_points`.

    function: (..., P) -> (...), any leading axes
    """
    shifts = step * np.eye(at.shape[-1])
    return np.asarray(five_points(function, at[..., None, :], shifts, step))


@quiet
def remainder_rate(
    function: Scalar,
    at: Array,
    direction: Array,
    first: float,
    second: float | None = None,
    noise: float | None = None,
) -> float:
    """Return the power of t with which a Taylor remainder vanishes, nan for rounding.

    The remainder is function(at + t direction) - function(at) - t first
    [- t^2 second / 2]. Its rate is 2 [3] when the claimed derivatives are right, and 1 [2]
    when `first` [`second`] is wrong. t is halved. The rate is that of consecutive halvings
    that agree on it, since a kink between two of them spoils it; nan where too few of the
    remainders are finite.
    """
    value = function(at)
    floor = ROUNDINGS * (rounding(function, at) if noise is None else noise)
    rates: list[float] = []
    before = np.nan
    start = size(at) * (FIRST_STEP if second is None else SECOND_STEP)
    for step in start / 2.0 ** np.arange(HALVINGS):
        remainder = function(at + step * direction) - value - step * first
        if second is not None:
            remainder -= step**2 * second / 2
        if not abs(remainder) > floor:
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


def relative(size: float | np.floating, other: float | np.floating) -> float:
    """Return size / other, or size when other is 0; nan when other is not finite."""
    return float(size / (other or 1.0)) if np.isfinite(other) else float("nan")


@quiet
def difference(a: Array, b: Array) -> float:
    """Return the norm of a - b relative to that of b; nan when that overflows."""
    return relative(np.linalg.norm(a - b), np.linalg.norm(b))


class Slopes(NamedTuple):
    """Slopes (n,) along directions, a bound on the error of each, and the largest step."""

    values: Array
    doubts: Array
    start: float = np.inf

    @property
    def known(self) -> Array:
        """Which slopes were measured at all."""
        return np.isfinite(self.doubts)


@quiet
def slopes(
    value: Scalar,
    at: Array,
    ways: list[Array],
    noise: float | None = None,
    start: float = np.inf,
) -> Slopes:
    """Return the slopes of a function along directions, by central differences.

    start: as for `slope`, of the first direction
    """
    noise = rounding(value, at) if noise is None else noise
    found: list[Slope] = []
    for way in ways:  # the best step of the first is near that of the others
        found.append(slope(value, at, way, noise, start))
        start = found[0].step * NEARBY
    return Slopes(
        np.array([float(one.value) for one in found]),
        np.array([one.doubt for one in found]),
        start,
    )


def slopes_error(value: Scalar, at: Array, ways: list[Array], gradient: Array) -> float:
    """Return the relative error of a gradient's slopes along directions, over all of them.

    Directions with a doubtful measurement (across a kink) are left out, as below.
    """
    claimed = np.array([np.sum(gradient * way) for way in ways])
    return relative_error(claimed, slopes(value, at, ways))


@quiet
def relative_error(claimed: Array, measured: Slopes, tolerance: float = NUMERIC) -> float:
    """Return the size of claimed - measured slopes (n,) relative to the measured ones.

    tolerance: the error that the measurement must resolve; it leaves out slopes whose bound
        is above a quarter of it
    Returns nan when fewer than half remain.
    """
    sure = measured.doubts <= tolerance / 4 * typical(measured)
    if sure.sum() < max(1, len(sure) / 2):
        return float("nan")
    return gap(claimed[sure], Slopes(measured.values[sure], measured.doubts[sure]))


@quiet
def agrees(claimed: Array, measured: Slopes, tolerance: float) -> bool | None:
    """Return whether claimed slopes (n,) are right, None where that cannot be measured.

    Slopes that cannot be measured to the tolerance can still contradict a claim, when most
    are off by many times what rounding and kinks can do to them.
    """
    error = relative_error(claimed, measured, tolerance)
    if error < tolerance:
        return True
    if error > 2 * tolerance:
        return False
    scale, apart = typical(measured), np.abs(claimed - measured.values)
    far = apart > np.maximum(CLEARLY * measured.doubts, tolerance * scale)
    far &= measured.doubts < KNOWN * scale
    return False if np.mean(far) > MOST else None


@quiet
def gap(claimed: Array, measured: Slopes) -> float:
    """Return the size of claimed - measured slopes relative to the measured ones.

    It is nan when that overflows.
    """
    apart = typical(measured._replace(values=claimed - measured.values))
    scale = typical(measured)
    return relative(apart, scale) if scale else float("inf") if apart else 0.0


def typical(measured: Slopes) -> float:
    """Return the root mean square of the slopes that were measured at all."""
    known = measured.values[measured.known]
    return float(np.sqrt(np.mean(np.square(known)))) if known.size else 0.0
