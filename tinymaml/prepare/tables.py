"""Csv files that name images and their classes."""

import csv
import io
from pathlib import Path
from typing import NamedTuple

from tinymaml.prepare.files import failure, naming, refuse


CSV_BYTES = 1 << 24  # ten times the largest of mini-ImageNet's
LONGEST_NAME = 255  # characters of a folder's or file's name
# The names that a column may have in the first line.
COLUMNS = {
    "filename": ("filename", "file", "image", "path"),
    "label": ("label", "class"),
    "group": ("group", "alphabet"),
    "split": ("split", "part"),
}


class Row(NamedTuple):
    """An image in a csv file: its line, and the values of the columns, "" for none."""

    line: int
    filename: str
    label: str
    group: str = ""
    split: str = ""


def is_name(text: str, folders: int = 0) -> bool:
    """Return whether a text names a file below a folder: no way up, nothing unprintable.

    folders: the largest number of folders before the file's name
    """
    words = text.split("/")
    return len(words) <= folders + 1 and all(
        word.isprintable()
        and word == word.strip()
        and word not in ("", ".", "..")
        and "\\" not in word
        and len(word) <= LONGEST_NAME
        for word in words
    )


def read(path: Path, head: tuple[str, ...] | None = None) -> list[Row]:
    """Return the rows of a csv file; blanks around a value and last blank lines are cut.

    head: the columns that the file must have, in this order; None: a filename and a label,
        in any order and beside others
    Raises WorldError for a file that cannot be read, another first line, or a wrong row.
    """
    with naming(path, "not a readable csv file"):
        if not path.is_file():
            raise failure(path, "no such file; --csv FOLDER has the csv files")
        with path.open("rb") as file:
            data = file.read(CSV_BYTES + 1)
        if len(data) > CSV_BYTES:
            raise ValueError(f"more than {CSV_BYTES} bytes")
        text = io.StringIO(data.decode("utf-8-sig"), newline="")
        first, *rows = ([word.strip() for word in row] for row in csv.reader(text))
    while rows and not any(rows[-1]):  # blank lines
        rows.pop()
    columns = columns_of(first)
    if head is None and not {"filename", "label"} <= {*columns}:
        raise failure(path, "its first line has no columns filename and label")
    if head and tuple(columns) != head:
        raise failure(path, f"its first line is not {','.join(head)}")
    if not rows:
        raise failure(path, "no images in line 2")
    found, wrong = [], []
    for line, row in enumerate(rows, 2):
        named = dict(zip(columns, row, strict=False))
        if len(row) == len(columns) and _is_right(named):
            found.append(Row(line, **{k: x for k, x in named.items() if k in COLUMNS}))
        else:
            wrong.append(f"line {line}")
    refuse(path, wrong and [f"not a file name and a label in {wrong[0]}", *wrong[1:]])
    return found


def columns_of(first: list[str]) -> list[str]:
    """Return the names in COLUMNS of a csv's first line; a number for any other column."""
    names = {name: column for column, names in COLUMNS.items() for name in names}
    found: list[str] = []
    for number, word in enumerate(first):
        column = names.get(word.lower(), str(number))
        found.append(str(number) if column in found else column)
    return found


def _is_right(row: dict[str, str]) -> bool:
    group = row.get("group", "")
    return (
        is_name(row["filename"], folders=3)
        and is_name(row["label"])
        and (not group or is_name(group))
    )
