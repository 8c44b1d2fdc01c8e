"""The meta-gradient of any framework: is it exact, first-order or neither?"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tinymaml.check.differences import (
    directions,
    relative,
    relative_error,
    remainder_rate,
    slope,
)
from tinymaml.maml import Array
from tinymaml.summary import text


DIRECTIONS = 16
# The largest relative error of an exact gradient, by differences of a smooth function.
EXACT = 1e-5


class Verdict(NamedTuple):
    """The kind of a meta-gradient, and the evidence.

    kind: "exact", "first-order" or "neither"
    error: relative, of its slopes against the measured ones; about 1e-9 when exact
    rate: of its first Taylor remainder: 2 when exact, 1 when not; nan when too small
    first_order_error: relative, as a first-order gradient; nan without `adapt`
    alignment: cosine of its first-order slopes with the measured ones; nan without `adapt`
    """

    kind: str
    error: float
    rate: float
    first_order_error: float
    alignment: float

    def __str__(self) -> str:
        rate = text("{:.2f}", self.rate)
        line = f"{self.kind}: slopes off by {self.error:.1e}, rate {rate}"
        if np.isfinite(self.first_order_error):
            line += f"; as a first-order gradient off by {self.first_order_error:.1e},"
            line += f" aligned {self.alignment:.4f}"
        return line


def classify(
    meta_loss: Callable[[Array], float],
    meta_gradient: Callable[[Array], Array],
    theta: Array,
    adapt: Callable[[Array], Array] | None = None,
    *,
    seed: int = 0,
    number: int = DIRECTIONS,
) -> Verdict:
    """Classify a meta-gradient as exact, first-order or neither.

    meta_loss: theta (P,) float64 -> Q(theta_K), on fixed data
    meta_gradient: theta (P,) -> its claimed gradient (P,)
    theta: the point to check (P,); generic, not zeros
    adapt: theta (P,) -> theta_K (P,). Without it a first-order gradient is "neither"
    number: of random directions

    With F = Q(theta_K(theta)) and J = d theta_K / d theta, an exact gradient g has
    F'(d) = g . d along every direction d; a first-order one, grad Q(theta_K), has
    F'(d) = g . J d instead. F'(d) and J d are central differences of the two functions.
    Raises ValueError when the loss is random, not finite, too rough or too coarse (float32
    inside) to be measured, when `adapt` is not finite, or when the shapes do not fit.
    """
    theta = np.asarray(theta, np.float64)
    gradient = np.asarray(meta_gradient(theta.copy()), np.float64)
    if gradient.shape != theta.shape:
        raise ValueError(f"theta is {theta.shape}, its gradient {gradient.shape}")

    def value(at: Array) -> float:
        return float(meta_loss(at.copy()))

    if not (np.isfinite(value(theta)) and np.isfinite(gradient).all()):
        raise ValueError("the meta-loss or its gradient is not finite")
    if value(theta) != value(theta):
        raise ValueError("the meta-loss is random: fix its data and seeds")
    ways = directions(np.random.default_rng(seed), theta.shape, number)
    measured = [slope(value, theta, way) for way in ways]
    slopes = np.array([float(m.value) for m in measured])
    doubts = np.array([m.doubt for m in measured])
    error = relative_error(np.array([gradient @ way for way in ways]), slopes, doubts)
    if np.isnan(error):
        raise ValueError(
            "the meta-loss cannot be differentiated by its values: compute it in float64,"
            " or move theta away from kinks"
        )
    rates = [remainder_rate(value, theta, way, gradient @ way) for way in ways]
    rate = float(np.nanmedian(rates)) if np.isfinite(rates).any() else float("nan")
    first, alignment = float("nan"), float("nan")
    if adapt is not None:
        moved = [slope(lambda at: np.asarray(adapt(at.copy())), theta, way) for way in ways]
        claimed = np.array([gradient @ m.value for m in moved])
        if not np.isfinite(claimed).all():
            raise ValueError("adapt is not finite near theta")
        first = relative_error(claimed, slopes, doubts)
        sizes = np.linalg.norm(claimed) * np.linalg.norm(slopes)
        alignment = relative(claimed @ slopes, sizes)
    kind = "exact" if error < EXACT else "first-order" if first < EXACT else "neither"
    return Verdict(kind, error, rate, first, alignment)
