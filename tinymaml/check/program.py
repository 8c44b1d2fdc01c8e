"""A user's program as functions of one vector, with one line for each way to misuse it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tinymaml.check import trees
from tinymaml.check.trees import Tree
from tinymaml.maml import Array


@dataclass(frozen=True)
class Program:
    """A meta-loss, its claimed gradient and the adaptation, of any framework.

    loss, gradient, adaptation: the user's functions of the parameters
    tree: the structure of the parameters
    """

    loss: Callable[[Any], Any]
    gradient: Callable[[Any], Any]
    adaptation: Callable[[Any], Any] | None
    tree: Tree

    def value(self, theta: Array) -> float:
        """Return the meta-loss at a vector (P,)."""
        return number(self.loss(self.tree.rebuild(theta)), "meta_loss")

    def claimed(self, theta: Array) -> Array:
        """Return the claimed gradient (P,) at a vector (P,)."""
        return self.claim(theta)[0]

    def claim(self, theta: Array) -> tuple[Array, list[str]]:
        """Return the claimed gradient (P,), and the names of arrays that have none."""
        found = self.gradient(self.tree.rebuild(theta))
        if found is None:
            raise ValueError("meta_gradient returned None: it must return the gradient")
        try:
            vector = self.tree.vector(found, "its gradient")
        except ValueError:
            if isinstance(found, tuple | list) and len(found) == 2 and self._fits(found[1]):
                raise ValueError(
                    "meta_gradient returned a pair (loss, gradient): pass"
                    " lambda theta: meta_gradient(theta)[1]"
                ) from None
            raise
        found = dict(trees.leaves(found, keep_none=True))
        if {*found} != {*self.tree.names}:  # a sequence, in the order of theta
            found = dict(zip(self.tree.names, found.values(), strict=False))
        return vector, [name for name, leaf in found.items() if leaf is None]

    def adapted(self, theta: Array) -> Array:
        """Return theta_K (P,) at a vector (P,)."""
        if self.adaptation is None:
            raise ValueError("adapt was not given")
        found = self.adaptation(self.tree.rebuild(theta))
        try:
            return self.tree.vector(found, "adapt's result", zeros=False)
        except ValueError:
            if isinstance(found, tuple | list) and found and self._fits(found[-1]):
                raise ValueError(
                    f"adapt returned {len(found)} sets of parameters, as maml.path does:"
                    " pass lambda theta: adapt(theta)[-1]"
                ) from None
            raise

    def _fits(self, found: Any) -> bool:
        try:
            self.tree.vector(found, "")
        except ValueError:
            return False
        return True


def program_of(
    loss: Callable, gradient: Callable, theta: Any, adapt: Callable | None
) -> tuple[Array, Program]:
    """Return the vector of the parameters, and the program on vectors.

    Raises ValueError saying what to pass instead.
    """
    named = {"meta_loss": loss, "meta_gradient": gradient, "adapt": adapt or len}
    for name, function in named.items():
        if not callable(function):
            kind = type(function).__name__
            raise ValueError(f"{name} is a {kind}: pass a function of theta")
    vector, tree = trees.flatten(theta)
    return vector, Program(loss, gradient, adapt, tree)


def number(found: Any, what: str) -> float:
    """Return a loss as a float. Raises ValueError when it is not one number."""
    if found is None:
        raise ValueError(f"{what} returned None: it must return the loss")
    if isinstance(found, tuple | list):
        raise ValueError(
            f"{what} returned {len(found)} values: pass lambda theta: {what}(theta)[0], if"
            " the first is the loss"
        )
    array = trees.numbers(found, f"the result of {what}")
    if array.size != 1:
        raise ValueError(f"{what} returned shape {array.shape}: return the mean or the sum")
    return float(array.reshape(()))
