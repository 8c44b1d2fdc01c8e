"""The runs in a folder: state, experiment, algorithm, iterations and score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tinymaml import summary
from tinymaml.errors import DamagedError, WorldError
from tinymaml.experiments.common import Config
from tinymaml.harness import checkpoints, runs
from tinymaml.report import names, tables
from tinymaml.report.layout import Rows, laid_out
from tinymaml.report.tables import Evaluation


RUNNING, FINISHED, INTERRUPTED = "running", "finished", "interrupted"
EXPORTED, DAMAGED, UNREADABLE = "exported", "damaged", "unreadable"
FILES = (runs.CONFIG, runs.METRICS, runs.CHECKPOINT, runs.THETA)  # only runs have them
HEADS = ["run", "state", "experiment", "algorithm", "iterations", "score"]


class Overview(NamedTuple):
    """What is known of a run without its data.

    config: None where it cannot be read
    iteration: of the last checkpoint, None where there is none
    evaluation: the last one, None where there is none
    fault: why the run cannot be read, "" for one that can
    """

    path: Path
    state: str
    config: Config | None
    iteration: int | None
    evaluation: Evaluation | None
    fault: str


def read(folder: Path) -> list[Overview]:
    """Return the runs in a folder and in folders there (of seeds, sweeps), by number.

    The folder can also be a run itself. Raises WorldError when there is no such folder.
    """
    if not folder.is_dir():
        raise WorldError(f"no folder {str(folder)!r}; name the folder of the runs")
    found = (folder, *folder.glob("*"), *folder.glob("*/*"))
    paths = (path for path in found if any((path / name).exists() for name in FILES))
    return [overview(path) for path in sorted(paths, key=_order)]


def _order(path: Path) -> list[tuple[str, int]]:
    """Return a key by which run-2 comes before run-10."""
    parts = (part.rpartition("-") for part in path.parts)
    return [
        (before + dash, int(end)) if end.isdecimal() else (before + dash + end, -1)
        for before, dash, end in parts
    ]


def overview(path: Path) -> Overview:
    """Return what is known of a run."""
    config = None
    try:
        config = runs.read_config(path)
        iteration = checkpoints.reached(path)
    except WorldError as error:
        state = DAMAGED if isinstance(error, DamagedError) else UNREADABLE
        return Overview(path, state, config, None, None, str(error))
    if (path / runs.THETA).exists():
        state = EXPORTED
    elif runs.in_use(path):
        state = RUNNING
    else:
        done = iteration is not None and iteration >= config.iterations
        state = FINISHED if done else INTERRUPTED
    return Overview(path, state, config, iteration, tables.saved(path, config), "")


def as_text(found: Sequence[Overview], width: int | None = None) -> str:
    """Return the table of the runs, and a line for each that cannot be read."""
    if not found:
        return "no runs"
    return laid_out([table(found), *(one.fault for one in found if one.fault)], width)


def table(found: Sequence[Overview]) -> Rows:
    """Return the table of the runs."""
    return [HEADS, *map(_cells, found)]


def _cells(one: Overview) -> list[str]:
    if one.config is None:
        return [str(one.path), one.state, "", "", "", ""]
    iterations = f"{one.iteration or 0} of {one.config.iterations}" * (not one.fault)
    kind = one.config.name, one.config.algorithm
    return [str(one.path), one.state, *kind, iterations, _score(one)]


def _score(one: Overview) -> str:
    """Return the score of the evaluation; of which iteration, if not of the last."""
    if one.config is None or one.evaluation is None:
        return ""
    score, mean, half = one.config.score, one.evaluation.mean, one.evaluation.half
    steps = names.number(len(mean) - 1, "step")
    line = f"{score.name} {score.shown(mean[-1], half[-1])} after {steps}"
    early = one.evaluation.iteration != one.iteration
    return line + f", of iteration {one.evaluation.iteration}" * early


def as_json(found: Sequence[Overview]) -> str:
    """Return the same as JSON: a list with an object for each run."""
    return summary.as_json([_as_dict(one) for one in found], indent=2)


def _as_dict(one: Overview) -> dict[str, Any]:
    config, evaluation = one.config, one.evaluation
    return {
        "run": str(one.path),
        "state": one.state,
        "fault": one.fault,
        "experiment": config and config.name,
        "algorithm": config and config.algorithm,
        "iteration": one.iteration,
        "iterations": config and config.iterations,
        "score": config and config.score.name,
        "evaluation": evaluation
        and {
            "iteration": evaluation.iteration,
            "tasks": evaluation.tasks,
            "steps": len(evaluation.mean) - 1,
            "mean": evaluation.mean,
            "half_width_95": evaluation.half,
        },
    }
