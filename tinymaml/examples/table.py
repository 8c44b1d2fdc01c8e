"""Regress the tasks of a table: a CSV file whose first column names the task.

    task,x1,x2,y
    oven-3,0.1,20,4.7

`tinymaml train table.py --data table.csv --inputs 2` trains it. A task needs as many lines
as --shots and --queries together. Tasks, not lines, are held out.
"""

import csv
from functools import cache
from typing import ClassVar

import numpy as np

from tinymaml import losses, models
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments.common import FewShot, configuration
from tinymaml.fewshot import Episode, Problem, as_task, each
from tinymaml.losses import Score
from tinymaml.options import COUNT, DATA, NET, PLACE, TASK, WIDTHS, option, redefault


@configuration
class Table(FewShot):
    """Regress the tasks of a CSV file from a few of their lines."""

    score: ClassVar[Score] = losses.MSE
    data: str = option("table.csv", "CSV file: task, inputs, targets", role=PLACE)
    inputs: int = option(1, "number of input columns", role=DATA, **COUNT)
    shots: int = option(5, "lines of a task to adapt on", role=TASK, **COUNT)
    queries: int = option(5, "lines of a task to predict", **COUNT)
    hidden: tuple[int, ...] = option((40, 40), "widths of the net", role=NET, **WIDTHS)
    inner_steps: int = redefault(2)
    alpha: float = redefault(0.05)


CONFIG = Table
HELD_OUT = {"test": 0.2, "val": 0.2}  # shares of the tasks; the others are for training


@cache
def read(data, inputs):
    """Return {split: [lines (n, columns) of a task]}, scaled by the training tasks."""
    tasks: dict[str, list[list[float]]] = {}
    try:
        with open(data, newline="", encoding="utf-8") as file:
            for number, (task, *cells) in enumerate(csv.reader(file), 1):
                if number > 1:  # below the names of the columns
                    tasks.setdefault(task, []).append([float(cell) for cell in cells])
        found = [np.array(lines) for _, lines in sorted(tasks.items())]
        if not found or {x.ndim for x in found} != {2} or found[0].shape[1] <= inputs:
            raise ValueError(f"it has no task with {inputs} inputs and a target")
    except (OSError, ValueError) as error:
        raise WorldError(f"--data {data!r} cannot be used: {error}") from error
    order, parts, start = np.random.default_rng(0).permutation(len(found)), {}, 0
    for split, share in HELD_OUT.items():
        end = start + round(share * len(found))
        parts[split], start = [found[i] for i in order[start:end]], end
    parts["train"] = [found[i] for i in order[start:]]
    lines = np.concatenate(parts["train"])
    mean, scale = lines.mean(axis=0), lines.std(axis=0) + 1e-12
    return {split: [(x - mean) / scale for x in some] for split, some in parts.items()}


def setup(config):
    """Return the problem; the file is read for the first task."""
    targets = next(iter(read(config.data, config.inputs)["train"])).shape[1] - config.inputs
    widths = config.inputs, *config.hidden, targets
    model = models.mlp(widths, models.ACTIVATIONS[config.activation], draw=None)
    model = config.method.build(model, config)

    def draw(split, rng):
        tasks = read(config.data, config.inputs)[split]
        enough = [x for x in tasks if len(x) >= config.shots + config.queries]
        if not enough:
            raise UsageError(f"no {split} task has --shots and --queries lines together")
        lines = rng.permutation(enough[rng.integers(len(enough))]).astype(config.dtype)
        x, y = lines[:, : config.inputs], lines[:, config.inputs :]
        end = config.shots + config.queries
        return Episode(
            x[: config.shots],
            y[: config.shots],
            x[config.shots : end],
            y[config.shots : end],
        )

    return Problem(
        model=model,
        alpha=config.method.step_sizes(model, config),
        options=config,
        sample=each(draw),
        task=lambda e: as_task(e, model.apply, losses.mse),
        score=lambda theta, e: losses.squared_error(
            model.apply(theta, e.x_query), e.y_query
        ),
    )
