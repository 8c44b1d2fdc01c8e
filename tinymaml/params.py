"""Parameters: one flat vector, read by name.

A model lists the shapes of its arrays in order; theta (..., P) holds them end to end.
Every array has theta's leading axes (tasks side by side).
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from math import prod

import numpy as np
from autograd.extend import (
    Box,
    VSpace,
    defjvp,
    defjvp_argnums,
    defvjp,
    defvjp_argnums,
    primitive,
)

from tinymaml import contracts
from tinymaml.tracing import parameters


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

    Raises ValueError when theta does not have P = count(shapes) columns, TypeError when it
    is no array of floating point.
    """
    parameters(theta)
    _check_columns(theta, shapes)
    pieces = _split(theta, shapes)
    return {name: _read(pieces, name) for name in shapes}


def _check_columns(theta: Array, shapes: Shapes) -> None:
    if theta.shape[-1] != count(shapes):
        raise ValueError(f"theta has {theta.shape[-1]} columns, not {count(shapes)}")


def spans(shapes: Shapes) -> dict[str, slice]:
    """Return the place of each named array in theta's last axis."""
    return {name: span for name, _, span in _places(tuple(shapes.items()))}


def starts(shapes: Shapes) -> list[int]:
    """Return where each array begins in theta's last axis."""
    return [span.start for span in spans(shapes).values()]


