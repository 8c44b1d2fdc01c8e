"""Tables and sentences in lines; with a width, in lines that are no longer.

A width of None stands for a file or a pipe, whose lines may be of any length.
"""

import re
from collections.abc import Iterable
from itertools import zip_longest
from textwrap import wrap


Rows = list[list[str]]  # the cells of each row of a table

GAP = "   "  # between columns
PROSE = 10  # characters: a column is not narrowed below them, or it would be hard to read
INDENT = "  "
FIXED = "\N{NO-BREAK SPACE}"


def laid_out(blocks: Iterable[str | Rows], width: int | None = None) -> str:
    """Return sentences and tables, one below the other, in lines of at most `width`."""
    lines = []
    for block in blocks:
        if isinstance(block, str):
            lines += wrapped(block, width, INDENT)
        else:
            lines += aligned(block, width)
    return "\n".join(lines)


def aligned(rows: Rows, width: int | None = None, headed: bool = True) -> list[str]:
    """Return the lines of a table of at most `width` characters.

    The cells of a table that is too wide are wrapped. If its columns would become too
    narrow, each row becomes lines of its own: its first cell, then the others.
    headed: the first row has the names of the columns
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    least = [_least(column) for column in zip(*rows, strict=True)]
    while width and sum(widths) + len(GAP) * (len(widths) - 1) > width:
        wide = [i for i, now in enumerate(widths) if now > least[i]]
        if not wide:
            return _stacked(rows, width, headed)
        widths[max(wide, key=widths.__getitem__)] -= 1
    lines = []
    for row in rows:
        cells = [_cell(*pair) for pair in zip(row, widths, strict=True)]
        for parts in zip_longest(*cells, fillvalue=""):
            lines.append(GAP.join(map(str.ljust, parts, widths)).rstrip())
    return lines


def markdown(block: str | Rows) -> list[str]:
    """Return the lines of a sentence or of a table in Markdown."""
    if isinstance(block, str):
        return [block]
    head, *others = block
    lines = [head, ["---"] * len(head), *others]
    return [f"| {' | '.join(map(str.strip, cells))} |" for cells in lines]


def wrapped(text: str, width: int | None = None, indent: str = "") -> list[str]:
    """Return a text in lines of at most `width` characters; later ones are indented.

    Spaces at the beginning of the text are before every line. A word that is too long for
    a line is broken. A figure stays with its interval and its unit.
    """
    if width is None or len(text) <= width:
        return [text]
    lead = text[: len(text) - len(text.lstrip())]
    lines = wrap(
        _joined(text), width, subsequent_indent=lead + indent, break_on_hyphens=False
    )
    return [line.replace(FIXED, " ") for line in lines]


def _least(cells: tuple[str, ...]) -> int:
    longest = max(map(len, cells))
    words = [len(word) for cell in cells for word in _joined(cell).split(" ")]
    return max(min(longest, PROSE), *words)


def _cell(text: str, width: int) -> list[str]:
    return wrapped(text.rstrip(), width) if len(text) > width else [text]


def _joined(text: str) -> str:
    return re.sub(r" (?=\+- |%)|(?<=\+-) ", FIXED, text)


def _stacked(rows: Rows, width: int, headed: bool) -> list[str]:
    heads, *others = rows if headed else [[""] * len(rows[0]), *rows]
    heads = [head.strip() for head in heads]
    lines = wrapped(heads[0], width) if heads[0] else []
    for first, *cells in others:
        if first := first.strip():
            lines += wrapped(first, width, INDENT)
        named = zip(heads[1:], map(str.strip, cells), strict=True)
        parts = [f"{head}: {cell}" if head else cell for head, cell in named if cell]
        for part in ["; ".join(parts)] if headed else parts:
            lines += wrapped(INDENT + part, width, INDENT) if part else []
    return lines
