"""Nested dicts and lists of arrays as one vector, and back; NumPy, PyTorch and JAX alike.

No framework is imported: a leaf makes the arrays of its own kind.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tinymaml.maml import Array


LISTED = 4  # names of many, in a sentence


@dataclass(frozen=True)
class Tree:
    """The structure of the parameters: the arrays, with their names, in the vector's order.

    tree: what the user passed; names: as `0.weight`; shapes: of the arrays
    """

    tree: Any
    names: list[str]
    shapes: list[tuple[int, ...]]

    @cached_property
    def spans(self) -> dict[str, slice]:
        """Where each array lies in the vector."""
        ends = np.cumsum([0, *(int(np.prod(shape)) for shape in self.shapes)])
        pairs = itertools.pairwise(ends)
        return {name: slice(*pair) for name, pair in zip(self.names, pairs, strict=True)}

    @property
    def flat(self) -> tuple[int]:
        """The shape of the vector, (P,)."""
        return (sum(int(np.prod(shape)) for shape in self.shapes),)

    @property
    def precision(self) -> str:
        """The dtype of an array that is coarser than float64; nothing if none is."""
        dtypes = (str(getattr(leaf, "dtype", "")) for _, leaf in leaves(self.tree))
        return next((x for x in dtypes if x and not x.endswith("float64")), "")

    def rebuild(self, vector: Array) -> Any:
        """Return new parameters with the structure, kinds and dtypes of the user's."""
        spans = self.spans.values()
        parts = (
            vector[span].reshape(shape)
            for span, shape in zip(spans, self.shapes, strict=True)
        )
        return _filled(self.tree, parts)

    def vector(self, other: Any, what: str, zeros: bool = True) -> Array:
        """Return the vector of a tree with this structure, or of a sequence in its order.

        It may be flat already. zeros: whether None among the arrays stands for zeros, as in
        a gradient. Raises ValueError, which begins with `what`.
        """
        if (
            self.names == [""]
            and isinstance(other, list)
            and np.isscalar((other or [0])[0])
        ):
            other = np.array(other)
        found = dict(leaves(other, keep_none=True))
        if [*found] == [""] != self.names and getattr(other, "shape", ()) == self.flat:
            return numbers(other, what)
        if {*found} == {*self.names}:  # JAX sorts the keys of dicts
            found = {name: found[name] for name in self.names}
        elif isinstance(other, list | tuple) and len(found) == len(self.names) > 1:
            found = dict(zip(self.names, found.values(), strict=True))
        if found and {*found} < {*self.names}:
            lacking = listed([name for name in self.names if name not in found])
            raise ValueError(
                f"{what} lacks {lacking}: leave them out of theta if they are frozen, or"
                " give None for them"
            )
        if [*found] != self.names:
            given = f"{type(other).__name__} of {_listed([*found])}"
            given = f"{type(other).__name__}" if [*found] == [""] else given
            wanted = "one array" if self.names == [""] else _listed(self.names)
            raise ValueError(f"{what} is a {given}; theta is {wanted}")
        parts = []
        for (name, leaf), shape in zip(found.items(), self.shapes, strict=True):
            if leaf is None and not zeros:
                where = f" at {name}" if name else ""
                raise ValueError(f"{what} is None{where}: return all parameters")
            part = (
                np.zeros(shape) if leaf is None else numbers(leaf, f"{what} {name}".strip())
            )
            if part.shape != shape:
                where = f" at {name}" if name else ""
                raise ValueError(f"theta is {shape}{where}, {what} {part.shape}")
            parts.append(part.ravel())
        return np.concatenate(parts)