@lru_cache
def _places(shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> list[tuple]:
    # Cached: computing them takes longer than reading a small net.
    starts = itertools.accumulate((prod(shape) for _, shape in shapes), initial=0)
    ends = itertools.pairwise(starts)
    return [(*array, slice(*span)) for array, span in zip(shapes, ends, strict=True)]


def mask(shapes: Shapes, names: Collection[str]) -> Array:
    """Return (P,) with 1 where theta holds one of the named arrays, and 0 elsewhere.

    Raises ValueError for a name that no array has.
    """
    if unknown := [name for name in names if name not in shapes]:
        raise ValueError(f"no arrays {unknown} among {list(shapes)}")
    return np.concatenate([np.full(prod(s), float(n in names)) for n, s in shapes.items()])


# ----- One number per array, and parameters in another order -----


def _check_numbers(numbers: Array, shapes: Shapes) -> None:
    if numbers.shape[-1] != len(shapes):
        raise ValueError(f"{numbers.shape[-1]} numbers for {len(shapes)} arrays")


@contracts.primitive("a", _check_numbers)
def spread(numbers: Array, shapes: Shapes) -> Array:
    """Give every parameter the number of its array: (..., arrays) -> (..., P).

    Raises ValueError for another number of numbers than arrays.
    """
    return np.repeat(numbers, [prod(shape) for shape in shapes.values()], axis=-1)


def _check_totals(theta: Array, shapes: Shapes) -> None:
    _check_columns(theta, shapes)
    if empty := [name for name, shape in shapes.items() if not prod(shape)]:
        raise ValueError(f"arrays without an entry: {empty}")


@contracts.primitive("p", _check_totals)
def totals(theta: Array, shapes: Shapes) -> Array:
    """The adjoint of spread: the sum over each array, (..., P) -> (..., arrays).

    Raises ValueError when theta does not have P columns or an array is empty.
    """
    return np.add.reduceat(theta, starts(shapes), axis=-1)


defvjp(spread, lambda _, numbers, shapes: lambda g: totals(g, shapes))
defvjp(totals, lambda _, theta, shapes: lambda g: spread(g, shapes))


def _check_places(places: Array, size: int) -> None:
    whole = np.ndim(places) == 1 and np.asarray(places).dtype.kind in "iu"
    at = np.unique(places) if whole else places  # in order
    if not whole or len(at) != len(places) or (len(at) and not 0 <= at[0] <= at[-1] < size):
        wanted = f"places must be different and in 0..{size - 1}, a list of integers"
        raise ValueError(f"{wanted}, not {places}")


def _check_take(vector: Array, places: Array) -> None:
    _check_places(places, vector.shape[-1])


def _check_put(numbers: Array, places: Array, size: int) -> None:
    _check_places(places, size)
    if numbers.shape[-1] != len(places):
        raise ValueError(f"{numbers.shape[-1]} numbers for {len(places)} places")


@contracts.primitive("p", _check_take)
def take(vector: Array, places: Array) -> Array:
    """Read (..., n) from a vector (..., P) at places in range(P), none of them twice.

    Raises ValueError for other places.
    """
    return vector[..., places]


@contracts.primitive("n", _check_put)
def put(numbers: Array, places: Array, size: int) -> Array:
    """The adjoint of take: numbers (..., n) at their places, zeros elsewhere.

    Raises ValueError as `take` does, and for another number of numbers than of places.
    """
    vector = np.zeros((*numbers.shape[:-1], size), numbers.dtype)
    vector[..., places] = numbers
    return vector


defvjp(
    take,
    lambda _, vector, places: lambda g: put(g, places, vector.shape[-1]),
    argnums=(0,),
)
defvjp(put, lambda _, numbers, places, size: lambda g: take(g, places), argnums=(0,))
for _map in (spread, totals, take, put):
    defjvp(_map, "same", argnums=(0,))


# ----- The linear maps behind unpack, and their adjoints -----


class _Pieces(dict):
    """A vector (..., P) as its named arrays; a missing one is zero.

    The cotangents of `unpack`'s arrays are collected here and put end to end once. To add
    them one by one to a vector of zeros takes a third of sine's time.
    """


class _PiecesSpace(VSpace):
    """How autograd adds two of them. No array is in both, since unpack reads each once."""

    def __init__(self, value: _Pieces) -> None:
        self.shape = frozenset(value)

    def _add(self, a: _Pieces, b: _Pieces) -> _Pieces:
        return _Pieces({**a, **b})

    _mut_add = _add


class _PiecesBox(Box):
    __slots__ = ()


_PiecesBox.register(_Pieces)
_PiecesSpace.register(_Pieces)


@primitive
def _split(theta: Array, shapes: Shapes) -> _Pieces:
    """Read theta (..., P) as its named arrays, by views."""
    lead = theta.shape[:-1]
    places = _places(tuple(shapes.items()))
    return _Pieces({n: theta[..., s].reshape(lead + shape) for n, shape, s in places})


@primitive
def _read(pieces: _Pieces, name: str) -> Array:
    """Read one array."""
    return pieces[name]


@primitive
def _join(shapes: Shapes, names: tuple[str, ...], *arrays: Array) -> Array:
    """The adjoint of both: the named arrays end to end in a vector (..., P)."""
    pieces = dict(zip(names, arrays, strict=True))
    lead = arrays[0].shape[: arrays[0].ndim - len(shapes[names[0]])]
    rows = [
        pieces[name].reshape(*lead, prod(shape))
        if name in pieces
        else np.zeros((*lead, prod(shape)), arrays[0].dtype)
        for name, shape in shapes.items()
    ]
    return np.concatenate(rows, axis=-1)


def _traced(argnums: Sequence[int], args: tuple) -> tuple[str, ...]:
    """Name the arrays of a `_join` that are differentiated."""
    shapes_and_names = 2
    return tuple(args[1][n - shapes_and_names] for n in argnums)


def _read_each(pieces: _Pieces, names: tuple[str, ...]) -> list[Array]:
    return [_read(pieces, name) for name in names]


defvjp(_split, lambda _, theta, shapes: lambda g: _join(shapes, tuple(g), *g.values()))
defvjp(_read, lambda _, pieces, name: lambda g: _Pieces({name: g}))
for _map in (_split, _read):
    defjvp(_map, "same")
defvjp_argnums(
    _join,
    lambda argnums, _, args, __: (
        lambda g: _read_each(_split(g, args[0]), _traced(argnums, args))
    ),
)
defjvp_argnums(
    _join,
    lambda argnums, gs, _, args, __: _join(args[0], _traced(argnums, args), *gs),
)
