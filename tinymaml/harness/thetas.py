"""A theta that is kept without Adam's moments: to be evaluated, or given away.

    best.npz    of a run's folder: the theta with the best score on validation tasks up to
                the checkpoint; best.previous.npz is the one before it
    theta.npz   in place of checkpoints, beside a config.json: what `export` writes

The package has folders of the second kind, named kept:NAME.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.harness import npz, runs


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


def load_best(path: Path, config: Config, iteration: int) -> Kept | None:
    """Return the best theta that a run had at an iteration, None where it had none.

    Raises WorldError when a file is damaged or does not fit the model.
    """
    files = [path / name for name in (BEST, PREVIOUS) if (path / name).exists()]
    found = [read(file, config) for file in files]
    return next((kept for kept in found if kept.iteration <= iteration), None)


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


def load(path: Path, config: Config, last: bool = False) -> Kept:
    """Return a run's best theta where validation chose one, else its last.

    last: the last in any case
    Raises WorldError when there is none, or a file is damaged.
    """
    if (path / THETA).exists():
        return read(path / THETA, config)
    state = runs.last_state(path, config)
    best = None if last else load_best(path, config, state.iteration)
    return best or Kept(state.iteration, state.theta, math.nan)


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
