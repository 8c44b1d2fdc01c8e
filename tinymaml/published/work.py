"""The form in which a published work is written down: its settings, row by row.

A row has an option's value in the paper and in the official code, each with its source;
files and line numbers are those of the code. Where a run needs an option of which one of
the two is silent, or was not found or read, the row has the other's value and says so.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple


SILENT = "not in the paper; as the code"
UNREAD = "not checked; as the code"
NOT_FOUND = "code not found; as the paper"
RECALLED = "in the paper (from memory)"


class Row(NamedTuple):
    """An option's value in the paper and in the code."""

    option: str
    paper: Any
    paper_source: str
    code: Any
    code_source: str

    @property
    def values(self) -> tuple[Any, Any]:
        """The values in the order of a work's columns."""
        return self.paper, self.code


class Part(NamedTuple):
    """The rows of the settings in which the options in `when` have these values."""

    when: dict[str, Any]
    rows: tuple[Row, ...]


class Published(NamedTuple):
    """An experiment's published settings, and the rows that they consist of.

    notes: disagreements of paper and code, or of codes, on what is no option here
    dead: settings of the code that it never reads, or that have no effect
    missing: what of the protocol is no option here
    """

    settings: tuple[dict[str, Any], ...]
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class Work(NamedTuple):
    """A published work.

    name: the first part of its presets' names, author and year
    title: its name in tables
    code: the repository of its official code, and the commit that was read
    experiments: what was published of each experiment
    columns: the last part of its presets' names, of a row's values in order
    """

    name: str
    title: str
    code: str
    experiments: dict[str, Published]
    columns: tuple[str, ...] = ("paper", "code")


def part(*rows: Row, **when: Any) -> Part:
    """Return the part with these rows."""
    return Part(when, rows)


def settings(**choices: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """Return every combination of the options' values."""
    found = product(*choices.values())
    return tuple(dict(zip(choices, values, strict=True)) for values in found)


def of_code(option: str, value: Any, source: str) -> Row:
    """Return a row of which the paper was not checked."""
    return Row(option, value, UNREAD, value, source)


def of_paper(option: str, value: Any, source: str = RECALLED) -> Row:
    """Return a row of a paper whose code was not found."""
    return Row(option, value, source, value, NOT_FOUND)
