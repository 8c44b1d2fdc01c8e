"""Run folders made by hand, so that a picture's numbers are known."""

import json
from pathlib import Path

import numpy as np

from tinymaml.experiments.common import Config
from tinymaml.harness import checkpoints, loop, results, runs
from tinymaml.plots import groups
from tinymaml.plots.groups import Group, Judged
from tinymaml.report import tables
from tinymaml.speed.workers import Here


# Half the interval that a written evaluation has at each step; the means stand beside it.
HALF = 0.25


def folder(
    path: Path,
    config: Config,
    records: list[dict] | None = None,
    means: list[float | None] | None = None,
    **evaluation: object,
) -> Path:
    """Write a run whose theta is the initial one; return its folder.

    records: the lines of its metrics, if any
    means: what its evaluation tells after 0, 1, ... steps; without them there is none
    evaluation: what else it tells
    """
    path.mkdir(parents=True)
    runs.write_config(path, config, {})
    checkpoints.save(path, config, loop.initial_state(config))
    if records is not None:
        lines = [json.dumps(record) + "\n" for record in records]
        (path / runs.METRICS).write_text("".join(lines))
    if means is not None:
        told = {
            "iterations": [0],
            "alpha": config.alpha,
            "tasks": 600,
            "mean": means,
            "half_width_95": [HALF] * len(means),
        }
        (path / runs.EVALUATION).write_text(json.dumps(told | evaluation))
    return path


def evaluated(path: Path) -> Path:
    """Evaluate a run as `tinymaml evaluate RUN` does; return its folder."""
    config = runs.read_config(path)
    kept, steps = checkpoints.load(path, config), config.test_steps
    tasks = config.test_tasks
    tables.keep(path, results.judge(config, kept, "test", tasks, steps, [steps], Here()))
    return path


def judged_of(found: list[Group]) -> list[list[Judged]]:
    """Return how the runs of every group do, from their evaluations."""
    return [[groups.judged(run, fallback=False) for run in group.runs] for group in found]


def lines_of(axes) -> dict[str, np.ndarray]:
    """Return the points (n, 2) of every line by its label."""
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def bands_of(axes) -> list[np.ndarray]:
    """Return x, low and high (n, 3) of every band, in the order they were drawn."""
    bands = []
    for drawn in axes.collections:
        corners = drawn.get_paths()[0].vertices
        x = np.unique(corners[:, 0])
        ends = [corners[corners[:, 0] == at, 1] for at in x]
        bands.append(
            np.array([(at, y.min(), y.max()) for at, y in zip(x, ends, strict=True)])
        )
    return bands


def legend_of(figure) -> list[str]:
    """Return the legend's title and its entries."""
    (legend,) = figure.legends
    return [legend.get_title().get_text(), *(t.get_text() for t in legend.get_texts())]


def notes_of(axes) -> list[str]:
    """Return what is written into a panel about what is not finite."""
    texts = (text.get_text() for text in axes.texts)
    return [text for text in texts if text.startswith("not finite")]
