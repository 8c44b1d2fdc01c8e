"""A task sheet: the images of a held-out task, and the classes that nets predict."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

import numpy as np

from tinymaml.experiments import problem
from tinymaml.harness.evaluation import held_out
from tinymaml.maml import Array
from tinymaml.plots import figures
from tinymaml.plots.figures import VERMILLION
from tinymaml.plots.groups import Group, Judged, adapted, title
from tinymaml.summary import lacking


COLUMNS, ROWS = 20, 5  # classes, and images of each, that fit on a sheet
WIDTH, LARGEST, LINE = 7.0, 1.0, 0.28  # inches: all images, the largest, a line of text
LETTER = 10  # points, where there is room
# A mistake has a sign, a weight and a frame of its own, not only a colour.
RIGHT, WRONG = "\N{CHECK MARK}", "\N{BALLOT X}"
NONE = "?"  # in place of a class, for a net whose output is not finite
FRAME = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": VERMILLION}
MISTAKE = {"color": VERMILLION, "weight": "bold", "bbox": FRAME}


class Answers(NamedTuple):
    """The classes (ways, queries) that a net predicts for the query images after steps.

    A class is nan where the net's output, or all its theta, is not finite.
    """

    label: str
    steps: int
    classes: Array


class Sheet(NamedTuple):
    """A task by classes: images (ways, n, h, w, c) in [0, 1], and the answers of nets."""

    support: Array
    query: Array
    answers: list[Answers]


def pictures(
    groups: Sequence[Group], judged: Sequence[Sequence[Judged]], task: int, into: Path
) -> list[Path]:
    """Draw sheet.png into a folder."""
    return [figures.save(draw(groups, judged, task), into / "sheet.png")]


def sheet(groups: Sequence[Group], judged: Sequence[Sequence[Judged]], task: int) -> Sheet:
    """Return a held-out task, with the answers before and after adaptation.

    Adaptation takes as many gradient steps as the evaluation. Groups whose task differs
    from the first one's (other ways, shots, data) are left out; of several seeds the first
    answers.
    """
    tasks, ways = range(task, task + 1), groups[0].config.ways
    episode = held_out(groups[0].config, "test", tasks)
    orders = [np.argsort(y[0], kind="stable") for y in (episode.y_support, episode.y_query)]
    answers = []
    for group, (one, *_) in zip(groups, judged, strict=True):
        own = held_out(one.config, "test", tasks)
        if not all(map(np.array_equal, own, episode)):
            continue
        last = one.config.test_steps
        thetas = adapted(one, episode, 1, last)
        for step in sorted({0, last}):
            with np.errstate(over="ignore", invalid="ignore"):  # steps may diverge
                logits = problem(one.config).model.apply(thetas[step], episode.x_query)
            known = np.isfinite(logits[0].max(axis=-1)) & np.isfinite(thetas[step]).all()
            classes = np.where(known, logits[0].argmax(axis=-1), np.nan)
            answers.append(Answers(group.first, step, classes[orders[1]].reshape(ways, -1)))
    support, query = (
        x[0][order].reshape(ways, -1, *x.shape[2:])
        for x, order in zip(episode[::2], orders, strict=True)
    )
    return Sheet(support, query, answers)


def draw(groups: Sequence[Group], judged: Sequence[Sequence[Judged]], task: int):
    """Draw the sheet: one column per class, the nets' answers below each query image."""
    found = sheet(groups, judged, task)
    columns, ink = min(COLUMNS, len(found.support)), getattr(groups[0].config, "ink", True)
    cell = min(LARGEST, WIDTH / columns)
    rows = _rows(found, cell)
    left = 0.2 + figures.CHARACTER * max(len(label) for _, label, _ in rows)
    right = cell * columns
    below = [*_scores(found.answers), *_left_out(found, groups)]
    lines = [line for x in below for line in figures.wrapped(x, left + right).split("\n")]
    height = sum(height for height, *_ in rows) + LINE * (len(lines) + 1.5)
    figure = figures.new_figure(left + right + 0.1, height)
    figure.set_layout_engine("none")
    # In inches: x from -left to right, y downwards from 0 to height.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-left, right + 0.1), ylim=(height, 0))
    axes.set_axis_off()
    axes.set_title(f"{title(groups[:1])}: a held-out task", y=1 - LINE / height)
    write = partial(axes.text, va="center")
    y = LINE
    for height, label, cells in rows:
        if label:
            write(-0.1, y + height / 2, label, ha="right")
        for column, content in enumerate(cells):
            if isinstance(content, tuple):
                text, how = content
                write(cell * (column + 0.5), y + height / 2, text, ha="center", **how)
            else:
                _image(axes, content, cell, column, y, ink)
        y += height
    for i, line in enumerate(lines):
        write(sum(axes.get_xlim()) / 2, y + LINE * (i + 0.5), line, ha="center")
    return figure


