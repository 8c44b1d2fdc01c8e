"""Linear maps of a vector (..., P) that transform each array by itself, axis by axis."""

from collections.abc import Mapping, Sequence

import autograd.numpy as anp

from tinymaml import params
from tinymaml.algorithms import learned
from tinymaml.errors import UsageError
from tinymaml.fewshot import Problem
from tinymaml.maml import Array
from tinymaml.ops import matmul, matmul_tn
from tinymaml.params import Shapes


KERNEL = 9  # positions of a 3x3 convolution
AXES = ("kernel", "in", "out", "scale")


def maps(problem: Problem) -> Shapes:
    """Return the names and shapes of all maps: "w0 in", "w0 out", "b0 scale", ...

    The first array of a block is its weights. Blocks called conv... convolve. Raises
    UsageError for an array that is no matrix.
    """
    spans, moved = params.spans(problem.model.shapes), learned.moved(problem)
    found: dict[str, tuple[int, ...]] = {}
    for block in problem.model.blocks:
        for i, (name, shape) in enumerate(block.shapes.items()):
            if len(shape) != 2:
                matrices = "Meta-Curvature transforms matrices (rows, columns)"
                raise UsageError(f"{matrices}; {name} of the model has shape {shape}")
            rows, f = shape
            axes = {"in": rows, "out": f}
            if block.name.startswith("conv"):
                axes = {"kernel": KERNEL, "in": rows // KERNEL, "out": f}
            own = {"scale": (1, f)} if i else {axis: (n, n) for axis, n in axes.items()}
            if moved[spans[name].start]:
                found |= {f"{name} {axis}": shape for axis, shape in own.items()}
    return found


def multiplied(x: Array, matrices: Sequence[Array]) -> Array:
    """Multiply each axis of x (..., m, f), whose axes are those of the matrices.

    The last matrix stands at the right of x, the others at the left.
    """
    *left, right = matrices
    lead, shape = x.shape[:-2], x.shape
    for m in left:  # each product leaves its axis behind the others
        x = _transposed(matmul(m, anp.reshape(x, (*lead, m.shape[-1], -1))))
    return anp.reshape(matmul_tn(anp.reshape(x, (*lead, shape[-1], -1)), right), shape)


def _transposed(m: Array) -> Array:
    return anp.swapaxes(m, -1, -2)


def transformed(
    g: Array, shapes: Shapes, arrays: Mapping[str, Array], adjoint: bool = False
) -> Array:
    """Return U(g), or U'(g), for g (..., P) of arrays of these shapes, and the maps."""
    rows = []
    for name, x in params.unpack(g, shapes).items():
        own = [arrays[key] for a in AXES if (key := f"{name} {a}") in arrays]
        if len(own) > 1:
            x = multiplied(x, [*map(_transposed, own)] if adjoint else own)
        elif own:
            x = own[0] * x
        rows.append(anp.reshape(x, (*g.shape[:-1], -1)))
    return anp.concatenate(rows, axis=-1)
