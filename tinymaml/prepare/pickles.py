"""Read the data in a pickle without running it.

A pickle is a program for a stack machine, and it may call any function. The machine here
knows only the instructions that build data. The name of a function stays a name (Global),
and a call stays a record of its function and arguments (Call): nothing is imported, looked
up or called. Long strings stay in the file (Span), so memory stays small.

Python's Unpickler with a harmless find_class would call nothing either. But a dozen bytes
make its memo take all memory (python/cpython#115952), and it holds the strings in memory.

Opcodes: CPython's Lib/pickletools.py. Protocols 0 to 5, from Python 2 and 3.
"""

import codecs
import pickle  # for the names of the opcodes
import re
import struct
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple


# The largest shared file has one for each of its 38,400 images; a NumPy integer takes ten.
OPCODES = 1_000_000
SHORT = 200  # bytes; longer strings stay in the file
CHUNK = 1 << 20  # bytes
# The codings of a string in the file; "" are bytes. Protocol 0 has text with escapes in a
# line: \uXXXX in Python 3, and in Python 2 what `repr` writes.
UTF8, RAW, REPR = "utf-8", "raw-unicode-escape", "string-escape"
FIRST = pickle.PROTO, pickle.MARK, pickle.EMPTY_DICT  # of a dict, by protocol: 2 on, 0, 1
CONSTANTS = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False}
EMPTY = {pickle.EMPTY_LIST: list, pickle.EMPTY_DICT: dict, pickle.EMPTY_TUPLE: tuple}
INTEGERS = {pickle.BININT: "<i", pickle.BININT1: "<B", pickle.BININT2: "<H"}
STRINGS = {  # the format of the size, and the encoding; bytes have none
    pickle.SHORT_BINSTRING: ("<B", "latin-1"),  # Python 2: text or bytes
    pickle.BINSTRING: ("<I", "latin-1"),
    pickle.SHORT_BINBYTES: ("<B", ""),
    pickle.BINBYTES: ("<I", ""),
    pickle.BINBYTES8: ("<Q", ""),
    pickle.BYTEARRAY8: ("<Q", ""),
    pickle.SHORT_BINUNICODE: ("<B", UTF8),
    pickle.BINUNICODE: ("<I", UTF8),
    pickle.BINUNICODE8: ("<Q", UTF8),
}
# The number of items on the stack that an instruction takes; others take all above a mark.
ITEMS = {pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}
ITEMS |= {pickle.APPEND: 1, pickle.SETITEM: 2}


class Global(NamedTuple):
    """A function or class, by its name only."""

    name: str


@dataclass(eq=False)
class Call:
    """A function, its arguments, and the state that the pickle gives to the result."""

    function: Global
    args: tuple
    state: object = None


class Span(NamedTuple):
    """A long string: where it lies in the file, and its coding there, "" for bytes."""

    start: int
    size: int
    coding: str

    @property
    def is_text(self) -> bool:
        """Whether it is text of Python 3, which `_codecs.encode` turns into bytes."""
        return self.coding in (UTF8, RAW)


def load(file: BinaryIO) -> object:
    """Return the data that a pickle describes; Global, Call and Span stand for the rest.

    Raises ValueError when the pickle is damaged, too long, or more than data.
    """
    file.seek(0)
    if (first := file.read(1)) not in FIRST:
        page = ", it looks like an HTML page" if first == b"<" else ""
        raise ValueError(f"it is no pickle of a dict{page}")
    try:
        return _Machine(file).run()
    except (LookupError, struct.error) as error:
        raise ValueError("it is damaged") from error


def raw(data: bytes, coding: str) -> bytes:
    """Return the bytes that a string in a file stands for. Raises ValueError for none."""
    if coding == REPR:
        return codecs.escape_decode(data)[0]
    return data.decode(coding).encode("latin-1") if coding else data


def text(value: object) -> str:
    """Return a name as text; raise ValueError when it is neither text nor ASCII bytes."""
    if isinstance(value, bytes):
        return value.decode("ascii")
    if not isinstance(value, str):
        raise ValueError("a name is not text")
    return value


