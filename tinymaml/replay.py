"""Record a function's NumPy calls once, then replay them without autograd.

A meta-gradient of fixed shapes is straight-line code: the same NumPy calls in the same
order, whatever the numbers. Recording notes each call; replaying makes them again on new
inputs, which gives the same bits without the cost of tracing.

The recording is one more trace of autograd's, the outermost, with a node that keeps calls
in place of derivatives. What it cannot record are Python decisions that depend on values
(`if loss > 1`), which raise, and values taken out of autograd's sight (`float(x)`, a
random draw inside the function): they stay as they were. So the first replay on new inputs
is compared with the function itself, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from autograd import tracer
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import Box, Node, isbox


Array = np.ndarray
Function = Callable[..., tuple[Array, ...]]


class CannotRecordError(RuntimeError):
    """The function decides by values, or gave other bits when it was replayed."""


class Call(NamedTuple):
    """One NumPy call: its result's name, what is called, and where its inputs come from.

    parents: position of an argument -> name of the recorded value that stands there
    """

    name: str
    function: Callable
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parents: dict[int, str]


class _Recorded(Node):
    """A value's name on the tape that its inputs' nodes share."""

    __slots__ = ("name", "tape")

    def __init__(self, value, function, args, kwargs, argnums, parents) -> None:
        self.tape = parents[0].tape
        self.name = f"v{len(self.tape)}"
        names = {n: parent.name for n, parent in zip(argnums, parents, strict=True)}
        # Recorded values are not kept: they would all be alive at once.
        args = tuple(None if n in names else arg for n, arg in enumerate(args))
        self.tape.append(Call(self.name, function.fun, args, kwargs, names))

    def initialize_root(self, tape: list[Call], name: str) -> None:
        self.tape, self.name = tape, name


def record(function: Function, *inputs: Array) -> Function:
    """Return a function of arrays like `inputs` that makes the same NumPy calls.

    function: arrays -> tuple of arrays, through autograd's NumPy and primitives
    Raises CannotRecordError when the function decides by values.
    """
    tape: list[Call] = []
    with tracer.trace_stack.new_trace() as trace:
        boxes = [
            tracer.new_box(array, trace, _Recorded.new_root(tape, f"x{i}"))
            for i, array in enumerate(inputs)
        ]
        outputs = function(*boxes)
    names = [x._node.name if isbox(x) else None for x in outputs]
    return _compiled(_alive(tape, names), len(inputs), outputs, names)


def recorded(function: Function) -> Function:
    """Return `function`, recorded at its first call for each set of shapes and dtypes.

    Recording raises CannotRecordError as `record` does; so does the second call when its
    bits are not the function's own.
    """
    replays: dict[tuple, Function] = {}
    proved: set[tuple] = set()

    def call(*inputs: Array) -> tuple[Array, ...]:
        kind = tuple((x.shape, x.dtype.str) for x in inputs)
        if kind not in replays:
            replays[kind] = record(function, *inputs)
            return function(*inputs)
        found = replays[kind](*inputs)
        if kind not in proved:
            _prove(found, function(*inputs))
            proved.add(kind)
        return found

    return call


def _prove(found: tuple[Array, ...], expected: tuple[Array, ...]) -> None:
    for a, b in zip(found, expected, strict=True):
        if not np.array_equal(a, b, equal_nan=True):
            raise CannotRecordError(
                "a replay differs from the function: it decides by values, or uses values"
                " that are not its inputs"
            )


# ----- From the tape to a function -----


def _alive(tape: list[Call], outputs: list[str | None]) -> list[Call]:
    """Return the calls that the outputs depend on."""
    wanted = set(outputs)
    alive = []
    for call in reversed(tape):
        if call.name in wanted:
            alive.append(call)
            wanted.update(call.parents.values())
    return alive[::-1]


def _compiled(
    tape: list[Call], inputs: int, outputs: tuple[Any, ...], names: list[str | None]
) -> Function:
    """Return the tape as one Python function that forgets each value after its last use."""
    constants: dict[str, Any] = {}
    numbers = count()

    def constant(value: Any) -> str:
        name = f"c{next(numbers)}"
        constants[name] = value
        return name

    last = {parent: i for i, call in enumerate(tape) for parent in call.parents.values()}
    lines = [f"def replay({', '.join(f'x{i}' for i in range(inputs))}):"]
    for i, call in enumerate(tape):
        args = [
            call.parents[n] if n in call.parents else constant(arg)
            for n, arg in enumerate(call.args)
        ]
        args += [f"{key}={constant(value)}" for key, value in call.kwargs.items()]
        lines.append(f"    {call.name} = {constant(call.function)}({', '.join(args)})")
        done = [p for p in set(call.parents.values()) if last[p] == i and p not in names]
        lines += [f"    del {name}" for name in sorted(done) if name.startswith("v")]
    told = [name or constant(output) for name, output in zip(names, outputs, strict=True)]
    lines.append(f"    return {''.join(f'{name}, ' for name in told)}")
    exec("\n".join(lines), constants)
    return constants["replay"]


# ----- Decisions -----


def _refuse_decisions(box: Box) -> bool:
    inner = box
    while isbox(inner):
        if isinstance(inner._node, _Recorded):
            raise CannotRecordError("a Python branch depends on a value")
        inner = inner._value
    return bool(inner)


Box.__bool__ = _refuse_decisions
# What comparisons and argmax of scalars give; only a recording has them in boxes.
ArrayBox.register(np.bool_)
ArrayBox.register(np.intp)
