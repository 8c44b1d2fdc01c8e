"""Record a function's NumPy calls once, then replay them without autograd.

A meta-gradient of fixed shapes makes the same NumPy calls in the same order for all
values. A replay makes these calls on new inputs: the same bits without the cost of tracing.

A small tape is replayed in fixed buffers (`buffers`), a large one as generated Python that
frees its values. Some inputs stay for many calls, as a policy's batches do: what depends on
them alone is computed once, and such a tape has no buffers.

A value that leaves autograd (`getval(x)`, a random draw inside the function) would stay
constant. So replays are compared with the function itself, bit for bit, until one has had
other inputs than the recording. A decision behind `getval` that is the same with both
inputs is not noticed.
"""

from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from typing import Any

import numpy as np
from autograd.tracer import isbox

from tinymaml.maml import Array
from tinymaml.speed.buffers import buffered
from tinymaml.speed.lowering import NoBuffersError
from tinymaml.speed.tape import (
    ADDING_IN_PLACE,
    Call,
    CannotRecordError,
    Function,
    Names,
    last_uses,
    taped,
)


KEPT = 32  # sets of staying inputs whose values are kept (default)
DIFFERS = (
    "a replay differs from the function: it branches on values, or uses values that are"
    " not its inputs"
)


def record(
    function: Function, *inputs: Array, moving: int | None = None, kept: int = KEPT
) -> Function:
    """Return a function of arrays like `inputs` that makes the same NumPy calls.

    function: arrays -> tuple of arrays, through autograd's NumPy and primitives
    moving: number of leading inputs that change from call to call (default: all). Values
        that depend only on the others are computed once for each set of them; these inputs
        and the outputs must not be written to while they are in use
    kept: number of the latest such sets whose values are kept
    Raises CannotRecordError when the function branches on values.
    """
    tape, outputs, names = taped(function, *inputs)
    given = [f"x{i}" for i in range(len(inputs))]
    if moving is not None:
        return _in_two(tape, given, moving, kept, outputs, names)
    replay = compiled = _compiled(tape, given, outputs, names)
    with suppress(NoBuffersError):
        replay = buffered(tape, inputs, outputs, names)

    def either(*arrays: Array) -> tuple[Array, ...]:
        nonlocal replay
        try:
            return replay(*arrays)
        except NoBuffersError:  # a shape depends on values
            replay = compiled
            return replay(*arrays)

    return either


def recorded(function: Function, moving: int | None = None, kept: int = KEPT) -> Function:
    """Return `function`, recorded at its first call for each form of its inputs.

    moving, kept: as in `record`
    Raises CannotRecordError as `record` does, and when a replay gives other bits than the
    function.
    """
    replays: dict[tuple, Function] = {}
    unproved: dict[tuple, list[tuple]] = {}  # bits of the recording's inputs
    agreeing: set[tuple] = set()  # with these inputs
    refused: set[tuple] = set()

    def call(*inputs: Array) -> tuple[Array, ...]:
        if any(map(isbox, inputs)):  # it is recorded or differentiated itself
            return function(*inputs)
        kind = tuple((x.shape, x.dtype.str, x.strides) for x in inputs)
        if kind in refused:
            raise CannotRecordError(DIFFERS)
        if kind not in replays:
            replays[kind] = record(function, *inputs, moving=moving, kept=kept)
            unproved[kind] = bits(inputs)
            return function(*inputs)
        found = replays[kind](*inputs)
        if kind in unproved:
            again = bits(inputs) == unproved[kind]
            if not (again and kind in agreeing) and bits(found) != bits(function(*inputs)):
                refused.add(kind)
                raise CannotRecordError(DIFFERS)
            agreeing.add(kind)
            if not again:  # the same inputs prove nothing about others
                del unproved[kind]
        return found

    return call


def bits(arrays: Sequence[Array]) -> list[tuple]:
    """Return what arrays of equal bits have in common; which nan it is does not matter."""
    return [
        (x.dtype, x.shape, np.isnan(x).tobytes(), x[x == x].tobytes())
        for x in map(np.asarray, arrays)
    ]


# ----- From the tape to a function -----


def _compiled(
    tape: list[Call], given: list[str], outputs: Sequence[Any], names: Names
) -> Function:
    """Return the tape as one piece of Python that frees each value after its last use.

    given: names of its arguments; an output without a name is a constant
    Values are names in a dictionary. Hundreds of local variables would be a frame that
    fills a block of Python's stack, so that every call in it maps and unmaps a new block.
    """
    constants: dict[str, Any] = {}

    def constant(value: Any) -> str:
        name = f"c{len(constants)}"
        constants[name] = value
        return name

    last = last_uses(tape)
    lines = []
    for i, call in enumerate(tape):
        args = [
            call.parents[n] if n in call.parents else constant(arg)
            for n, arg in enumerate(call.args)
        ]
        args += [f"{key}={constant(value)}" for key, value in call.kwargs.items()]
        lines.append(f"{call.name} = {constant(call.function)}({', '.join(args)})")
        done = [p for p in set(call.parents.values()) if last[p] == i and p not in names]
        lines += [f"del {name}" for name in sorted(done) if name.startswith("v")]
    # A constant output is copied: the caller may write to it.
    ends = [
        name or f"{constant(copy)}({constant(output)})"
        for name, output in zip(names, outputs, strict=True)
    ]
    lines.append(f"returned = ({''.join(f'{end}, ' for end in ends)})")
    code = compile("\n".join(lines), "<replay>", "exec")

    def replay(*inputs: Array) -> tuple[Array, ...]:
        values: dict[str, Any] = dict(zip(given, inputs, strict=True))
        exec(code, constants, values)
        return values["returned"]

    return replay


# ----- Inputs that stay -----


def _in_two(
    tape: list[Call],
    given: list[str],
    moving: int,
    most: int,
    outputs: Sequence[Any],
    names: Names,
) -> Function:
    """Return the tape as a function that keeps the values without a moving input."""
    moved = _moved(tape, {*given[:moving], *filter(None, names)})
    before = [call for call in tape if call.name not in moved]
    after = [call for call in tape if call.name in moved]
    used = {name for call in after for name in call.parents.values()}
    handed = [call.name for call in before if call.name in used]
    prepare = _compiled(before, given[moving:], handed, [*handed])
    finish = _compiled(after, given + handed, outputs, names)
    kept: tuple[tuple[Sequence[Array], tuple[Array, ...]], ...] = ()

    def replay(*inputs: Array) -> tuple[Array, ...]:
        nonlocal kept  # replaced as a whole: another thread may read it meanwhile
        rest = inputs[moving:]
        found = (v for known, v in kept if all(map(_same, known, rest)))
        values = next(found, None)
        if values is None:
            values = prepare(*rest)
            kept = ((rest, values), *kept)[:most]
        return finish(*inputs, *values)

    return replay


def _moved(tape: list[Call], moved: set[str]) -> set[str]:
    """Return `moved`, the values that depend on it, and those that such calls write to."""
    while True:
        for call in tape:
            if not moved.isdisjoint(call.parents.values()):
                moved.add(call.name)
        written: set[Any] = {
            call.parents.get(1)  # arguments: vector space, sum so far, summand
            for call in tape
            if call.name in moved and call.function in ADDING_IN_PLACE
        }
        if written <= moved | {None}:
            return moved
        moved |= written


def _same(a: Array, b: Array) -> bool:
    """Return whether two arrays have the same bits; a nan equals only itself."""
    return a is b or (np.array_equal(a, b) and np.array_equal(np.signbit(a), np.signbit(b)))
