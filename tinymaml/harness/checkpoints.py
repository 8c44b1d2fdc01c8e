"""The .npz files of a run: whole, ours and fit for the model, or refused.

    checkpoint.npz  the state after an iteration; checkpoint.previous.npz is the one before
    best.npz        what scored best on validation tasks up to the checkpoint;
                    best.previous.npz is the one before
    theta.npz       instead of checkpoints, beside a config.json: what `export` writes

Theta stands for all that is meta-learned (M,). None of the files has a pickle. The package
has folders with a theta.npz, named kept:NAME.
"""

from __future__ import annotations

import io
import math
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from tinymaml.errors import DAMAGE, UsageError, WorldError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.harness import runs
from tinymaml.harness.runs import BEST, CHECKPOINT, PREVIOUS, PREVIOUS_BEST, THETA
from tinymaml.optim import Moments, State


Array = np.ndarray
T = TypeVar("T")

FORMAT = 1
# Bytes that an .npz of ours has besides its vectors, and more.
OVERHEAD = 2**16
PREFIX, FOLDER = "kept:", Path(__file__).parents[1] / "kept"


class Kept(NamedTuple):
    """A theta (M,), its iteration, and the validation score that chose it.

    validation: nan when it was not chosen but is the last
    """

    iteration: int
    theta: Array
    validation: float

    @property
    def chosen(self) -> bool:
        """Whether validation tasks chose it."""
        return not math.isnan(self.validation)


def size(config: Config) -> int:
    """Return M, the number of meta-learned numbers of a run."""
    return config.method.size(problem(config))


# ----- Writing -----


def save(path: Path, config: Config, state: State) -> None:
    """Write the checkpoint of a state; the one before it is kept.

    Raises WorldError, and writes nothing, when reading would refuse it.
    """
    m, v = state.moments
    vectors = {"theta": state.theta, "m": m, "v": v}
    for name, vector in vectors.items():
        _check_vector(path / CHECKPOINT, name, vector, config.dtype, size(config))
    data = _packed(config, state.iteration, vectors)
    runs.write(path / CHECKPOINT, data, previous=path / PREVIOUS)


def save_best(path: Path, config: Config, best: Kept) -> None:
    """Write a run's best theta; to be called before the checkpoint that counts it.

    The one before it is kept: if the process is killed before that checkpoint is written,
    the run continues from an earlier one, with the best of that time.
    """
    data, file = _packed_theta(config, best), path / BEST
    # A resumed run finds again what it had found; the one before must then stay.
    if not file.exists() or file.read_bytes() != data:
        runs.write(file, data, previous=path / PREVIOUS_BEST)


def export(path: Path, config: Config, kept: Kept) -> None:
    """Write a theta and its configuration into a folder, without the data's path."""
    if "data" in config.options:
        config = config.with_changes({"data": ""})
    runs.write_config(path, config, {})
    runs.write(path / THETA, _packed_theta(config, kept))


def _packed_theta(config: Config, kept: Kept) -> bytes:
    arrays = {"theta": kept.theta, "validation": np.float64(kept.validation)}
    return _packed(config, kept.iteration, arrays)


