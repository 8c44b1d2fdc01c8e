"""Three ways in which autograd gives a wrong gradient without an error, and their cures;
what `maml` takes a gradient of.

Importing this module replaces two functions of `autograd.tracer`, and the rules of
`full_like`, for the whole process.
"""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from itertools import count
from math import prod
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import tracer
from autograd.core import JVPNode, VJPNode
from autograd.extend import defjvp, defvjp
from autograd.numpy.numpy_vjps import unbroadcast_f
from autograd.tracer import isbox


__all__ = ["isbox", "parameters", "scalar"]


class _UniqueTraces(tracer.TraceStack):
    """Numbers traces 0, 1, 2, ... for the whole process and uses no number twice.

    autograd tells inner from outer derivatives by one process-wide depth counter. Two
    threads that trace at once move it under each other, and a loss that closes over an
    outer-traced value then gets a wrong gradient without an error (HIPS/autograd#659).
    All that autograd needs is that a trace begun later has a larger number.
    """

    def __init__(self) -> None:
        self._numbers = count()  # next() on it is atomic, so no lock is needed

    @contextmanager
    def new_trace(self):
        yield next(self._numbers)


def _find_boxes(args: tuple) -> tuple:
    """Find the traced arguments of a primitive; refuse those that it would not trace.

    A traced value inside a list beside traced arguments counts as a constant, and its part
    of the gradient is lost without an error (HIPS/autograd#399).
    """
    found = _find_top_boxed_args(args)
    if found[0] and any(map(_hides_box, args)):
        raise TypeError(
            "a list in a NumPy call holds a value that is differentiated, whose gradient"
            " would be lost: write np.array([...]), with autograd.numpy as np"
        )
    return found


def _hides_box(arg: object) -> bool:
    if isinstance(arg, np.ndarray):
        return arg.dtype == object and any(map(isbox, arg.flat))
    if isinstance(arg, str | bytes | range) or not isinstance(arg, Sequence):
        return False
    return any(isbox(x) or _hides_box(x) for x in arg)


def _fill_vjp(ans: object, a: object, fill: object, *_: object, **__: object):
    return unbroadcast_f(fill, lambda g: g)


def _fill_jvp(g: object, ans: np.ndarray, *_: object, **__: object):
    return anp.broadcast_to(g, ans.shape)


_find_top_boxed_args = tracer.find_top_boxed_args  # autograd's own
tracer.find_top_boxed_args = _find_boxes
tracer.trace_stack = _UniqueTraces()
# autograd takes the result of full_like for a constant, whatever fills it.
for _node, _define, _rule in ((VJPNode, defvjp, _fill_vjp), (JVPNode, defjvp, _fill_jvp)):
    tracer.notrace_primitives[_node].discard(anp.full_like)
    _define(anp.full_like, None, _rule)


# ----- What a gradient is of -----


def parameters(theta: Any) -> Any:
    """Return theta. Raises TypeError unless it is an array (..., P) of floating point."""
    if not (isbox(theta) or isinstance(theta, np.ndarray)):
        raise TypeError(f"theta must be a NumPy array (..., P), not a {_kind(theta)}")
    if not theta.shape:
        raise TypeError("theta must be a NumPy array (..., P), not of shape ()")
    if not np.issubdtype(theta.dtype, np.floating):
        raise TypeError(f"theta must be floating point, not {theta.dtype}")
    return theta


def scalar(loss: Any) -> Callable:
    """Return the loss, which raises TypeError when its value is not one real number.

    Raises TypeError for what cannot be called.
    """
    if not callable(loss):
        wanted = "a loss, a function of theta, as in Task(lambda _: loss, lambda _: loss)"
        raise TypeError(f"a task's functions return {wanted}, not a {_kind(loss)}")

    def checked(theta: Any) -> Any:
        value = loss(theta)
        if not (isbox(value) or isinstance(value, float | int | np.ndarray | np.generic)):
            raise TypeError(f"a loss is a scalar, not a {_kind(value)}")
        if prod(getattr(value, "shape", ())) != 1:
            raise TypeError(f"a loss is a scalar, not an array of shape {value.shape}")
        if getattr(value, "dtype", np.dtype(float)).kind == "c":
            raise TypeError("a loss is a real number, not a complex one")
        return value

    return checked


def _kind(value: object) -> str:
    return type(value).__name__
