"""Parameters: one flat vector, read by name.

A model lists the shapes of its arrays in order; theta (..., P) holds them end to end,
and any leading axes (tasks side by side) are kept in front of every array.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from math import prod

import numpy as np
from autograd.core import SparseObject, vspace
from autograd.extend import defjvp, defvjp, primitive


Array = np.ndarray
Shapes = Mapping[str, tuple[int, ...]]


def count(shapes: Shapes) -> int:
    """Return P, the number of parameters."""
    return sum(prod(shape) for shape in shapes.values())


def pack(arrays: Mapping[str, Array], shapes: Shapes) -> Array:
    """Return the vector (..., P) that `unpack` reads the arrays (..., *shape) from.

    Raises ValueError when an array is missing, unknown or of another shape.
    """
    if arrays.keys() != shapes.keys():
        raise ValueError(f"expected arrays {list(shapes)}, got {list(arrays)}")
    rows = []
    for name, shape in shapes.items():
        array = np.asarray(arrays[name])
        lead = array.shape[: array.ndim - len(shape)]
        if array.shape[len(lead) :] != shape:
            raise ValueError(f"{name} must end in {shape}, not {array.shape}")
        rows.append(array.reshape(*lead, prod(shape)))
    return np.concatenate(rows, axis=-1)


def unpack(theta: Array, shapes: Shapes) -> dict[str, Array]:
    """Return the named arrays (..., *shape) of theta (..., P), as views.

    Raises ValueError when theta does not have P = count(shapes) columns.
    """
    if theta.shape[-1] != count(shapes):
        raise ValueError(f"theta has {theta.shape[-1]} columns, not {count(shapes)}")
    arrays, start = {}, 0
    for name, shape in shapes.items():
        arrays[name] = _piece(theta, start, shape)
        start += prod(shape)
    return arrays


def spans(shapes: Shapes) -> dict[str, slice]:
    """Return where in theta's last axis each named array lies."""
    starts = np.cumsum([0, *map(prod, shapes.values())]).tolist()
    return {
        name: slice(*span)
        for name, span in zip(shapes, itertools.pairwise(starts), strict=True)
    }


# ----- The linear map behind unpack, and its adjoint -----


@primitive
def _piece(theta: Array, start: int, shape: tuple[int, ...]) -> Array:
    """Read entries start, start + 1, ... of the last axis as an array (..., *shape)."""
    return theta[..., start : start + prod(shape)].reshape(theta.shape[:-1] + shape)


@primitive
def _scatter(piece: Array, start: int, space) -> SparseObject:
    """The adjoint of _piece: the piece at its place in a vector of zeros.

    Held as a sparse cotangent, so that autograd adds all the pieces of one theta into
    one vector instead of one vector each.
    """

    def add_to(theta: Array) -> Array:
        flat = piece.reshape(*theta.shape[:-1], -1)
        theta[..., start : start + flat.shape[-1]] += flat
        return theta

    return SparseObject(space, add_to)


defvjp(
    _piece,
    lambda _, theta, start, shape: lambda g: _scatter(g, start, vspace(theta)),
)
defvjp(
    _scatter,
    lambda _, piece, start, __: lambda g: _piece(g, start, _tail(piece, g)),
)
defjvp(_piece, lambda g, _, __, start, shape: _piece(g, start, shape))
defjvp(_scatter, lambda g, _, __, start, space: _scatter(g, start, space))


def _tail(piece: Array, theta: Array) -> tuple[int, ...]:
    return piece.shape[len(theta.shape) - 1 :]
