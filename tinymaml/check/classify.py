"""The meta-gradient of any framework: is it exact, first-order or neither?"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinymaml.check.differences import (
    Slopes,
    agrees,
    directions,
    gap,
    relative_error,
    remainder_rate,
    rounding,
    size,
    slopes,
    typical,
)
from tinymaml.check.program import Program, program_of
from tinymaml.check.trees import listed
from tinymaml.maml import Array
from tinymaml.summary import text


DIRECTIONS = 16
# Directions along which the rate of the remainder is measured.
RATED = 5
DOUBLE = (
    "compute it in float64: model.double() and double data in PyTorch,"
    ' jax.config.update("jax_enable_x64", True) in JAX'
)
# The largest relative error of an exact gradient, by differences of a smooth function.
EXACT = 1e-5
# Calls that differ by no more rounding errors than this differ by the order of sums only.
SAME = 100 * np.finfo(float).eps


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


class UnmeasurableError(ValueError):
    """The meta-loss does not let its gradient be measured; `cause` is one word for why."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def classify(
    meta_loss: Callable[[Any], Any],
    meta_gradient: Callable[[Any], Any],
    theta: Any,
    adapt: Callable[[Any], Any] | None = None,
    *,
    seed: int = 0,
    number: int = DIRECTIONS,
) -> Verdict:
    """Classify a meta-gradient as exact, first-order or neither.

    meta_loss: theta -> Q(theta_K), on fixed data
    meta_gradient: theta -> its claimed gradient, in the structure of theta
    theta: the point to check; generic, not zeros. A vector (P,), which the functions get as
        float64; or nested dicts and lists of arrays (NumPy, PyTorch or JAX), which they get
        in the same structure, kind and dtype
    adapt: theta -> theta_K. Without it a first-order gradient is "neither"
    number: of random directions

    With F = Q(theta_K(theta)) and J = d theta_K / d theta, an exact gradient g has
    F'(d) = g . d along every direction d; a first-order one, grad Q(theta_K), has
    F'(d) = g . J d instead. F'(d) and g . J d are central differences of the two functions.
    Raises ValueError when the loss is random, not finite, constant, too rough or too coarse
    (float32 inside) to be measured, or when a function returns something else.
    """
    at, program = program_of(meta_loss, meta_gradient, theta, adapt)
    gradient = program.claimed(at)
    noise = noise_of(program, at, gradient)
    ways = directions(np.random.default_rng(seed), at.shape, number)
    return judge(program, at, gradient, ways, slopes(program.value, at, ways, noise), noise)


def noise_of(program: Program, at: Array, gradient: Array) -> float:
    """Return the noise of the meta-loss. Raises UnmeasurableError when it has no slopes."""
    value, again = program.value(at), program.value(at)
    if not np.isfinite([value, again]).all():
        raise UnmeasurableError("not finite", f"the meta-loss is not finite: {value}")
    if bad := np.count_nonzero(~np.isfinite(gradient)):
        spans = program.tree.spans.items()
        where = [
            name for name, span in spans if name and not np.isfinite(gradient[span]).all()
        ]
        message = f"the gradient is not finite in {bad} of {gradient.size} entries"
        message += f", in {listed(where)}" if where else ""
        raise UnmeasurableError("not finite", message)
    if abs(value - again) > SAME * abs(value):
        message = (
            "the meta-loss is random, or depends on earlier calls: fix its data and seeds"
        )
        raise UnmeasurableError("randomness", f"{message} ({value!r}, then {again!r})")
    return max(rounding(program.value, at), abs(value - again))


def judge(
    program: Program,
    at: Array,
    gradient: Array,
    ways: list[Array],
    measured: Slopes,
    noise: float,
) -> Verdict:
    """Return the verdict on a gradient (P,), from the slopes along directions.

    Raises UnmeasurableError when the slopes allow none.
    """
    claimed = np.array([gradient @ way for way in ways])
    exact = agrees(claimed, measured, EXACT)
    if not measured.values.any() and not noise:
        message = "the meta-loss is constant near theta: does it use the parameters that it"
        message += " gets, and no argmax or detach?"
        raise UnmeasurableError("constant", message)
    first, aligned, first_error = None, float("nan"), float("nan")
    if program.adaptation is not None:
        shifted = slopes(lambda to: float(gradient @ program.adapted(to)), at, ways)
        if not np.isfinite(shifted.values).all():
            raise UnmeasurableError("not finite", "adapt is not finite near theta")
        both = measured._replace(doubts=measured.doubts + shifted.doubts)
        first = agrees(shifted.values, both, EXACT)
        first_error = _error(shifted.values, both)
        aligned = cosine(shifted.values, measured.values)
    unknown = exact is False and first is None and program.adaptation is not None
    if exact is None or unknown:
        off = gap(claimed, measured)
        raise unresolved(program, at, measured, noise, off)
    rates = [
        remainder_rate(program.value, at, way, slope, noise=noise)
        for way, slope in [*zip(ways, claimed, strict=True)][:RATED]
    ]
    rate = float(np.nanmedian(rates)) if np.isfinite(rates).any() else float("nan")
    kind = "exact" if exact else "first-order" if first else "neither"
    return Verdict(kind, _error(claimed, measured), rate, first_error, aligned)


def _error(claimed: Array, measured: Slopes) -> float:
    error = relative_error(claimed, measured, EXACT)
    return gap(claimed, measured) if np.isnan(error) else error


def cosine(a: Array, b: Array) -> float:
    """Return the cosine between two vectors, 0 when one is 0."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) or 1.0))


def unresolved(
    program: Program, at: Array, measured: Slopes, noise: float, off: float
) -> UnmeasurableError:
    """Return the error that says why slopes cannot be measured, and what to do.

    off: of the claimed slopes, relative
    """
    eps, value = np.finfo(float).eps, program.value(at)
    change = typical(measured) * size(at)
    doubt = float(np.median(measured.doubts)) / (typical(measured) or 1.0)
    doubted = "the meta-loss cannot be differentiated by its values:"
    doubted += f" slopes are known to {doubt:.0e}, the claimed ones are off by {off:.0e}"
    if noise > 1e4 * eps * max(abs(value), change):
        advice = f"it changes in steps of {noise:.0e}: "
        if precision := program.tree.precision:
            advice += f"theta is {precision}; {DOUBLE}"
        else:
            advice += "is a part of it in float32, rounded, or counted (argmax)? "
            advice += "Compute a smooth loss in float64 throughout"
        return UnmeasurableError("coarse", f"{doubted}; {advice}")
    if abs(value) > 1e3 * change:
        advice = f"its value {value:.3g} hides changes of {change:.0e}: subtract a constant"
        return UnmeasurableError(
            "coarse", f"{doubted}; {advice}, and compute it in float64"
        )
    advice = "move theta away from kinks, or use a smooth activation; compute it in float64"
    return UnmeasurableError("rough", f"{doubted}; {advice}")
