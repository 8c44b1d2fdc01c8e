"""Classes that a net predicts for images, before and after adaptation, as text and data."""

import csv
import io
from typing import Any, NamedTuple

import numpy as np

from tinymaml import summary
from tinymaml.losses import ACCURACY
from tinymaml.maml import Array
from tinymaml.report.layout import Rows, laid_out
from tinymaml.report.names import number


TIMES = ("before", "after")  # the rows of `Prediction.probabilities`
NONE = "?"  # in place of a class, for a net whose output is not finite


class Prediction(NamedTuple):
    """The answers about one image.

    label: the number of its class, None where it is not known
    probabilities: (2, ways), before and after adaptation; nan where they are not finite
    """

    file: str
    label: int | None
    probabilities: Array

    @property
    def classes(self) -> list[int | None]:
        """The number of the most probable class, before and after; None for nan."""
        return [
            int(p.argmax()) if np.isfinite(p).all() else None for p in self.probabilities
        ]


class Predictions(NamedTuple):
    """The answers about all images.

    sizes: class name -> number of its support images, in the order of the net's outputs
    head: how the net takes this number of classes
    """

    run: str
    steps: int
    sizes: dict[str, int]
    head: str
    each: list[Prediction]

    @property
    def names(self) -> list[str]:
        """The names of the classes."""
        return [*self.sizes]

    def right(self) -> Array:
        """Return which answers are right, (2, n) of queries with a label; nan for none."""
        found = [
            [np.nan if answer is None else answer == one.label for answer in one.classes]
            for one in self.each
            if one.label is not None
        ]
        return np.array(found, float).reshape(-1, 2).T

    def accuracy(self) -> dict[str, tuple[float, float]]:
        """Return mean and half the 95 % interval by time; {} without labels.

        The interval is over the queries. It is nan where all are right, or all wrong: such
        a sample does not show how much it varies.
        """
        right = self.right()
        if not right.size:
            return {}
        means, halves = summary.interval(right)
        halves = np.where(halves > 0, halves, np.nan)
        pairs = zip(means.tolist(), halves.tolist(), strict=True)
        return dict(zip(TIMES, pairs, strict=True))


def as_text(found: Predictions, width: int | None = None) -> str:
    """Return a title, the head, a table of the queries, and the accuracy."""
    few, most = min(found.sizes.values()), max(found.sizes.values())
    size = (
        number(most, "support image") if few == most else f"{few} to {most} support images"
    )
    title = (
        f"{printable(found.run)}: {number(len(found.each), 'image')}, {len(found.sizes)}"
        f" classes of {size} each, {number(found.steps, 'step')}"
    )
    blocks: list[str | Rows] = [title, found.head, table(found)]
    blocks += filter(None, [accuracy(found)])
    return laid_out(blocks, width)


def accuracy(found: Predictions) -> str:
    """Return a line with the accuracy before and after, "" without labels."""
    shown = [
        f"{time} {ACCURACY.shown(mean, *[half] * bool(np.isfinite(half)))}"
        for time, (mean, half) in found.accuracy().items()
    ]
    if not shown:
        return ""
    right, n = np.nansum(found.right()[1]), found.right().shape[1]
    return f"accuracy: {', '.join(shown)} ({right:.0f} of {n})"


def table(found: Predictions) -> Rows:
    """Return a row for each query: file, class if any is known, and the answers."""
    labelled = any(one.label is not None for one in found.each)
    head = ["query", *["class"] * labelled, *(x for t in TIMES for x in (t, "probability"))]
    rows = [[*head, ""]]
    for one in found.each:
        cells = [printable(one.file)]
        if labelled:
            cells.append("" if one.label is None else printable(found.names[one.label]))
        for answer, p in zip(one.classes, one.probabilities, strict=True):
            if answer is None:
                cells += [NONE, summary.NOT_FINITE]
            else:
                cells += [printable(found.names[answer]), f"{100 * p[answer]:.1f} %"]
        wrong = one.label is not None and one.classes[1] != one.label
        rows.append([*cells, "wrong" * wrong])
    return rows


def as_csv(found: Predictions) -> str:
    """Return a line for each query, after one of names."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow(["file", "class", *(x for t in TIMES for x in (t, f"{t}_probability"))])
    for one in found.each:
        cells: list[Any] = [
            printable(one.file),
            "" if one.label is None else found.names[one.label],
        ]
        for answer, p in zip(one.classes, one.probabilities, strict=True):
            cells += ["", ""] if answer is None else [found.names[answer], p[answer]]
        write.writerow(cells)
    return out.getvalue()


def as_json(found: Predictions) -> str:
    """Return JSON with the probability of every class."""
    names = found.names
    queries = [
        {"file": one.file, "class": None if one.label is None else names[one.label]}
        | {
            time: {
                "class": None if answer is None else names[answer],
                "probabilities": dict(zip(names, p.tolist(), strict=True)),
            }
            for time, answer, p in zip(TIMES, one.classes, one.probabilities, strict=True)
        }
        for one in found.each
    ]
    accuracy = {
        time: {"mean": mean, "half_width_95": half}
        for time, (mean, half) in found.accuracy().items()
    }
    content = {
        "run": found.run,
        "steps": found.steps,
        "support": found.sizes,
        "head": found.head,
        "accuracy": accuracy or None,
        "queries": queries,
    }
    return summary.as_json(content, indent=2)


def printable(text: str) -> str:
    """Return a file's name, escaped where a terminal cannot show it."""
    return text if text.isprintable() else ascii(text)[1:-1]