def _packed(config: Config, iteration: int, arrays: Mapping[str, Array]) -> bytes:
    """Return the bytes of a file without pickle; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        format=np.int64(FORMAT),
        experiment=np.str_(config.name),
        iteration=np.int64(iteration),
        **arrays,
    )
    return buffer.getvalue()


# ----- The best on validation tasks -----


def better(config: Config, best: Kept | None, now: Kept) -> Kept | None:
    """Return the one of two with the better validation score, the earlier of equals.

    A score that is not finite is none.
    """
    if not math.isfinite(now.validation):
        return best
    if best is None or config.score.better(now.validation, best.validation):
        return now
    return best


def best_of(
    path: Path, config: Config, iteration: int
) -> tuple[tuple[Path, Kept] | None, list[str]]:
    """Return the best theta that a run had at an iteration, None when it had none.

    With it come its file and a list of faults. Where there are faults, the theta is an
    older one, or None. The metrics say which iteration it must be of, if they go so far.
    """
    files = [path / name for name in (BEST, PREVIOUS_BEST) if (path / name).exists()]
    known, chosen = _chosen(path, config, iteration) if files else (True, None)
    if known and chosen is None:
        return None, []
    faults: list[str] = []
    older = None
    for file, kept in whole(files, lambda file: read_theta(file, config), faults):
        if known and kept.iteration == chosen:
            return (file, kept), []
        if kept.iteration <= iteration:  # else it is of a checkpoint that was not written
            older = older or (file, kept)
            if not known:
                break
    if known and not faults:
        faults.append(f"{str(files[0])!r} is not of iteration {chosen}, the best")
    return older, faults


def _chosen(path: Path, config: Config, iteration: int) -> tuple[bool, int | None]:
    """Whether the metrics go up to an iteration, and the one whose theta was then best."""
    best, last = None, 0
    for record in runs.read_metrics(path):
        last = record["iteration"]
        score = record.get("validation")
        if last <= iteration and isinstance(score, float):
            best = better(config, best, Kept(last, np.empty(0), score))
    return last >= iteration, best and best.iteration


# ----- Reading -----


def resumed(path: Path, config: Config) -> tuple[State | None, Kept | None]:
    """Return a run's newest state whose best theta is there too, and that theta.

    Where newer files are damaged, a line on stderr says so. The files that are used take
    the places of the damaged ones, which the next save would keep otherwise.
    Raises WorldError when there are checkpoints, but none to continue from.
    """
    faults: list[str] = []
    for file, state in states(path, config, faults):
        best, wrong = best_of(path, config, state.iteration)
        faults += wrong
        if not wrong:
            if faults:
                _fall_back(faults, file, state.iteration, allowed=True)
            os.replace(file, path / CHECKPOINT)
            if best:
                os.replace(best[0], path / BEST)
            return state, best and best[1]
    if faults:
        reasons = "; ".join(dict.fromkeys(faults))
        raise WorldError(f"{reasons}; no checkpoint is left that has its best theta")
    return None, None


def load(path: Path, config: Config, last: bool = False, fallback: bool = False) -> Kept:
    """Return a run's best theta when validation chose one, else its last.

    last: the last in any case
    fallback: an older one when a newer file is damaged; a line on stderr says so
    Raises WorldError when there is none, or a newer file is damaged.
    """
    if (path / THETA).exists():
        return read_theta(path / THETA, config)
    faults: list[str] = []
    file, state = next(states(path, config, faults), (None, None))
    if state is None:
        raise WorldError("; ".join(faults) or f"no checkpoint in {str(path)!r}")
    kept = Kept(state.iteration, state.theta, math.nan)
    if not last:
        best, wrong = best_of(path, config, state.iteration)
        faults += wrong
        file, kept = best or (file, kept)
    if faults:
        _fall_back(faults, file, kept.iteration, fallback)
    return kept


def _fall_back(faults: Sequence[str], file: Path, iteration: int, allowed: bool) -> None:
    """Say on stderr which file is used in place of a damaged one.

    Raises WorldError when that is not allowed.
    """
    reasons = "; ".join(dict.fromkeys(faults))
    fallback = f"{str(file)!r} of iteration {iteration}"
    if not allowed:
        raise WorldError(f"{reasons}; add --fallback to use {fallback}")
    print(f"{reasons}; using {fallback}", file=sys.stderr)


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


def states(path: Path, config: Config, faults: list[str]) -> Iterator[tuple[Path, State]]:
    """Yield the whole checkpoints of a run, newest first, as `whole` does.

    A run that was killed while it saved may have only the previous one: its newest.
    """
    files = path / CHECKPOINT, path / PREVIOUS
    return whole(files, lambda file: read_state(file, config), faults)


def whole(
    files: Sequence[Path], read: Callable[[Path], T], faults: list[str]
) -> Iterator[tuple[Path, T]]:
    """Yield the files that can be read, with their content; a missing file is skipped.

    faults: gets a line for each file that is damaged or does not fit the run
    """
    for file in files:
        if file.exists():
            try:
                found = read(file)
            except WorldError as error:
                faults.append(str(error))
            else:
                yield file, found


def read_state(file: Path, config: Config) -> State:
    """Return the state in a checkpoint. Raises WorldError as `read` does."""
    arrays = read(file, config, size(config), ("theta", "m", "v"))
    moments = Moments(arrays["m"], arrays["v"])
    return State(int(arrays["iteration"]), arrays["theta"], moments)


def read_theta(file: Path, config: Config) -> Kept:
    """Return the content of best.npz or theta.npz. Raises WorldError as `read` does."""
    arrays = read(file, config, size(config), ("theta",), ("validation",))
    validation = arrays["validation"]
    if validation.shape != () or validation.dtype != np.float64:
        raise WorldError(f"{str(file)!r} has validation {validation}")
    return Kept(int(arrays["iteration"]), arrays["theta"], float(validation))


def read(
    file: Path,
    config: Config,
    count: int,
    vectors: Sequence[str],
    others: Sequence[str] = (),
) -> dict[str, Array]:
    """Return the arrays of a file by their names.

    vectors: names of the arrays (count,) in config's precision
    others: names of further arrays, which the caller checks
    Raises WorldError when it is damaged, of another format or experiment, or does not fit
    the model.
    """
    try:
        largest = OVERHEAD + len(vectors) * count * np.dtype(config.dtype).itemsize
        if file.stat().st_size > largest:
            raise ValueError("it is too large for this model")
        data = file.read_bytes()
        if not data.startswith(b"PK"):
            raise ValueError("not a tinymaml checkpoint")
        arrays = _unpacked(data)
    except DAMAGE as error:
        raise WorldError(f"{str(file)!r} is damaged: {_line(error)}") from error
    expected = {"format", "experiment", "iteration", *vectors, *others}
    if arrays.keys() != expected:
        names = ", ".join(sorted(arrays.keys() ^ expected))
        raise WorldError(f"{str(file)!r} lacks or has too many arrays: {names}")
    if str(arrays["format"]) != str(FORMAT):
        raise WorldError(f"{str(file)!r} has format {arrays['format']}, not {FORMAT}")
    if str(arrays["experiment"]) != config.name:
        raise WorldError(f"{str(file)!r} is of {arrays['experiment']}")
    for name in vectors:
        _check_vector(file, name, arrays[name], config.dtype, count)
    iteration = arrays["iteration"]
    if iteration.shape != () or iteration.dtype != np.int64 or iteration < 0:
        raise WorldError(f"{str(file)!r} has iteration {iteration}")
    return arrays


def _unpacked(data: bytes) -> dict[str, Array]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = [member.file_size for member in archive.infolist()]
    if sum(sizes) > len(data):  # np.savez does not compress
        raise ValueError("it claims to be larger than it is")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _check_vector(file: Path, name: str, vector: Array, dtype: str, count: int) -> None:
    if vector.shape != (count,) or vector.dtype != dtype:
        found = f"{vector.dtype} {vector.shape}"
        raise WorldError(f"{str(file)!r}: {name} is {found}, not {dtype} ({count},)")
    if not np.isfinite(vector).all():
        raise WorldError(f"{str(file)!r}: {name} is not finite")


def _line(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    # NumPy's advice to load a pickle "unsafely" is not ours.
    return "an array of objects" if "pickle" in text.lower() else text
