"""A theta that is kept without Adam's moments: to be evaluated, or given away.

    best.npz    of a run's folder: the theta with the best score on validation tasks up to
                the checkpoint; best.previous.npz is the one before it
    theta.npz   in place of checkpoints, beside a config.json: what `export` writes

The package has folders of the second kind, named kept:NAME.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.harness import npz, runs
from tinymaml.harness.runs import State


Array = np.ndarray

BEST, PREVIOUS, THETA = "best.npz", "best.previous.npz", "theta.npz"
PREFIX, FOLDER = "kept:", Path(__file__).parents[1] / "kept"
LOWER_IS_BETTER = ("MSE",)


class Kept(NamedTuple):
    """A theta (P,), the iteration it is of, and the validation score that chose it.

    validation: nan where it was not chosen but is the last
    """

    iteration: int
    theta: Array
    validation: float

    @property
    def chosen(self) -> bool:
        """Whether validation tasks chose it."""
        return not math.isnan(self.validation)


# ----- The best on validation tasks -----


def better(config: Config, best: Kept | None, now: Kept) -> Kept | None:
    """Return the one of two with the better validation score, the earlier of equals.

    A score that is not finite is none.
    """
    if not math.isfinite(now.validation):
        return best
    if best is None:
        return now
    sign = -1 if config.score in LOWER_IS_BETTER else 1
    return now if sign * now.validation > sign * best.validation else best


def save_best(path: Path, config: Config, best: Kept) -> None:
    """Write a run's best theta; to be called before the checkpoint that counts it.

    The one before it is kept: when the process is killed before that checkpoint is
    written, the run goes on from an earlier one, and from the best of then.
    """
    data = _pack(config, best)
    file = path / BEST
    # A run that goes on finds again what it had found; the one before must then stay.
    if not file.exists() or file.read_bytes() != data:
        runs.write(file, data, previous=path / PREVIOUS)


def best_of(
    path: Path, config: Config, iteration: int
) -> tuple[tuple[Path, Kept] | None, list[str]]:
    """Return the best theta that a run had at an iteration, None where it had none.

    With it come its file and what is wrong: where that is anything, the theta is an
    older one, or None. The metrics say which iteration it must be of, if they go so far.
    """
    files = [path / name for name in (BEST, PREVIOUS) if (path / name).exists()]
    known, chosen = _chosen(path, config, iteration) if files else (True, None)
    if known and chosen is None:
        return None, []
    complaints: list[str] = []
    older = None
    for file, kept in npz.whole(files, lambda file: read(file, config), complaints):
        if known and kept.iteration == chosen:
            return (file, kept), []
        if kept.iteration <= iteration:  # else it is of a checkpoint that was not written
            older = older or (file, kept)
            if not known:
                break
    if known and not complaints:
        complaints.append(f"{str(files[0])!r} is not of iteration {chosen}, the best")
    return older, complaints


def _chosen(path: Path, config: Config, iteration: int) -> tuple[bool, int | None]:
    """Whether the metrics go up to an iteration, and the one whose theta was then best."""
    best, last = None, 0
    for record in runs.read_metrics(path):
        last = record["iteration"]
        score = record.get("validation")
        if last <= iteration and isinstance(score, float):
            best = better(config, best, Kept(last, np.empty(0), score))
    return last >= iteration, best and best.iteration


# ----- To go on with -----


def resumed(path: Path, config: Config) -> tuple[State | None, Kept | None]:
    """Return a run's newest state whose best theta is there too, and that theta.

    Where newer files are damaged, a line on stderr says so. The files that are used take
    the places of the damaged ones, which the next save would else keep in their stead.
    Raises WorldError when there are checkpoints, but none to go on from.
    """
    complaints: list[str] = []
    for file, state in runs.states(path, config, problem(config).size, complaints):
        best, wrong = best_of(path, config, state.iteration)
        complaints += wrong
        if not wrong:
            if complaints:
                _fall_back(complaints, file, state.iteration, allowed=True)
            os.replace(file, path / runs.CHECKPOINT)
            if best:
                os.replace(best[0], path / BEST)
            return state, best and best[1]
    if complaints:
        reasons = "; ".join(dict.fromkeys(complaints))
        raise WorldError(f"{reasons}; no checkpoint is left that has its best theta")
    return None, None


def _fall_back(
    complaints: Sequence[str], file: Path, iteration: int, allowed: bool
) -> None:
    """Say on stderr which file is used in place of a damaged one.

    Raises WorldError when that is not allowed.
    """
    reasons = "; ".join(dict.fromkeys(complaints))
    fallback = f"{str(file)!r} of iteration {iteration}"
    if not allowed:
        raise WorldError(f"{reasons}; add --fallback to use {fallback}")
    print(f"{reasons}; using {fallback}", file=sys.stderr)


# ----- To be evaluated -----


def locate(name: str) -> Path:
    """Return the folder that is named; kept:NAME is one of the package's.

    Raises UsageError when the package has none of that name.
    """
    if not name.startswith(PREFIX):
        return Path(name)
    folder = FOLDER / name.removeprefix(PREFIX)
    if folder.parent != FOLDER or not (folder / runs.CONFIG).is_file():
        having = sorted(PREFIX + path.parent.name for path in FOLDER.glob("*/config.json"))
        raise UsageError(f"no {name!r}; there are: {', '.join(having) or 'none'}")
    return folder


def load(path: Path, config: Config, last: bool = False, fallback: bool = False) -> Kept:
    """Return a run's best theta where validation chose one, else its last.

    last: the last in any case
    fallback: an older one where a newer file is damaged; a line on stderr says so
    Raises WorldError when there is none, or a newer file is damaged.
    """
    if (path / THETA).exists():
        return read(path / THETA, config)
    complaints: list[str] = []
    states = runs.states(path, config, problem(config).size, complaints)
    file, state = next(states, (None, None))
    if state is None:
        raise WorldError("; ".join(complaints) or f"no checkpoint in {str(path)!r}")
    kept = Kept(state.iteration, state.theta, math.nan)
    if not last:
        best, wrong = best_of(path, config, state.iteration)
        complaints += wrong
        file, kept = best or (file, kept)
    if complaints:
        _fall_back(complaints, file, kept.iteration, fallback)
    return kept


def export(path: Path, config: Config, kept: Kept) -> None:
    """Write a theta and its configuration into a folder, without the data's path."""
    if hasattr(config, "data"):
        config = config.with_changes({"data": ""})
    runs.write_config(path, config, {})
    runs.write(path / THETA, _pack(config, kept))


def read(file: Path, config: Config) -> Kept:
    """Return what a file of either kind holds. Raises WorldError as `npz.read` does."""
    arrays = npz.read(file, config, problem(config).size, ("theta",), ("validation",))
    validation = arrays["validation"]
    if validation.shape != () or validation.dtype != np.float64:
        raise WorldError(f"{str(file)!r} has validation {validation}")
    return Kept(int(arrays["iteration"]), arrays["theta"], float(validation))


def _pack(config: Config, kept: Kept) -> bytes:
    arrays = {"theta": kept.theta, "validation": np.float64(kept.validation)}
    return npz.pack(config, kept.iteration, arrays)
