"""Derivatives against central differences, and a watch for float64 in float32 work."""

from collections import defaultdict
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
from autograd.core import JVPNode, VJPNode, make_jvp, make_vjp
from autograd.tracer import getval
from numpy.linalg import norm


# A central difference is wrong by STEP^2 / 6 times a third derivative, and by a rounding
# of the values (2e-16) over STEP, 1e-10 of their norm. Both are largest where the rows to
# normalise are nearly equal: 2.5e-6 was the worst of 4,000 draws, 1e-9 is usual.
STEP = 3e-6
OF_DERIVATIVE = 1e-5
OF_VALUE = 1e-8
# A small value may come from a difference of values of order one, each rounded by 2e-16.
OF_ROUNDING = 1e-10

# jvp and vjp take no step: roundings, magnified where two nearly equal rows cancel. The
# worst of 4,000 draws was 5e-13; 1e-16 is usual.
TRANSPOSE = 1e-11
# A small derivative may be what is left of numbers of the direction's size.
CANCELLED = 1e-14


def check_derivatives(f, *arrays, rng, order=2):
    """Check f's derivatives by all its float64 arrays, up to `order`.

    Along one random direction u, with one random cotangent w:
    jvp(u) is the central difference, and <vjp(w), u> = <w, jvp(u)>. With order 2 the same
    holds for (x, w) -> vjp(w) and for (x, u) -> jvp(u). Returns the worst error against a
    central difference, relative to the derivative, or to the value where that is larger.
    """
    x, joined = join(f, arrays)
    vjp, y = make_vjp(joined, x)
    u, w = rng.standard_normal(x.shape), np.asarray(rng.standard_normal(y.shape))
    _, tangent = make_jvp(joined, x)(u)

    difference = (joined(x + STEP * u) - joined(x - STEP * u)) / (2 * STEP)
    error = norm(tangent - difference)
    assert error <= OF_DERIVATIVE * norm(tangent) + OF_VALUE * norm(y) + OF_ROUNDING

    forward, reverse = np.vdot(w, tangent), np.vdot(vjp(w), u)
    allowed = TRANSPOSE * (norm(w) * norm(tangent) + norm(vjp(w)) * norm(u))
    allowed += CANCELLED * norm(w) * norm(u)
    assert abs(forward - reverse) <= allowed

    errors = [error / max(norm(tangent), norm(y), 1e-3)]
    if order > 1:
        for derived, other in ((_pull, w), (_push, u)):
            errors.append(
                check_derivatives(derived(joined), x, other, rng=rng, order=order - 1)
            )
    return max(errors)


def check_keeps_float32(f, *arrays, rng):
    """Check that f's value, vjp, jvp and vjp of vjp see no float64 for float32 arrays."""
    x, joined = join(f, [array.astype(np.float32) for array in arrays])
    with watch() as seen:
        vjp, y = make_vjp(joined, x)
        u = rng.standard_normal(x.shape).astype(x.dtype)
        w = np.asarray(rng.standard_normal(y.shape), np.float32)
        _, tangent = make_jvp(joined, x)(u)
        pair, pulled = join(_pull(joined), [x, w])
        second, pulled_back = make_vjp(pulled, pair)
        results = y, vjp(w), tangent, pulled_back, second(u)
    assert {result.dtype.name for result in results} == {"float32"}
    assert seen["float32"]
    assert not seen["float64"]


def join(f, arrays):
    """Return all the arrays as one flat vector, and f as a function of it."""
    ends = np.cumsum([np.size(array) for array in arrays]).tolist()
    spans = list(zip([0, *ends], ends, [np.shape(a) for a in arrays], strict=False))

    def joined(flat):
        return f(*(flat[start:end].reshape(shape) for start, end, shape in spans))

    return np.concatenate([np.ravel(array) for array in arrays]), joined


def _pull(f):
    return lambda x, w: make_vjp(f, x)[0](w)


def _push(f):
    return lambda x, u: make_jvp(f, x)(u)[1]


@contextmanager
def watch():
    """Note the floats that autograd handles: yield {dtype name: places}, filled as it goes.

    Seen are the value and the arguments of every traced primitive, and every cotangent
    and tangent that goes into or comes out of a rule.
    """
    seen = defaultdict(set)

    def note(place, *values):
        for value in map(getval, values):
            if isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f":
                seen[value.dtype.name].add(place)

    make_reverse, make_forward = VJPNode.__init__, JVPNode.__init__

    def reverse_node(node, value, fun, args, kwargs, *parents):
        make_reverse(node, value, fun, args, kwargs, *parents)
        note(f"{fun.__name__}: value", value, *args, *kwargs.values())
        rule = node.vjp

        def vjp(g):
            cotangents = tuple(rule(g))
            note(f"{fun.__name__}: cotangent", g, *cotangents)
            return cotangents

        node.vjp = vjp

    def forward_node(node, value, fun, args, kwargs, *parents):
        make_forward(node, value, fun, args, kwargs, *parents)
        note(f"{fun.__name__}: value", value, *args, *kwargs.values())
        note(f"{fun.__name__}: tangent", node.g)

    with (
        patch.object(VJPNode, "__init__", reverse_node),
        patch.object(JVPNode, "__init__", forward_node),
    ):
        yield seen
