"""Options: fields of a dataclass that carry their help, range, source and role.

A value is checked in one place, whether it was typed, read from a file or given in Python.
"""

import dataclasses
import difflib
import math
import numbers
import re
import typing
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from tinymaml.errors import UsageError


Limits = dict[str, Any]  # fields of `Values`

# The largest number of anything: far above any use, it catches a slip of the finger.
MOST = 10**6
QUOTED = 100  # characters of a text that a message repeats
# Ranges that many options have.
COUNT: Limits = {"least": 1, "most": MOST}
SAMPLE: Limits = {"least": 2, "most": MOST}  # with an interval
WIDTHS: Limits = {"least": 1, "most": 10**4}
STEPS: Limits = {"least": 0, "most": 1000}
SEEDS: Limits = {"least": 0, "most": 2**64 - 1}
FACTOR: Limits = {"least": 0, "most": 1e9}
POSITIVE: Limits = {"above": 0, "most": 1e9}

NUMBER = {int: "an integer", float: "a number"}
# The published figures that an option's value is compared with.
EVERY, OWN, NONE = "of every method", "of the run's own method", "none"


class Role(NamedTuple):
    """The parts of the program that an option affects.

    checked: `tinymaml check` has it
    titled: a run's title and label name it
    fixed: it cannot change when a run is resumed
    compared: runs that differ in it are not pooled as seeds of one experiment
    task: it defines a task; labels and titles name it first
    world: scores with different values of it cannot be compared
    figures: the published figures that it is compared with: EVERY, OWN or NONE
    """

    checked: bool
    titled: bool
    fixed: bool
    compared: bool
    task: bool = False
    world: bool = False
    figures: str = NONE


TASK = Role(True, True, True, True, task=True, world=True, figures=OWN)  # ways, shots
PROBLEM = Role(True, True, True, True, figures=OWN)  # the losses, the world
WORLD = PROBLEM._replace(world=True)  # what a policy acts in, and its rewards
DATA = NET = PROBLEM._replace(figures=EVERY)
TRAINING = Role(False, True, True, True, figures=OWN)  # the outer loop
LENGTH = Role(False, False, False, True, figures=OWN)  # how long a run is
SCHEDULE = Role(False, False, True, True)  # when files are written; the last bits
TESTING = Role(False, False, False, True)  # how a run is tested
SEED = Role(False, False, True, False)
PLACE = Role(True, False, False, False)  # where the data are
MANNER = Role(False, False, False, False)  # no effect on the result


class Values(NamedTuple):
    """The values that an option can have.

    kind: int, float, bool, str, or tuple for a list of integers
    least, most: the ends of the range, of a text's length; above: an end that is excluded
    choices: the texts that are allowed; empty: any text
    others: a pattern of texts that are allowed besides
    """

    kind: type
    least: float | None = None
    most: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    others: str = ""

    @property
    def noun(self) -> str:
        """The name of such a value in messages."""
        nouns = {int: "integer", float: "number", bool: "flag", str: "text"}
        return nouns.get(self.kind, "list of integers")

    def parsed(self, text: str) -> Any:
        """Parse a text. Raises ValueError for an invalid one."""
        if self._other(text):
            return text
        if self.kind is tuple:
            item = self._replace(kind=int)
            return self.checked(tuple(item.parsed(part) for part in text.split(",")))
        if self.kind not in (int, float):
            return self.checked(text)
        pattern = r"[+-]?\d+" if self.kind is int else r"[^_]+"
        try:
            if not re.fullmatch(pattern, text, re.ASCII) or not text.isascii():
                raise ValueError(text)
            value = self.kind(text)
        except ValueError as error:
            raise ValueError(f"{quoted(text)} is not {NUMBER[self.kind]}") from error
        return self.checked(value)

    def checked(self, value: Any) -> Any:
        """Return a value in the option's type. Raises ValueError outside the range."""
        if self._other(value):
            return value
        if self.kind is tuple:
            if not isinstance(value, tuple | list):
                raise ValueError(f"{quoted(value)} is not a list of integers")
            if not value:
                raise ValueError("the list is empty")
            return tuple(self._replace(kind=int).checked(item) for item in value)
        if self.kind is bool:
            if not isinstance(value, bool):
                raise ValueError(f"{quoted(value)} is not true or false")
            return value
        return self._text(value) if self.kind is str else self._number(value)

    def _other(self, value: Any) -> bool:
        text = self.others and isinstance(value, str) and value.isprintable()
        return bool(text and re.fullmatch(self.others, value))

    def _text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{quoted(value)} is not text")
        if not value.isprintable():
            raise ValueError(f"{quoted(value)} has a character that cannot be printed")
        if self.choices and value not in self.choices:
            raise ValueError(f"{quoted(value)} is not one of {', '.join(self.choices)}")
        if self.least is not None and len(value) < self.least:
            raise ValueError("must not be empty")
        return value

    def _number(self, value: Any) -> float:
        taken: Any = numbers.Integral if self.kind is int else numbers.Real
        if isinstance(value, bool) or not isinstance(value, taken):
            raise ValueError(f"{quoted(value)} is not {NUMBER[self.kind]}")
        if not isinstance(value, numbers.Integral) and not math.isfinite(value):
            raise ValueError(f"{value} is not finite")
        given = quoted(value).removesuffix(".0")  # -1 and -1.0 have the same message
        if self.least is not None and value < self.least:
            raise ValueError(f"{given} is below {self.least}")
        if self.above is not None and value <= self.above:
            raise ValueError(f"{given} is not above {self.above}")
        if self.most is not None and value > self.most:
            raise ValueError(f"{given} is above {self.most}")
        return self.kind(value)


