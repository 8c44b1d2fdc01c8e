"""The primitives of small nets as NumPy calls that write into a given array.

A step is a function and its arguments. It writes into `out`, with the bits of the primitive
itself. A primitive that is not here is called as it is, and its result copied (`buffers`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from autograd import numpy as anp
from autograd.core import VSpace, sparse_add
from autograd.numpy.numpy_vspaces import ArrayVSpace

from tinymaml import kernels, ops, params
from tinymaml.maml import Array


Step = tuple[Callable, tuple]


class NoBuffersError(Exception):
    """Values are too large, or no arrays, or have another form than at the recording."""


def product(a: Array, b: Array, out: Array) -> list[Step]:
    """a b, as `kernels.product`."""
    if a.shape[-1] == b.shape[-2] == 1:
        return [(np.multiply, (a, b, out))]
    if not kernels.is_shared(b):
        return [(np.matmul, (a, b, out))]
    if not (a.flags.c_contiguous and out.flags.c_contiguous):
        return [(_into, (out, kernels.product, a, b))]
    rows, flat = a.reshape(-1, a.shape[-1]), out.reshape(-1, out.shape[-1])
    return [(np.matmul, (rows, b[(0,) * (b.ndim - 2)], flat))]


def _into(out: Array, function: Callable, *args: Any) -> None:
    out[...] = function(*args)


def transposed(a: Array) -> Array:
    """Return a with its last two axes exchanged."""
    return a.swapaxes(-1, -2)


def affine(x: Array, w: Array, b: Array, out: Array) -> list[Step]:
    """x w + b."""
    return [*product(x, w, out), (np.add, (out, b, out))]


def positive(x: Array, out: Array) -> list[Step]:
    """1 where x > 0, else 0."""
    where = np.empty(x.shape, bool)
    return [(np.greater, (x, np.zeros((), x.dtype), where)), (np.copyto, (out, where))]


def relu(x: Array, _: Array, out: Array) -> list[Step]:
    """x where x > 0, else 0."""
    return [computed(np.maximum, (x, kernels.zeros(x.shape, x.dtype)), out)]


def sum_rows(x: Array, out: Array) -> list[Step]:
    """The sum over the rows."""
    return [(np.matmul, (kernels.ones(x.shape[-2], x.dtype), x, out))]


def total(x: Array, *, axis: Any = None, keepdims: bool = False, out: Array) -> list[Step]:
    """The sum over axes."""
    return [(np.add.reduce, (x, axis, None, out, keepdims))]


# (arguments..., out) -> steps
LOWERED: dict[Callable, Callable[..., list[Step]]] = {
    ops.matmul.fun: product,
    ops.matmul_nt.fun: lambda a, b, out: product(a, transposed(b), out),
    ops.matmul_tn.fun: lambda a, b, out: product(transposed(a), b, out),
    ops.affine.fun: affine,
    ops.add_row.fun: lambda x, row, out: [(np.add, (x, row, out))],
    ops.sum_rows.fun: sum_rows,
    ops._positive.fun: positive,
    ops._relu.fun: relu,
    ops._gate.fun: lambda x, mask, out: [(np.multiply, (x, mask, out))],
    anp.sum.fun: total,
    # Of arrays; the first argument is their vector space. autograd never reads the old sum
    # again, so mut_add may write to another array.
    VSpace.add.fun: lambda _, a, b, out: [(np.add, (a, b, out))],
    VSpace.mut_add.fun: lambda _, a, b, out: [(np.add, (a, b, out))],
}
# Other keywords than these are not lowered, such as a sum's dtype, nor are other vector
# spaces than arrays.
KEYWORDS = {anp.sum.fun: {"axis", "keepdims"}}
SPACES = {VSpace.add.fun: ArrayVSpace, VSpace.mut_add.fun: ArrayVSpace}
# NumPy wants their results by keyword; by position is faster.
OUT_BY_KEYWORD = {np.maximum, np.minimum}
BY_ENTRY = {ops._gate.fun, ops._relu.fun, VSpace.add.fun, VSpace.mut_add.fun}
# Calls that `buffers` places itself.
REPEAT = ops.repeat_row.fun
PIECES = {params._split.fun, params._read.fun}  # they cut a vector into views, and take one
JOIN = params._join.fun  # the arrays of a vector, end to end
REFUSED = {sparse_add.fun}  # it writes into an argument, which may be a view


def computed(function: np.ufunc, args: tuple, out: Array) -> Step:
    """The step that computes a function of NumPy into `out`."""
    if function in OUT_BY_KEYWORD:
        return partial(function, out=out), args
    return function, (*args, out)


def steps(function: Callable, args: list, kwargs: dict, out: Array) -> list[Step] | None:
    """Return the steps of a call, None for one that can only be made as it is."""
    if isinstance(function, np.ufunc):
        return None if kwargs else [computed(function, tuple(args), out)]
    named = set(kwargs) <= KEYWORDS.get(function, set())
    alone = function not in KEYWORDS or len(args) == 1
    of_arrays = isinstance(args[0], SPACES.get(function, object))
    if function in LOWERED and named and alone and of_arrays:
        return LOWERED[function](*args, **kwargs, out=out)
    return None


def by_entry(function: Callable) -> bool:
    """Return whether an entry of the result depends on the same entry of the arguments.

    Then the result may be written over an argument that is not used again, and NumPy
    computes the same bits for repeated rows and for a copy of them.
    """
    elementwise = isinstance(function, np.ufunc) and function.signature is None
    return elementwise or function in BY_ENTRY


def broadcast_row(row: Array, m: int) -> Array:
    """One row as m rows."""
    return np.broadcast_to(row, (*row.shape[:-2], m, row.shape[-1]))
