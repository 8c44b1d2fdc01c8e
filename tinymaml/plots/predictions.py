"""A sheet of the images of `tinymaml predict`, with the classes that a net predicts."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tinymaml.maml import Array
from tinymaml.plots import figures
from tinymaml.plots.sheets import LINE, MISTAKE, RIGHT, WRONG
from tinymaml.report.predictions import (
    NONE,
    TIMES,
    Prediction,
    Predictions,
    accuracy,
    printable,
)


CLASSES, EXAMPLES, ROWS, COLUMNS = 20, 10, 8, 5  # what fits on a sheet
SMALL, LARGE, CELL, NAME = 0.6, 1.0, 1.75, 1.4  # inches: images, a query's text, a name
LETTERS, SIZE = 13, 7  # the longest name of a class, in letters; points
TEXT = 0.36  # inches: the two lines below a query


def chosen(count: int) -> list[int]:
    """Return the numbers of the queries that a sheet shows: all, or some evenly spaced."""
    shown = min(count, ROWS * COLUMNS)
    return np.rint(np.linspace(0, count - 1, shown)).astype(int).tolist()


def draw(
    found: Predictions, support: dict[str, list[Array]], queries: Sequence[Array]
) -> Any:
    """Draw the support images of each class, and the queries with their answers.

    support: class name -> images uint8 (h, w[, 3]); queries: those of `chosen`
    """
    shown = chosen(len(found.each))
    names = [readable(name, i) for i, name in enumerate(found.names, 1)]
    rows, classes = -(-len(shown) // COLUMNS), min(CLASSES, len(names))
    width = CELL * COLUMNS + 0.2
    title = f"{readable(found.run)}: {found.head}"
    texts = [title, *filter(None, [accuracy(found)]), *_left_out(found, support)]
    lines = [x for text in texts for x in figures.wrapped(text, width).split("\n")]
    height = LINE * (len(lines) + 3) + SMALL * classes + (LARGE + TEXT) * rows
    figure = figures.new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-0.1, width - 0.1), ylim=(height, 0))
    axes.set_axis_off()
    write = partial(axes.text, va="center", fontsize=SIZE + 1)
    for i, line in enumerate(lines):
        write(0, LINE * (i + 0.7), line)
    y = LINE * (len(lines) + 1)
    for name, images in [*zip(names, support.values(), strict=True)][:CLASSES]:
        write(0, y + SMALL / 2, name)
        for column, image in enumerate(images[:EXAMPLES]):
            _image(axes, image, NAME + SMALL * column, y, SMALL)
        y += SMALL
    y += LINE
    for place, (i, image) in enumerate(zip(shown, queries, strict=True)):
        row, column = divmod(place, COLUMNS)
        left, top = CELL * column, y + (LARGE + TEXT) * row
        _image(axes, image, left, top, LARGE)
        for below, (text, style) in enumerate(_answers(found.each[i], names)):
            at = top + LARGE + LINE * (0.2 + 0.5 * below)
            write(left, at, text, **{"fontsize": SIZE} | style)
    return figure


def _answers(one: Prediction, names: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return a line of text and its style, before and after adaptation."""
    found = []
    for time, answer, p in zip(TIMES, one.classes, one.probabilities, strict=True):
        text, sign = NONE, ""
        style: dict[str, Any] = {}
        if answer is not None:
            text = f"{names[answer]} {100 * p[answer]:.0f} %"
        if one.label is not None:
            sign = RIGHT if answer == one.label else WRONG
            style = {} if answer == one.label or time == "before" else MISTAKE
        found.append((f"{time}: {text} {sign}".rstrip(), style))
    return found


def _left_out(found: Predictions, support: dict[str, list[Array]]) -> list[str]:
    """Return a line about what does not fit on the sheet."""
    counts = {
        "classes": (min(CLASSES, len(support)), len(support)),
        "support images": (
            sum(min(EXAMPLES, len(some)) for some in support.values()),
            sum(map(len, support.values())),
        ),
        "queries": (len(chosen(len(found.each))), len(found.each)),
    }
    parts = [f"{n} of {whole} {name}" for name, (n, whole) in counts.items() if n < whole]
    return [f"shown: {', '.join(parts)}"] if parts else []


def readable(text: str, number: int = 0) -> str:
    """Return a text that the picture's font can show, not too long; else "class NUMBER"."""
    from matplotlib.font_manager import findfont, get_font

    text = printable(text)
    known = get_font(findfont("DejaVu Sans")).get_charmap()
    if number and not all(ord(letter) in known for letter in text):
        return f"class {number}"
    if number and len(text) > LETTERS:
        text = f"{text[: LETTERS - 6]}...{text[-3:]}"
    text = "".join(x if ord(x) in known else "?" for x in text)
    return text.replace("$", r"\$")  # no formula


def _image(axes: Any, image: Array, x: float, y: float, side: float) -> None:
    sides = x, x + 0.94 * side, y + 0.94 * side, y
    how = {"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "nearest"}
    axes.imshow(image, extent=sides, aspect="auto", **how)