class Option(NamedTuple):
    """One option: its name in Python, its default, and the metadata of its field."""

    name: str
    default: Any
    values: Values
    help: str
    source: str
    role: Role

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return flag(self.name)


def option(
    default: Any, help: str, source: str = "", *, role: Role = PROBLEM, **limits: Any
) -> Any:
    """Return a dataclass field that is an option. limits: fields of `Values` but `kind`."""
    metadata = {"help": help, "source": source, "role": role, "limits": limits}
    return dataclasses.field(default=default, metadata=metadata)


def redefault(default: Any, source: str = "", help: str = "") -> Any:
    """Return an inherited option with another default and source, and perhaps help."""
    changes = {"source": source, **({"help": help} if help else {})}
    return dataclasses.field(default=default, metadata=changes)


def options_of(kind: type) -> dict[str, Option]:
    """Return the options of a dataclass by name: its fields that have a help."""
    return _options_of(kind)  # mypy takes the type of a dataclass for unhashable


@lru_cache
def _options_of(kind: type) -> dict[str, Option]:
    hints, options = typing.get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        name, hint = field.name, hints[field.name]
        metadata: dict[str, Any] = {}
        for base in reversed(kind.__mro__):
            if name in (fields := getattr(base, "__dataclass_fields__", {})):
                metadata |= fields[name].metadata
        if metadata:
            values = Values(typing.get_origin(hint) or hint, **metadata.pop("limits"))
            options[name] = Option(name, field.default, values, **metadata)
    return options


def check(options: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return values in their options' types. Raises UsageError for a bad name or value."""
    found = {}
    for name, value in given.items():
        if name not in options:
            raise UsageError(unknown(name, options))
        try:
            found[name] = options[name].values.checked(value)
        except ValueError as error:
            raise UsageError(f"{flag(name)}: {error}") from error
    return found


def unknown(name: str, names: Iterable[str]) -> str:
    """Return the message about an option that does not exist, with a similar name."""
    near = difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {flag(near[0])}?" if near else ""
    name = flag(name) if name.isprintable() else quoted(flag(name))
    return f"{name}: no such option{hint}"


def flag(name: str) -> str:
    """Return an option's name as on the command line."""
    return "--" + name.replace("_", "-")


def quoted(value: Any) -> str:
    """Return a value as a message repeats it; of a long text both ends."""
    try:
        text = str(value) if isinstance(value, numbers.Number) else repr(value)
    except ValueError:  # Python does not write integers of more than 4300 digits
        return "a number of too many digits"
    if isinstance(value, numbers.Number) or len(text) <= QUOTED:
        return text
    return f"{text[: QUOTED // 2]}...{text[-QUOTED // 4 :]} ({len(text)} characters)"


def shown(value: Any) -> str:
    """Return a value as one would type it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def flags(values: Mapping[str, Any]) -> str:
    """Return options and their values as one would type them."""
    return " ".join(
        flag(k if x else f"no_{k}") if isinstance(x, bool) else f"{flag(k)} {shown(x)}"
        for k, x in values.items()
    )
