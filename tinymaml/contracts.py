"""What arrays a function takes, written as one string and checked before it computes.

    "mk kf"   (..., m, k) and (..., k, f): equal leading axes, and the size k in both
    "1k"      a single row; "mk 1k" takes as many columns in both
    ""        an array of any shape

Every axis must have at least one entry. A replay (`speed.replay`) does not check again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
from autograd.extend import primitive as autograd_primitive

from tinymaml.tracing import isbox


P = ParamSpec("P")
R = TypeVar("R")


class Primitive(Protocol[P, R]):
    """A primitive of autograd; `fun` is the unchecked function."""

    fun: Callable[P, R]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...


def takes(
    shapes: str, also: Callable[..., None] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for a function whose first arguments are floating-point arrays.

    shapes: the last axes of each, a letter for a size. All have the same leading axes.
    also: raises, given the function's arguments, for what shapes cannot say
    The function then raises TypeError for another type, or an array given by name, and
    ValueError for another shape; both name the function.
    """
    number = len(shapes.split(" "))

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            check(function.__name__, shapes, *args)
            if len(args) < number:  # autograd does not see a value given by name
                raise TypeError(f"{function.__name__} takes its arrays by position")
            if also:
                also(*args, **kwargs)
            return function(*args, **kwargs)

        return checked

    return decorate


def primitive(
    shapes: str, also: Callable[..., None] | None = None
) -> Callable[[Callable[P, R]], Primitive[P, R]]:
    """Return a decorator that makes a function a primitive of autograd that checks shapes.

    shapes, also: as in `takes`
    """

    def decorate(function: Callable[P, R]) -> Primitive[P, R]:
        made = autograd_primitive(takes(shapes, also)(function))
        made.fun = function
        return made

    return decorate


def check(name: str, shapes: str, *arrays: Any) -> None:
    """Raise TypeError or ValueError unless the first arrays have the shapes.

    name: of the function, for the message; shapes: as in `takes`
    """
    axes = shapes.split(" ")
    sizes: dict[str, int] = {"1": 1}
    leads = set()
    for letters, array in zip(axes, arrays, strict=False):
        known = isbox(array) or isinstance(array, np.ndarray | np.generic)
        # A mask would count as numbers; the product of matrices is another one.
        if not known or isinstance(array, np.ma.MaskedArray | np.matrix):
            raise TypeError(f"{name} takes NumPy arrays, not a {type(array).__name__}")
        if array.dtype.kind != "f":
            raise TypeError(f"{name} takes floating-point arrays, not {array.dtype}")
        cut = max(len(array.shape) - len(letters), 0) if letters else 0
        leads.add(array.shape[:cut])
        own = zip(letters, array.shape[cut:], strict=False)
        short = len(letters) > len(array.shape)
        if short or 0 in array.shape or any(sizes.setdefault(x, n) != n for x, n in own):
            raise ValueError(_message(name, axes, arrays))
    if len(leads) > 1:
        raise ValueError(_message(name, axes, arrays))


def _message(name: str, axes: list[str], arrays: tuple) -> str:
    shapes = [f"({', '.join(['...', *letters])})" for letters in axes]
    alike = len(axes) > len({*axes}) == 1
    wanted = f"{shapes[0]}, equal ones" if alike else " and ".join(shapes)
    given = " and ".join(str(np.shape(array)) for array in arrays[: len(axes)])
    return f"{name} takes shapes {wanted}, none of them empty, not {given}"