class _Machine:
    """The stack, the marks in it, the memo, and the instructions that work on them."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, 2)
        self.stack: list = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        self.file.seek(0)
        for _ in range(OPCODES):
            code = self.read(1)
            if code == pickle.STOP:
                return self.stack.pop()
            if code in CONSTANTS:
                self.stack.append(CONSTANTS[code])
            elif code in EMPTY:
                self.stack.append(EMPTY[code]())
            elif code in INTEGERS:
                self.stack.append(self.integer(INTEGERS[code]))
            elif code in STRINGS:
                self.stack.append(self.string(*STRINGS[code]))
            elif code in (pickle.UNICODE, pickle.STRING):
                self.stack.append(self.line_of_text(code == pickle.UNICODE))
            else:
                self.step(code)
        raise ValueError(f"it has more than {OPCODES} instructions")

    def step(self, code: bytes) -> None:
        """Run an instruction that does more than to push a value."""
        stack = self.stack
        match code:
            case pickle.PROTO:
                if (version := self.integer("<B")) not in (2, 3, 4, 5):
                    raise ValueError(f"it is of protocol {version}, not 2 to 5")
            case pickle.FRAME:
                self.read(8)
            case pickle.INT | pickle.LONG:
                stack.append(self.number(self.line()))
            case pickle.LIST:
                stack.append(self.items(code))
            case pickle.DICT:
                items = self.items(code)
                stack.append({})
                self.set_items(items)
            case pickle.PUT:
                self.memo[self.number(self.line())] = stack[-1]
            case pickle.GET:
                stack.append(self.memo[self.number(self.line())])
            case pickle.LONG1:
                data = self.read(self.integer("<B"))
                stack.append(int.from_bytes(data, "little", signed=True))
            case pickle.MARK:
                self.marks.append(len(stack))
            case pickle.TUPLE | pickle.TUPLE1 | pickle.TUPLE2 | pickle.TUPLE3:
                stack.append(tuple(self.items(code)))
            case pickle.APPEND | pickle.APPENDS:
                items = self.items(code)
                self.top(list).extend(items)
            case pickle.SETITEM | pickle.SETITEMS:
                self.set_items(self.items(code))
            case pickle.MEMOIZE:
                self.memo[len(self.memo)] = stack[-1]
            case pickle.BINPUT | pickle.LONG_BINPUT:
                at = self.integer("<B" if code == pickle.BINPUT else "<I")
                self.memo[at] = stack[-1]
            case pickle.BINGET | pickle.LONG_BINGET:
                at = self.integer("<B" if code == pickle.BINGET else "<I")
                stack.append(self.memo[at])
            case pickle.GLOBAL:
                stack.append(Global(".".join(self.line().strip() for _ in range(2))))
            case pickle.STACK_GLOBAL:
                name, module = text(stack.pop()), text(stack.pop())
                stack.append(Global(f"{module}.{name}"))
            case pickle.REDUCE:
                args = self.top(tuple)
                stack.pop()
                stack[-1] = Call(self.top(Global), args)
            case pickle.BUILD:
                state = stack.pop()
                self.top(Call).state = state
            case _:
                raise ValueError(f"it has the instruction {code!r}, which is not for data")

    def set_items(self, items: list) -> None:
        keys, values = items[::2], items[1::2]
        # Other keys are of no use; hashing deep tuples may overflow the C stack.
        if not all(type(key) in (str, bytes) for key in keys):
            raise ValueError("a dict has keys that are not names")
        self.top(dict).update(zip(keys, values, strict=True))

    def line(self) -> str:
        return self.file.readline(SHORT).decode("ascii")

    def number(self, line: str) -> int | bool:
        """Return the integer in a line, True and False as protocols 0 and 1 write them."""
        if line in ("00\n", "01\n"):
            return line == "01\n"
        if not re.fullmatch(r"-?[0-9]+L?\n", line):
            raise ValueError("it has a line that is not a number")
        return int(line.rstrip("L\n"))

    def line_of_text(self, is_unicode: bool) -> str | Span:
        """Return a string that is written as a line; in quotes unless it is of Unicode."""
        start, size = self.file.tell(), 0
        while (end := (chunk := self.file.read(CHUNK)).find(b"\n")) < 0:
            if not chunk:
                raise ValueError("it ends too early")
            size += len(chunk)
        size += end
        self.file.seek(start)
        if not is_unicode:
            quote, start, size = self.read(1), start + 1, size - 2
            self.file.seek(start + size)
            if size < 0 or quote not in (b"'", b'"') or self.read(1) != quote:
                raise ValueError("it has a string without quotes")
            self.file.seek(start)
        coding = RAW if is_unicode else REPR
        data = self.read(size) if size <= SHORT else b""
        self.file.seek(start + size + (1 if is_unicode else 2))
        if size > SHORT:
            return Span(start, size, coding)
        return data.decode(RAW) if is_unicode else raw(data, REPR).decode("latin-1")

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) < size:
            raise ValueError("it ends too early")
        return data

    def integer(self, form: str) -> int:
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def string(self, form: str, encoding: str) -> str | bytes | Span:
        size, start = self.integer(form), self.file.tell()
        if size > self.size - start:
            raise ValueError("it ends too early")
        if size > SHORT:
            self.file.seek(size, 1)
            return Span(start, size, UTF8 if encoding == UTF8 else "")
        return self.read(size).decode(encoding) if encoding else self.read(size)

    def items(self, code: bytes) -> list:
        first = len(self.stack) - ITEMS[code] if code in ITEMS else self.marks.pop()
        if first < 0:
            raise IndexError
        items = self.stack[first:]
        del self.stack[first:]
        return items

    def top(self, kind: type):
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"it has something else in the place of a {kind.__name__}")
        return self.stack[-1]
