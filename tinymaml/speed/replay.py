"""Record a function's NumPy calls once, then replay them without autograd.

A meta-gradient of fixed shapes makes the same NumPy calls in the same order for all
values. A replay makes these calls on new inputs: the same bits without the cost of tracing.

A small tape is replayed in fixed buffers (`buffers`), a large one as generated Python that
frees its values. Some inputs stay for many calls, as a policy's batches do: what depends on
them alone is computed once.

The recording is autograd's outermost trace, whose nodes keep calls instead of derivatives.
A Python decision that depends on a value (`if loss > 1`) raises. A value that leaves
autograd (`getval(x)`, a random draw inside the function) would stay constant. So replays
are compared with the function itself, bit for bit, until one has had other inputs than the
recording. A decision behind `getval` that is the same in both is not noticed.
"""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
from autograd import tracer
from autograd.core import VSpace, sparse_add
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import Box, Node, isbox

from tinymaml.errors import WorldError
from tinymaml.maml import Array
from tinymaml.speed.buffers import CannotFixError, fixed


Function = Callable[..., tuple[Array, ...]]
Names = list[str | None]  # of outputs; a constant has none

KEPT = 32  # sets of staying inputs whose values are kept (default)
ADDING_IN_PLACE = (VSpace.mut_add.fun, sparse_add.fun)  # autograd's sums of cotangents


class CannotRecordError(WorldError):
    """The function branches on values, or its replay gave other bits."""

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


class _Recorded(Node):
    """The name of a value on a tape; the nodes of one recording share the tape."""

    __slots__ = ("name", "tape")

    def __init__(self, value, function, args, kwargs, argnums, parents) -> None:
        self.tape = parents[0].tape
        self.name = f"v{len(self.tape)}"
        names = {n: parent.name for n, parent in zip(argnums, parents, strict=True)}
        if function.fun in ADDING_IN_PLACE and 1 not in names and args[1] is not None:
            raise CannotRecordError("a sum of gradients begins with constants")
        # Keeping recorded values would keep all of them alive at once.
        args = tuple(None if n in names else arg for n, arg in enumerate(args))
        self.tape.append(Call(self.name, function.fun, args, kwargs, names))

    def initialize_root(self, tape: list[Call], name: str) -> None:
        self.tape, self.name = tape, name


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
    if moving is None:
        return _small_or_large(tape, inputs, outputs, names)
    return _in_two(tape, given, moving, kept, outputs, names)


def taped(function: Function, *inputs: Array) -> tuple[list[Call], tuple[Any, ...], Names]:
    """Return the calls that a function's outputs depend on, the outputs, and their names.

    Inputs are named x0, x1, ...; a constant output has no name. Raises as `record` does.
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


def recorded(function: Function, moving: int | None = None, kept: int = KEPT) -> Function:
    """Return `function`, recorded at its first call for each set of shapes and dtypes.

    moving, kept: as in `record`
    Raises CannotRecordError as `record` does, and when the first replay gives other bits
    than the function.
    """
    replays: dict[tuple, Function] = {}
    recording: dict[tuple, list[Array]] = {}  # its inputs, until others have been compared
    compared: set[tuple] = set()
    refused: set[tuple] = set()

    def call(*inputs: Array) -> tuple[Array, ...]:
        if any(map(isbox, inputs)):  # it is recorded or differentiated itself
            return function(*inputs)
        kind = tuple((x.shape, x.dtype.str, x.strides) for x in inputs)
        if kind not in replays:
            replays[kind] = record(function, *inputs, moving=moving, kept=kept)
            recording[kind] = [x.copy() for x in inputs]
            return function(*inputs)
        found = replays[kind](*inputs)
        if kind in recording:
            again = all(map(_same, inputs, recording[kind]))  # proves nothing for others
            if kind in refused or not (again and kind in compared):
                if kind in refused or bits(found) != bits(function(*inputs)):
                    refused.add(kind)
                    raise CannotRecordError(
                        "a replay differs from the function: it branches on values, or uses"
                        " values that are not its inputs"
                    )
                compared.add(kind)
            if not again:
                del recording[kind]
        return found

    return call


def bits(arrays: Sequence[Array]) -> list[tuple]:
    """Return what arrays of equal bits have in common; which nan it is does not matter."""
    return [
        (x.dtype, x.shape, np.isnan(x).tobytes(), x[x == x].tobytes())
        for x in map(np.asarray, arrays)
    ]


# ----- From the tape to a function -----


def _small_or_large(
    tape: list[Call], inputs: Sequence[Array], outputs: Sequence[Any], names: Names
) -> Function:
    """Return a small tape in fixed buffers; a large one, or one of changing shapes, not."""
    anyway = _compiled(tape, [f"x{i}" for i in range(len(inputs))], outputs, names)
    try:
        replay = fixed(tape, inputs, outputs, names)
    except CannotFixError:
        return anyway

    def either(*arrays: Array) -> tuple[Array, ...]:
        try:
            return replay(*arrays)
        except CannotFixError:
            return anyway(*arrays)

    return either


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
