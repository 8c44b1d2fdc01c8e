"""Read the data in a pickle without running it.

A pickle is a program for a stack machine, and may call anything. The machine here knows
only the instructions that build data. A function's name stays a name (Global) and a call
stays a record of what would be called with what (Call): nothing is imported, looked up or
called. Long strings stay in the file (Span), so memory stays small.

Python's Unpickler with a harmless find_class would call nothing either, but a dozen bytes
make its memo take all memory (python/cpython#115952), and it holds the strings in memory.

Opcodes: CPython's Lib/pickletools.py. Protocols 2 to 5, from Python 2 and 3.
"""

import pickle  # for the names of the opcodes
import struct
from typing import BinaryIO, NamedTuple


OPCODES = 200_000  # the largest of the shared files has one for each of 38,400 images
SHORT = 200  # bytes of the longest string that is read


class Global(NamedTuple):
    """A function or class, by its name only."""

    name: str


class Call:
    """What would be called with what, and the state that the result would be given."""

    def __init__(self, function: Global, args: tuple) -> None:
        self.function, self.args, self.state = function, args, None


class Span(NamedTuple):
    """A long string: where it lies in the file, and whether it is UTF-8 text."""

    start: int
    size: int
    is_text: bool


def load(file: BinaryIO) -> object:
    """Return the data that a pickle describes; Global, Call and Span stand for the rest.

    Raises ValueError when it is damaged, too long, or more than data.
    """
    file.seek(0)
    if (first := file.read(1)) != pickle.PROTO:
        page = ", it looks like an HTML page" if first == b"<" else ""
        raise ValueError(f"it is no pickle of protocol 2 or later{page}")
    try:
        return _Machine(file).run()
    except (LookupError, struct.error) as error:
        raise ValueError("it is damaged") from error


def text(value: object) -> str:
    """Return a name, which may be bytes; raise ValueError when it is neither."""
    if isinstance(value, bytes):
        return value.decode("ascii")
    if not isinstance(value, str):
        raise ValueError("a name is not text")
    return value


class _Machine:
    """The stack, the marks in it, and the memo.

    Every kind of instruction has a method that runs it, or returns False.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, 2)
        self.stack: list = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        kinds = self.number, self.string, self.container, self.memorised, self.object
        self.file.seek(0)
        for _ in range(OPCODES):
            code = self.read(1)
            if code == pickle.STOP:
                return self.stack.pop()
            if not any(kind(code) for kind in kinds):
                raise ValueError(f"it has the instruction {code!r}, which data need not")
        raise ValueError(f"it has more than {OPCODES} instructions")

    def number(self, code: bytes) -> bool:
        match code:
            case pickle.BININT:
                value = self.integer("<i")
            case pickle.BININT1:
                value = self.integer("<B")
            case pickle.BININT2:
                value = self.integer("<H")
            case pickle.LONG1:
                value = int.from_bytes(self.read(self.integer("<B")), "little", signed=True)
            case pickle.NONE:
                value = None
            case pickle.NEWTRUE | pickle.NEWFALSE:
                value = code == pickle.NEWTRUE
            case _:
                return False
        self.stack.append(value)
        return True

    def string(self, code: bytes) -> bool:
        match code:
            case pickle.SHORT_BINSTRING | pickle.SHORT_BINBYTES | pickle.SHORT_BINUNICODE:
                size = self.integer("<B")
            case pickle.BINSTRING | pickle.BINBYTES | pickle.BINUNICODE:
                size = self.integer("<I")
            case pickle.BINBYTES8 | pickle.BYTEARRAY8 | pickle.BINUNICODE8:
                size = self.integer("<Q")
            case _:
                return False
        is_text = code in pickle.SHORT_BINUNICODE + pickle.BINUNICODE + pickle.BINUNICODE8
        if size > SHORT:
            self.stack.append(self.span(size, is_text))
        elif is_text:
            self.stack.append(self.read(size).decode("utf-8"))
        elif code in pickle.SHORT_BINSTRING + pickle.BINSTRING:  # Python 2: text or bytes
            self.stack.append(self.read(size).decode("latin-1"))
        else:
            self.stack.append(self.read(size))
        return True

    def container(self, code: bytes) -> bool:
        match code:
            case pickle.MARK:
                self.marks.append(len(self.stack))
            case pickle.EMPTY_LIST:
                self.stack.append([])
            case pickle.EMPTY_DICT:
                self.stack.append({})
            case pickle.EMPTY_TUPLE:
                self.stack.append(())
            case pickle.TUPLE:
                self.stack.append(tuple(self.since_mark()))
            case pickle.TUPLE1 | pickle.TUPLE2 | pickle.TUPLE3:
                size = 1 + (pickle.TUPLE1 + pickle.TUPLE2 + pickle.TUPLE3).index(code)
                items = [self.stack.pop() for _ in range(size)]
                self.stack.append(tuple(items[::-1]))
            case pickle.APPEND:
                item = self.stack.pop()
                self.top(list).append(item)
            case pickle.APPENDS:
                items = self.since_mark()
                self.top(list).extend(items)
            case pickle.SETITEM:
                value, key = self.stack.pop(), self.stack.pop()
                self.set_items([key, value])
            case pickle.SETITEMS:
                self.set_items(self.since_mark())
            case _:
                return False
        return True

    def memorised(self, code: bytes) -> bool:
        match code:
            case pickle.MEMOIZE:
                self.memo[len(self.memo)] = self.stack[-1]
            case pickle.BINPUT | pickle.LONG_BINPUT:
                at = self.integer("<B" if code == pickle.BINPUT else "<I")
                self.memo[at] = self.stack[-1]
            case pickle.BINGET | pickle.LONG_BINGET:
                at = self.integer("<B" if code == pickle.BINGET else "<I")
                self.stack.append(self.memo[at])
            case pickle.PROTO:
                if (version := self.integer("<B")) not in (2, 3, 4, 5):
                    raise ValueError(f"it is of protocol {version}, not 2 to 5")
            case pickle.FRAME:
                self.read(8)
            case _:
                return False
        return True

    def object(self, code: bytes) -> bool:
        match code:
            case pickle.GLOBAL:
                module, name = self.line(), self.line()
                self.stack.append(Global(f"{module}.{name}"))
            case pickle.STACK_GLOBAL:
                name, module = text(self.stack.pop()), text(self.stack.pop())
                self.stack.append(Global(f"{module}.{name}"))
            case pickle.REDUCE:
                args = self.top(tuple)
                self.stack.pop()
                self.stack[-1] = Call(self.top(Global), args)
            case pickle.BUILD:
                state = self.stack.pop()
                self.top(Call).state = state
            case _:
                return False
        return True

    # ----- What the instructions are made of -----

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) < size:
            raise ValueError("it ends too early")
        return data

    def integer(self, form: str) -> int:
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def line(self) -> str:
        return self.file.readline(SHORT).decode("ascii").strip()

    def span(self, size: int, is_text: bool) -> Span:
        start = self.file.tell()
        if size > self.size - start:
            raise ValueError("it ends too early")
        self.file.seek(size, 1)
        return Span(start, size, is_text)

    def since_mark(self) -> list:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def top(self, kind: type):
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"what should be a {kind.__name__} is none")
        return self.stack[-1]

    def set_items(self, items: list) -> None:
        keys, values = items[::2], items[1::2]
        # Other keys are of no use; to hash tuples in tuples could overflow the C stack.
        if len(keys) != len(values) or not all(type(k) in (str, bytes) for k in keys):
            raise ValueError("a dict has keys that are not names")
        self.top(dict).update(zip(keys, values, strict=True))
