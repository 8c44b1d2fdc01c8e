"""Conjugate gradients for many systems side by side, without a Python decision.

Source: Hestenes & Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems",
Journal of Research of the National Bureau of Standards, 1952.
"""

from collections.abc import Callable

import autograd.numpy as anp
import numpy as np

from tinymaml.maml import Array


def dot(a: Array, b: Array) -> Array:
    """Return the scalar product of each task, (T, P) and (T, P) -> (T, 1)."""
    return anp.sum(a * b, axis=-1, keepdims=True)


def solve(
    product: Callable[[Array], Array], b: Array, mask: Array, steps: int
) -> tuple[Array, Array, Array]:
    """Return x (T, P), r = b - A x (T, P), and (T, 1): 1 for a task that stopped, else 0.

    product: p -> A p, symmetric, and of each task on its own
    mask: (P,) with 1 for the rows to solve; x is 0 in the others, and r is kept in all
    A task stops at the first direction p with p' A p <= 0. A solved task (p = 0) stays as
    it is to the last bit. Values that are not finite spread to x.
    """
    x, r, p, one = 0 * b, b, mask * b, np.ones((), b.dtype)
    size = dot(p, p)
    stopped = 0 * size
    for _ in range(steps):
        ap = product(p)
        curvature = dot(p, ap)
        bad = curvature <= 0  # a solved task too: its p and size are 0
        step = anp.where(bad, 0 * size, size / anp.where(bad, one, curvature))
        x, r = x + step * p, r - step * ap
        stopped = stopped + anp.where(bad, anp.sign(size), 0 * size)
        rest = mask * r
        new = anp.where(bad, 0 * size, dot(rest, rest))
        ratio = new / anp.where(size > 0, size, one)
        p = anp.where(bad, 0 * p, rest + ratio * p)
        size = new
    return x, r, stopped
