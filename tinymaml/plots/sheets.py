"""A task sheet: the images of a held-out task, and the classes that nets take them for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import NamedTuple

import numpy as np

from tinymaml.experiments import problem
from tinymaml.harness.evaluation import held_out
from tinymaml.plots import figures
from tinymaml.plots.figures import VERMILLION
from tinymaml.plots.groups import Group, Judged, adapted, title


Array = np.ndarray

COLUMNS, ROWS = 20, 5  # classes, and images of each, that fit on a sheet
WIDTH, LARGEST, LINE = 7.0, 1.0, 0.28  # inches: all images, the largest, a line of text
LETTER = 10  # points, where there is room
# A mistake is told by its sign, its weight and a frame, not by its colour alone.
RIGHT, WRONG = "\N{CHECK MARK}", "\N{BALLOT X}"
FRAME = {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": VERMILLION}
MISTAKE = {"color": VERMILLION, "weight": "bold", "bbox": FRAME}


class Answers(NamedTuple):
    """What a net takes the query images for, after some steps: (ways, queries) ints."""

    label: str
    steps: int
    classes: Array


class Sheet(NamedTuple):
    """A task by classes: images (ways, n, h, w, c) in [0, 1], and the answers of nets."""

    support: Array
    query: Array
    answers: list[Answers]


def sheet(groups: Sequence[Group], judged: Sequence[Sequence[Judged]], task: int) -> Sheet:
    """Return a held-out task, with the answers before and after adaptation.

    Adaptation is as many gradient steps as the evaluation has. Groups whose task is
    another than the first one's (other ways, shots, data) are left out; of several seeds
    the first answers.
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
            logits = problem(one.config).model.apply(thetas[step], episode.x_query)
            classes = logits[0].argmax(axis=-1)[orders[1]].reshape(ways, -1)
            answers.append(Answers(group.first, step, classes))
    support, query = (
        x[0][order].reshape(ways, -1, *x.shape[2:])
        for x, order in zip(episode[::2], orders, strict=True)
    )
    return Sheet(support, query, answers)


def pictures(
    groups: Sequence[Group], judged: Sequence[Sequence[Judged]], task: int, into: Path
) -> list[Path]:
    """Draw sheet.png into a folder."""
    return [figures.save(draw(groups, judged, task), into / "sheet.png")]


def draw(groups: Sequence[Group], judged: Sequence[Sequence[Judged]], task: int):
    """Draw that sheet: a column a class, and below each query image the nets' answers."""
    found = sheet(groups, judged, task)
    ways = len(found.support)
    names = ascii_uppercase if ways <= len(ascii_uppercase) else range(1, ways + 1)
    support, query = (images[:COLUMNS, :ROWS] for images in found[:2])
    cell = min(LARGEST, WIDTH / len(support))
    # An em a character of "20 x" leaves room for its frame.
    size = min(LETTER, 72 * cell / (2 + max(len(str(name)) for name in names)))
    labels = _labels(found.answers)
    left = 0.2 + figures.CHARACTER * max(map(len, (*labels, "support")))
    right = cell * len(support)
    below = [*_scores(found.answers), *_left_out(found, support, query, groups)]
    told = [line for x in below for line in figures.wrapped(x, left + right).split("\n")]
    lines = 3 + query.shape[1] * len(labels) + len(told)
    height = cell * (support.shape[1] + query.shape[1]) + LINE * lines
    axes = _canvas(left, right, height)
    centers = cell * (np.arange(len(support)) + 0.5)
    axes.set_title(f"{title(groups[:1])}: a held-out task", y=1 - LINE / height)
    y = LINE
    for x, name in zip(centers, names, strict=False):
        _text(axes, x, y, str(name))
    _text(axes, -0.1, y, "class", ha="right")
    y += LINE
    for row in range(support.shape[1]):
        _images(axes, support[:, row], "support", cell, y)
        y += cell
    y += LINE / 2
    for row in range(query.shape[1]):
        _images(axes, query[:, row], "query", cell, y)
        y += cell
        for label, answers in zip(labels, found.answers, strict=True):
            _text(axes, -0.1, y, label, ha="right")
            for truth, (x, answer) in enumerate(
                zip(centers, answers.classes[:, row], strict=False)
            ):
                how, sign = ({}, RIGHT) if answer == truth else (MISTAKE, WRONG)
                _text(axes, x, y, f"{names[answer]} {sign}", fontsize=size, **how)
            y += LINE
    for line in told:
        _text(axes, sum(axes.get_xlim()) / 2, y, line)
        y += LINE
    return axes.figure


def _labels(answers: Sequence[Answers]) -> list[str]:
    """What stands before each line of answers; the group's name where there are several."""
    several = len({one.label for one in answers}) > 1
    return [
        f"{one.label}: {_when(one)}" if several and one.steps == 0 else _when(one)
        for one in answers
    ]


def _scores(answers: Sequence[Answers]) -> list[str]:
    """A line a group: how many of all query images are right."""
    told: dict[str, list[str]] = {}
    for one in answers:
        truth = np.arange(len(one.classes))[:, None]
        right = np.count_nonzero(one.classes == truth)
        told.setdefault(one.label, []).append(f"{right} of {one.classes.size} {_when(one)}")
    return [f"{label}: right {', '.join(counts)}" for label, counts in told.items()]


def _left_out(
    found: Sheet, support: Array, query: Array, groups: Sequence[Group]
) -> list[str]:
    """What is not on the sheet: images of the task, and nets that have another one."""
    counts = {
        "classes": [len(x) for x in (support, found.support)],
        "support images": [len(x) * x.shape[1] for x in (support, found.support)],
        "queries": [len(x) * x.shape[1] for x in (query, found.query)],
    }
    parts = [f"{n} of {whole} {name}" for name, (n, whole) in counts.items() if n < whole]
    answering = {one.label for one in found.answers}
    others = [group.first for group in groups if group.first not in answering]
    return [
        *([f"shown: {', '.join(parts)}"] if parts else []),
        *(f"not shown, its task is another: {name}" for name in others),
    ]


def _when(answers: Answers) -> str:
    if answers.steps == 0:
        return "before"
    return f"after {answers.steps} step" + "s" * (answers.steps > 1)


def _canvas(left: float, right: float, height: float):
    """Axes in inches: x from -left to right, y downwards from 0 to height."""
    figure = figures.new_figure(left + right + 0.1, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-left, right + 0.1), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def _text(axes, x: float, y: float, text: str, ha: str = "center", **how) -> None:
    axes.text(x, y + LINE / 2, text, ha=ha, va="center", **how)


def _images(axes, images: Array, label: str, cell: float, y: float) -> None:
    """Draw images (n, h, w, c) side by side: of one channel as ink on paper."""
    _text(axes, -0.1, y + (cell - LINE) / 2, label, ha="right")
    for column, image in enumerate(images):
        left, right = cell * (column + 0.03), cell * (column + 0.97)
        axes.imshow(
            image if image.shape[-1] == 3 else image[..., 0],
            cmap="gray_r",
            vmin=0,
            vmax=1,
            extent=(left, right, y + 0.94 * cell, y),
            interpolation="nearest",
            aspect="auto",
        )
