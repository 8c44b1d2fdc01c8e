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

from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from autograd import tracer
from autograd.core import VSpace, sparse_add
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import Box, Node, isbox

from tinymaml.errors import WorldError


Array = np.ndarray
Function = Callable[..., tuple[Array, ...]]

KEPT = 32  # sets of inputs that stay, when only some move
ADDING_IN_PLACE = (VSpace.mut_add.fun, sparse_add.fun)  # as autograd sums cotangents


class CannotRecordError(WorldError):
    """The function decides by values, or gave other bits when it was replayed."""

    def __str__(self) -> str:
        return f"cannot replay: {super().__str__()}; train with --no-replay"


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
        if function.fun in ADDING_IN_PLACE and 1 not in names and args[1] is not None:
            raise CannotRecordError("a sum of gradients begins with constants")
        # Recorded values are not kept: they would all be alive at once.
        args = tuple(None if n in names else arg for n, arg in enumerate(args))
        self.tape.append(Call(self.name, function.fun, args, kwargs, names))

    def initialize_root(self, tape: list[Call], name: str) -> None:
        self.tape, self.name = tape, name


def record(function: Function, *inputs: Array, moving: int | None = None) -> Function:
    """Return a function of arrays like `inputs` that makes the same NumPy calls.

    function: arrays -> tuple of arrays, through autograd's NumPy and primitives
    moving: how many inputs, the first ones, are others at every call; all unless told.
        What depends on the rest alone is computed once for each set of them; neither they
        nor what is returned may be written to as long as they are used
    Raises CannotRecordError when the function decides by values.
    """
    tape, outputs, names = taped(function, *inputs)
    given = [f"x{i}" for i in range(len(inputs))]
    if moving is None:
        return _compiled(tape, given, outputs, names)
    return _in_two(tape, given[:moving], given[moving:], outputs, names)


def taped(
    function: Function, *inputs: Array
) -> tuple[list[Call], tuple[Any, ...], list[str | None]]:
    """Return the calls that a function's outputs depend on, the outputs, and their names.

    Inputs are called x0, x1, ...; an output that depends on none has no name. Raises as
    `record` does.
    """
    tape: list[Call] = []
    with tracer.trace_stack.new_trace() as trace:
        boxes = [
            tracer.new_box(array, trace, _Recorded.new_root(tape, f"x{i}"))
            for i, array in enumerate(inputs)
        ]
        outputs = function(*boxes)
    names = [x._node.name if isbox(x) else None for x in outputs]
    return _alive(tape, names), outputs, names


def recorded(function: Function, moving: int | None = None) -> Function:
    """Return `function`, recorded at its first call for each set of shapes and dtypes.

    moving: as `record` has it
    Recording raises CannotRecordError as `record` does; so does the second call when its
    bits are not the function's own.
    """
    replays: dict[tuple, Function] = {}
    proved: set[tuple] = set()

    def call(*inputs: Array) -> tuple[Array, ...]:
        kind = tuple((x.shape, x.dtype.str) for x in inputs)
        if kind not in replays:
            replays[kind] = record(function, *inputs, moving=moving)
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


def last_uses(tape: list[Call]) -> dict[str, int]:
    """Return which call is the last to use each value that calls use."""
    return {parent: i for i, call in enumerate(tape) for parent in call.parents.values()}


def _compiled(
    tape: list[Call], given: list[str], outputs: Sequence[Any], names: list[str | None]
) -> Function:
    """Return the tape as one Python function that forgets each value after its last use.

    given: names of its arguments; outputs stand for the names that are None
    """
    constants: dict[str, Any] = {}
    numbers = count()

    def constant(value: Any) -> str:
        name = f"c{next(numbers)}"
        constants[name] = value
        return name

    last = last_uses(tape)
    lines = [f"def replay({', '.join(given)}):"]
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
    lines.append(f"    return ({''.join(f'{name}, ' for name in told)})")
    exec("\n".join(lines), constants)
    return constants["replay"]


# ----- What does not move -----


def _in_two(
    tape: list[Call],
    moving: list[str],
    staying: list[str],
    outputs: Sequence[Any],
    names: list[str | None],
) -> Function:
    """Return the tape as a function that keeps what its `staying` inputs alone decide."""
    moved = _moved(tape, {*moving, *filter(None, names)})
    before = [call for call in tape if call.name not in moved]
    after = [call for call in tape if call.name in moved]
    used = {name for call in after for name in call.parents.values()}
    handed = [call.name for call in before if call.name in used]
    prepare = _compiled(before, staying, handed, handed)
    finish = _compiled(after, moving + staying + handed, outputs, names)
    kept: deque[tuple[Sequence[Array], tuple[Array, ...]]] = deque(maxlen=KEPT)

    def replay(*inputs: Array) -> tuple[Array, ...]:
        rest = inputs[len(moving) :]
        # A copy, since another thread may add to it meanwhile.
        found = (v for known, v in tuple(kept) if all(map(_same, known, rest)))
        values = next(found, None)
        if values is None:
            values = prepare(*rest)
            kept.appendleft((rest, values))
        return finish(*inputs, *values)

    return replay


def _moved(tape: list[Call], moved: set[str]) -> set[str]:
    """Return the values that depend on some, or that calls which do write into."""
    while True:
        for call in tape:
            if not moved.isdisjoint(call.parents.values()):
                moved.add(call.name)
        written = {
            call.parents.get(1)  # space, sum so far, what is added
            for call in tape
            if call.name in moved and call.function in ADDING_IN_PLACE
        }
        if written <= moved | {None}:
            return moved
        moved |= written


def _same(a: Array, b: Array) -> bool:
    """Return whether two arrays have the same bits, but for those of a nan."""
    return a is b or (np.array_equal(a, b) and np.array_equal(np.signbit(a), np.signbit(b)))


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