def flatten(theta: Any) -> tuple[Array, Tree]:
    """Return the parameters as one float64 vector (P,), and their structure.

    theta: a vector, or nested dicts, lists and tuples of arrays
    Raises ValueError saying what to pass instead.
    """
    if hasattr(theta, "named_parameters"):
        raise ValueError("theta is a module: pass dict(model.named_parameters())")
    if isinstance(theta, Iterator):
        raise ValueError(
            "theta is an iterator: pass dict(model.named_parameters()) or a list"
        )
    found = leaves(theta)
    if not found:
        raise ValueError("theta has no arrays")
    if isinstance(theta, list | tuple) and all(np.isscalar(leaf) for _, leaf in found):
        raise ValueError(
            f"theta is a {type(theta).__name__} of numbers: pass np.array(theta)"
        )
    for name, leaf in found:
        if name and any(
            word in str(getattr(leaf, "dtype", "")) for word in ("int", "bool")
        ):
            advice = "pass parameters only (named_parameters, not state_dict)"
            raise ValueError(f"theta {name} is {leaf.dtype}: {advice}")
    arrays = [numbers(leaf, f"theta {name}".strip()) for name, leaf in found]
    for (one, leaf), (other, same) in itertools.combinations(found, 2):
        if leaf is same and hasattr(leaf, "new_tensor"):
            raise ValueError(
                f"theta has one tied tensor as {one} and as {other}: pass it once, as"
                " named_parameters() does"
            )
    names, shapes = [name for name, _ in found], [array.shape for array in arrays]
    if names == [""] and len(shapes[0]) > 1:
        raise ValueError(
            f"theta has shape {shapes[0]}: pass one vector (P,), of one task; a matrix of"
            " parameters goes into a dict: {'w': theta}"
        )
    vector = np.concatenate([array.ravel() for array in arrays])
    if not np.isfinite(vector).all():
        raise ValueError("theta is not finite")
    return vector, Tree(theta, names, shapes)


def leaves(tree: Any, name: str = "", keep_none: bool = False) -> list[tuple[str, Any]]:
    """Return the arrays of a tree with their names; those of nested levels have dots."""
    if tree is None and not keep_none:
        return []
    children = _children(tree)
    if children is None:
        return [(name, tree)]
    found = []
    for key, child in children:
        found += leaves(child, f"{name}.{key}" if name else str(key), keep_none)
    return found


def numbers(leaf: Any, what: str) -> Array:
    """Return an array of any framework as float64. Raises ValueError naming what it is."""
    if hasattr(leaf, "detach"):
        leaf = leaf.detach().cpu()
        leaf = leaf if leaf.is_complex() else leaf.double()
    try:
        array = np.asarray(leaf)
        if array.dtype.kind in "cOSU":
            raise TypeError
        return np.array(array.astype(float), float)
    except (TypeError, ValueError) as error:
        kind = type(leaf).__name__
        raise ValueError(f"{what} is no array of real numbers but a {kind}") from error


def _children(tree: Any) -> list[tuple[Any, Any]] | None:
    if hasattr(tree, "items"):
        return [*tree.items()]
    if isinstance(tree, list | tuple):
        fields = getattr(tree, "_fields", range(len(tree)))
        return [*zip(fields, tree, strict=True)]
    return None


def _filled(tree: Any, parts: Iterator[Array]) -> Any:
    """Return the tree with its arrays replaced by the next parts."""
    children = _children(tree)
    if tree is None:
        return None
    if children is None:
        return _like(tree, next(parts))
    filled = [(key, _filled(child, parts)) for key, child in children]
    if hasattr(tree, "items"):
        return type(tree)(filled)
    values = [value for _, value in filled]
    return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)


def _like(leaf: Any, values: Array) -> Any:
    if hasattr(leaf, "new_tensor"):  # PyTorch
        return leaf.detach().new_tensor(values).requires_grad_(leaf.requires_grad)
    if isinstance(leaf, np.ndarray) or not hasattr(leaf, "__array_namespace__"):
        return values.copy() if isinstance(leaf, np.ndarray) else float(values)
    return leaf.__array_namespace__().asarray(values.astype(leaf.dtype))  # JAX


def listed(names: Sequence[str]) -> str:
    """Return names for a sentence: the first of many."""
    more = len(names) - LISTED
    shown = ", ".join(f"`{name}`" for name in names[:LISTED])
    return f"{shown} and {more} more" if more > 0 else shown


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
    return f"{len(names)} arrays ({shown})" if len(names) != 1 else f"1 array ({shown})"
