"""A tape: the NumPy calls that a function made, in their order, by name.

The recording is autograd's outermost trace, whose nodes keep calls instead of derivatives.
A Python decision that depends on a value (`if loss > 1`) raises while it is recorded.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from autograd import tracer
from autograd.core import VSpace, sparse_add
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import Box, Node, isbox

from tinymaml.errors import WorldError
from tinymaml.maml import Array


Function = Callable[..., tuple[Array, ...]]
Names = list[str | None]  # of outputs; a constant has none

ADDING_IN_PLACE = (VSpace.mut_add.fun, sparse_add.fun)  # autograd's sums of cotangents


class CannotRecordError(WorldError):
    """The function branches on values or adds to a constant, or replays differ."""

    def __str__(self) -> str:
        return f"cannot replay: {super().__str__()}; train with --no-replay"


class Call(NamedTuple):
    """One NumPy call and the name of its result.

    parents: position of an argument -> name of the recorded value at this position
    """

    name: str
    function: Callable
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parents: dict[int, str]

    def given(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the arguments, recorded values by their names."""
        return [
            values[self.parents[n]] if n in self.parents else arg
            for n, arg in enumerate(self.args)
        ]


class _Recorded(Node):
    """The name of a value on a tape; the nodes of one recording share the tape."""

    __slots__ = ("name", "tape")

    def __init__(self, value, function, args, kwargs, argnums, parents) -> None:
        self.tape = parents[0].tape
        self.name = f"v{len(self.tape)}"
        names = {n: parent.name for n, parent in zip(argnums, parents, strict=True)}
        # A replay would add to the same constant every time.
        if function.fun in ADDING_IN_PLACE and 1 not in names and args[1] is not None:
            raise CannotRecordError("a sum of gradients begins with constants")
        # Keeping recorded values would keep all of them alive at once.
        args = tuple(None if n in names else arg for n, arg in enumerate(args))
        self.tape.append(Call(self.name, function.fun, args, kwargs, names))

    def initialize_root(self, tape: list[Call], name: str) -> None:
        self.tape, self.name = tape, name


def taped(function: Function, *inputs: Array) -> tuple[list[Call], tuple[Any, ...], Names]:
    """Return the calls that a function's outputs depend on, the outputs, and their names.

    Inputs are named x0, x1, ...; a constant output has no name.
    Raises CannotRecordError when the function branches on values.
    """
    tape: list[Call] = []
    with tracer.trace_stack.new_trace() as trace:
        boxes = [
            tracer.new_box(array, trace, _Recorded.new_root(tape, f"x{i}"))
            for i, array in enumerate(inputs)
        ]
        outputs: tuple[Any, ...] = function(*boxes)
    names = [x._node.name if isbox(x) else None for x in outputs]
    return _alive(tape, names), outputs, names


def _alive(tape: list[Call], outputs: Names) -> list[Call]:
    """Return the calls that the outputs depend on."""
    wanted = set(outputs)
    alive = []
    for call in reversed(tape):
        if call.name in wanted:
            alive.append(call)
            wanted.update(call.parents.values())
    return alive[::-1]


def last_uses(tape: list[Call]) -> dict[str, int]:
    """Return {value: index of the last call that uses it}."""
    return {parent: i for i, call in enumerate(tape) for parent in call.parents.values()}


# ----- Decisions -----


def _refuse_decisions(box: Box) -> bool:
    inner = box
    while isbox(inner):
        if isinstance(inner._node, _Recorded):
            raise CannotRecordError("a Python branch depends on a value")
        inner = inner._value
    return bool(inner)


Box.__bool__ = _refuse_decisions
# The results of comparisons and argmax of scalars; only a recording has them in boxes.
ArrayBox.register(np.bool_)
ArrayBox.register(np.intp)
