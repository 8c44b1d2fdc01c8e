"""Two ways in which autograd gives a wrong gradient without an error, and their cures.

Importing this module replaces two functions of `autograd.tracer`, for the whole process.
"""

from contextlib import contextmanager
from itertools import count

import numpy as np
from autograd import tracer
from autograd.tracer import isbox


__all__ = ["isbox"]


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
    return isinstance(arg, list | tuple) and any(isbox(x) or _hides_box(x) for x in arg)


_find_top_boxed_args = tracer.find_top_boxed_args  # autograd's own
tracer.find_top_boxed_args = _find_boxes
tracer.trace_stack = _UniqueTraces()
