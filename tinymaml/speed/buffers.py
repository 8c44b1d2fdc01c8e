"""A small tape as NumPy's calls into fixed buffers.

The arrays of a small net take longer to be made, cut and freed than to be computed. Here
every value has its place for good: views are made once, dead values are overwritten, and
the caches stay warm.

NumPy's bits depend on the layout of what it reads: it sums along the axis that lies closest
in memory, and multiplies one large matrix where all tasks share it. So every place has the
strides that the value had at the recording, and inputs of other strides have another tape.
What changes its form from call to call is not computed here (NoBuffersError).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from tinymaml import params
from tinymaml.maml import Array
from tinymaml.speed import lowering
from tinymaml.speed.lowering import (
    JOIN,
    LOWERED,
    PIECES,
    REFUSED,
    REPEAT,
    NoBuffersError,
    Step,
    broadcast_row,
    by_entry,
)
from tinymaml.speed.tape import Call, Function, Names


# Bytes of all buffers. The calls of a larger tape take longer to compute than to begin.
MAX_BUFFER_BYTES = 2**22
MAX_VALUE_BYTES = 16 * MAX_BUFFER_BYTES  # of all values, which take turns in the buffers
LINE = 64  # bytes of a line of the caches


class Form(NamedTuple):
    """The form of a value. A scalar of NumPy has a place as an array has."""

    shape: tuple[int, ...]
    dtype: np.dtype
    strides: tuple[int, ...]
    scalar: bool = False

    @classmethod
    def of(cls, value: Array | np.generic) -> Form:
        """Return the form of a value."""
        scalar = isinstance(value, np.generic)
        return cls(value.shape, value.dtype, value.strides, scalar)

    def fits(self, value: Array | np.generic) -> bool:
        """Return whether a value has this form, so that NumPy computes alike with it."""
        if (self.shape, self.dtype) != (value.shape, value.dtype):
            return False
        # The stride along an axis of one entry says only whether it is repeated.
        axes = zip(self.shape, self.strides, value.strides, strict=True)
        return all(a == b or (n == 1 and bool(a) == bool(b)) for n, a, b in axes)


def buffered(
    tape: list[Call], inputs: Sequence[Array], outputs: Sequence[Any], names: Names
) -> Function:
    """Return a tape as a function that computes in fixed buffers.

    inputs: later ones have the shapes, dtypes and strides of these
    outputs, names: what the tape's function returned, and the names; a constant has none
    Raises NoBuffersError; so does the function, when a result has another form than at the
    recording.
    """
    forms, views = _forms(tape, inputs)
    places = _Places(tape, forms, views, names)
    given = [places.give(f"x{i}", array) for i, array in enumerate(inputs)]
    steps = [step for i in range(len(tape)) for step in places.steps(i)]
    ends = [
        (
            output if name is None else places.values[name],
            name in forms and forms[name].scalar,
        )
        for name, output in zip(names, outputs, strict=True)
    ]
    lock = threading.Lock()

    def replay(*arrays: Array) -> tuple[Array, ...]:
        with lock:  # the buffers are one computation's
            for (once, distinct), array in zip(given, arrays, strict=True):
                once[...] = array[distinct]
            for function, args in steps:
                function(*args)
            return tuple(value[()] if scalar else copy(value) for value, scalar in ends)

    return replay


def _forms(
    tape: list[Call], inputs: Sequence[Array]
) -> tuple[dict[str, Form], dict[str, str]]:
    """Make all calls once. Return the form of each array, and {view: its source}.

    Raises NoBuffersError when they cannot all have buffers.
    """
    values: dict[str, Any] = {f"x{i}": array for i, array in enumerate(inputs)}
    forms = {name: Form.of(array) for name, array in values.items()}
    views: dict[str, str] = {}
    made = 0
    for call in tape:
        value = values[call.name] = call.function(*call.given(values), **call.kwargs)
        if call.function in PIECES:
            views[call.name] = call.parents[0]
        elif not isinstance(value, np.ndarray | np.generic) or call.function in REFUSED:
            raise NoBuffersError
        elif call.function not in LOWERED:
            for source in call.parents.values():
                if _overlap(value, values[source]):
                    views[call.name] = source
        if isinstance(value, np.ndarray | np.generic):
            made += value.nbytes
            forms[call.name] = Form.of(value)
        if made > MAX_VALUE_BYTES:
            raise NoBuffersError
    return forms, views | _repeated_rows(tape)


def _overlap(a: Any, b: Any) -> bool:
    return all(isinstance(x, np.ndarray) for x in (a, b)) and np.may_share_memory(a, b)


def _repeated_rows(tape: list[Call]) -> dict[str, str]:
    """Return {rows: row} of repeated rows that are only added and multiplied by entry."""
    found = {c.name: c.parents[0] for c in tape if c.function is REPEAT and 0 in c.parents}
    for call in tape:
        if not by_entry(call.function):
            found = {n: row for n, row in found.items() if n not in call.parents.values()}
    return found


class _Places:
    """Gives every value of a tape its place, call by call.

    Values in one buffer have one root, the name of the first of them. A buffer is free
    after the last call that uses its root.
    """

    def __init__(
        self,
        tape: list[Call],
        forms: dict[str, Form],
        views: dict[str, str],
        outputs: Names,
    ) -> None:
        self.tape, self.forms, self.views = tape, forms, views
        self.calls = {call.name: call for call in tape}
        self.values: dict[str, Any] = {}  # views of buffers
        self.buffers: dict[str, Array] = {}  # of roots
        self.memory: dict[str, Array] = {}  # of the same, as bytes
        self.free: dict[int, list[Array]] = {}
        self.bytes = 0
        self.roots: dict[str, str] = {}
        for call in tape:
            if call.name in views:
                self.roots[call.name] = self.root(views[call.name])
        self.last = self._last(outputs)
        self.joined = self._joined()
        self.last = self._last(outputs)  # a joined array lives as long as its vector

    def root(self, name: str) -> str:
        return self.roots.get(name, name)

    def _last(self, outputs: Names) -> dict[str, int]:
        last = {
            self.root(parent): i
            for i, call in enumerate(self.tape)
            for parent in call.parents.values()
        }
        return last | {self.root(name): len(self.tape) for name in outputs if name}

    def _joined(self) -> dict[str, tuple[str, str]]:
        """Return {value: (join, array's name)} of what is computed into a joined vector.

        `params._join(shapes, names, *arrays)` puts a net's gradients end to end. An array
        that nothing else uses is computed in its part of the vector, without a copy.
        """
        found = {}
        for i, call in enumerate(self.tape):
            if call.function is not JOIN:
                continue
            for n, parent in call.parents.items():
                maker = self.calls.get(parent)
                alone = self.root(parent) == parent and self.last[parent] == i
                if maker and alone and maker.function in LOWERED and parent not in found:
                    found[parent] = call.name, call.args[1][n - 2]  # after shapes, names
                    self.roots[parent] = call.name
        return found

    # ----- Places -----

    def give(self, name: str, array: Array) -> tuple[Array, tuple]:
        """Place an input. Return the part to copy into, and the index of an input to copy.

        It has the strides of the array; an axis of stride 0 is filled once.
        """
        if not array.size or min(array.strides, default=0) < 0:
            raise NoBuffersError
        axes = zip(array.shape, array.strides, strict=True)
        extent = array.itemsize + sum((n - 1) * stride for n, stride in axes)
        memory = np.empty(extent, np.uint8)
        place = np.ndarray(array.shape, array.dtype, memory.data, 0, array.strides)
        distinct = (*(slice(None) if step else slice(1) for step in array.strides), ...)
        self.values[name] = place
        return place[distinct], distinct

    def place(self, i: int, name: str) -> Array:
        """Return the place of a value: in a joined vector, over a dead one, or its own."""
        call, form = self.tape[i], self.forms[name]
        if name in self.joined:
            whole, part = self.joined[name]
            return self.part(whole, part)
        if by_entry(call.function):
            for parent in call.parents.values():
                root = self.root(parent)
                same = self.buffers.get(root) is self.values[parent]
                if same and self.last[root] == i and form.fits(self.values[parent]):
                    self.memory[name] = self.memory.pop(root)
                    self.buffers[name] = self.buffers.pop(root)
                    return self.buffers[name]
        return self.new(name, form)

    def new(self, root: str, form: Form) -> Array:
        """Return a buffer of its own. Raises NoBuffersError when they take too much."""
        size = form.dtype.itemsize * int(np.prod(form.shape))
        if self.free.get(size):
            memory = self.free[size].pop()  # the last that was used is still in the caches
        else:
            self.bytes += size
            if self.bytes > MAX_BUFFER_BYTES:
                raise NoBuffersError
            memory = np.empty(size + LINE, np.uint8)
            memory = memory[-memory.ctypes.data % LINE :][:size]
        self.memory[root] = memory
        order = sorted(range(len(form.shape)), key=lambda axis: -form.strides[axis])
        array = memory.view(form.dtype).reshape([form.shape[axis] for axis in order])
        self.buffers[root] = array.transpose(np.argsort(order)) if order else array
        if not form.fits(self.buffers[root]):
            raise NoBuffersError
        return self.buffers[root]

    def part(self, whole: str, name: str) -> Array:
        """Return the place of a named array in a joined vector."""
        if whole not in self.buffers:
            self.new(whole, self.forms[whole])
        return params._split.fun(self.buffers[whole], self.calls[whole].args[0])[name]

    # ----- Steps -----

    def steps(self, i: int) -> list[Step]:
        """Return the steps of the call at i, and free what it used last."""
        call = self.tape[i]
        found = self._steps(i, call, call.given(self.values))
        for parent in {*call.parents.values()}:
            root = self.root(parent)
            if self.last[root] == i and root in self.buffers:
                del self.buffers[root]
                memory = self.memory.pop(root)
                self.free.setdefault(len(memory), []).append(memory)
        return found

    def _steps(self, i: int, call: Call, args: list) -> list[Step]:
        function = call.function
        if call.name in self.views:
            view = broadcast_row if function is REPEAT else function
            value = self.values[call.name] = view(*args, **call.kwargs)
            if isinstance(value, np.ndarray) and not (
                function is REPEAT or self.forms[call.name].fits(value)
            ):
                raise NoBuffersError
            return []
        if function is JOIN:
            return self._join(call, args)
        out = self.values[call.name] = self.place(i, call.name)
        found = lowering.steps(function, args, call.kwargs, out)
        return [self._as_called(call, args, out)] if found is None else found

    def _as_called(self, call: Call, args: list, out: Array) -> Step:
        """Return the step that makes a call as it was recorded, and copies its result."""
        form = self.forms[call.name]

        def copied() -> None:
            value = call.function(*args, **call.kwargs)
            if not form.fits(value):  # its shape depends on values, as that of x[x > 0]
                raise NoBuffersError
            out[...] = value

        return copied, ()

    def _join(self, call: Call, args: list) -> list[Step]:
        shapes, names, *arrays = args
        given = dict(zip(names, arrays, strict=True))
        steps: list[Step] = []
        for name in shapes:
            place = self.part(call.name, name)
            array = given.get(name, 0)
            if not (isinstance(array, np.ndarray) and np.shares_memory(place, array)):
                steps.append((np.copyto, (place, array)))
        self.values[call.name] = self.buffers[call.name]
        return steps