def _rows(found: Sheet, cell: float) -> list[tuple[float, str, Sequence]]:
    """Return a height, a label and the cells of each row: images, or texts with a style."""
    ways = len(found.support)
    names = ascii_uppercase if ways <= 26 else [str(n) for n in range(1, ways + 1)]
    # An em a character of "20 x" leaves room for its frame.
    size = min(LETTER, 72 * cell / (2 + max(map(len, names))))

    def mark(truth: int, answer: float) -> tuple[str, dict[str, Any]]:
        how, sign = ({}, RIGHT) if answer == truth else (MISTAKE, WRONG)
        name = names[int(answer)] if np.isfinite(answer) else NONE
        return f"{name} {sign}", {"fontsize": size, **how}

    support, query = (images[:COLUMNS, :ROWS].swapaxes(0, 1) for images in found[:2])
    several = len({one.label for one in found.answers}) > 1
    rows: list[tuple[float, str, Sequence[Any]]] = []
    rows.append((LINE, "class", [(name, {}) for name in names[: min(ways, COLUMNS)]]))
    rows += [(cell, "support", images) for images in support]
    rows.append((LINE / 2, "", []))
    for i, images in enumerate(query):
        rows.append((cell, "query", images))
        for label, steps, classes in found.answers:
            marks = [mark(*pair) for pair in enumerate(classes[:COLUMNS, i])]
            net = f"{label}: " * (several and steps == 0)
            rows.append((LINE, net + figures.after(steps), marks))
    return rows


def _scores(answers: Sequence[Answers]) -> list[str]:
    """Return a line a group: how many of all query images are right."""
    counts: dict[str, list[str]] = {}
    for one in answers:
        right = np.count_nonzero(one.classes == np.arange(len(one.classes))[:, None])
        count = lacking(one.classes) or f"{right} of {one.classes.size}"
        counts.setdefault(one.label, []).append(f"{count} {figures.after(one.steps)}")
    return [f"{label}: right {', '.join(some)}" for label, some in counts.items()]


def _left_out(found: Sheet, groups: Sequence[Group]) -> list[str]:
    """Return the images that were left out, and the nets of other tasks."""
    (ways, shots), queries = found.support.shape[:2], found.query.shape[1]
    columns = min(ways, COLUMNS)
    counts = {
        "classes": (columns, ways),
        "support images": (columns * min(shots, ROWS), ways * shots),
        "queries": (columns * min(queries, ROWS), ways * queries),
    }
    parts = [f"{n} of {whole} {name}" for name, (n, whole) in counts.items() if n < whole]
    answering = {one.label for one in found.answers}
    others = [group.first for group in groups if group.first not in answering]
    return [
        *([f"shown: {', '.join(parts)}"] if parts else []),
        *(f"not shown, its task is another: {name}" for name in others),
    ]


def _image(
    axes, image: Array, cell: float, column: int, y: float, ink: bool = True
) -> None:
    """Draw an image (h, w, c) in its column. ink: a 1 of a single channel is black"""
    sides = cell * (column + 0.03), cell * (column + 0.97), y + 0.94 * cell, y
    how = {
        "cmap": "gray_r" if ink else "gray",
        "vmin": 0,
        "vmax": 1,
        "interpolation": "nearest",
    }
    image = image if image.shape[-1] == 3 else image[..., 0]
    axes.imshow(image, extent=sides, aspect="auto", **how)
