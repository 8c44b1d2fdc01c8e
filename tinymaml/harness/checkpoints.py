"""The .npz files of a run, without pickles. Files that are damaged or unfit are refused.

    checkpoint.npz, checkpoint.previous.npz   the last saved state, and the one before
    best.npz, best.previous.npz               the best thetas on validation tasks by then
    theta.npz                                 in their place: a theta from `export`

Theta stands for everything meta-learned (M,). kept:NAME is a folder of the package.
A file has the fixed options of its run, as JSON, unless an older program wrote it.
"""

import io
import json
import math
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinymaml.errors import DAMAGE, DamagedError, UsageError, WorldError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config, fixed_values
from tinymaml.harness import runs
from tinymaml.harness.metrics import read_metrics
from tinymaml.harness.runs import (
    BEST,
    CHECKPOINT,
    OPTIONS,
    PREVIOUS,
    PREVIOUS_BEST,
    THETA,
)
from tinymaml.maml import Array
from tinymaml.optim import Moments, State


FORMAT = 1
OVERHEAD = 2**16  # bytes; more than a file of ours has besides its vectors
PREFIX, FOLDER = "kept:", Path(__file__).parents[1] / "kept"


class Kept(NamedTuple):
    """A theta (M,), its iteration, and the validation score that chose it, nan if none."""

    iteration: int
    theta: Array
    validation: float

    @property
    def chosen(self) -> bool:
        """Whether validation tasks chose it."""
        return not math.isnan(self.validation)


def size(config: Config) -> int:
    """Return M, the size of everything meta-learned."""
    return config.method.size(problem(config))


def save(path: Path, config: Config, state: State) -> None:
    """Write the checkpoint of a state; the one before it is kept.

    Raises WorldError, and writes nothing, when reading would refuse it.
    """
    vectors, count = {"theta": state.theta, **state.moments._asdict()}, size(config)
    for name, vector in vectors.items():
        _check_vector(path / CHECKPOINT, name, vector, config.dtype, count)
    data = _packed(config, state.iteration, vectors)
    runs.write(path / CHECKPOINT, data, previous=path / PREVIOUS)


def save_best(path: Path, config: Config, best: Kept) -> None:
    """Write a run's best theta, to be followed by the checkpoint of its iteration.

    The one before is kept for a resume from an earlier checkpoint, after a kill in between.
    """
    # A resumed run may find the same theta again; the one before must then stay.
    if not _holds(path / BEST, config, best):
        data = _packed_theta(config, best)
        runs.write(path / BEST, data, previous=path / PREVIOUS_BEST)


def _holds(file: Path, config: Config, kept: Kept) -> bool:
    """Return whether a file holds this theta, in whatever form it was written."""
    for _, found in whole([file], read_theta, config, []):
        same = (found.iteration, found.validation) == (kept.iteration, kept.validation)
        return same and found.theta.tobytes() == kept.theta.tobytes()
    return False


def export(
    path: Path, config: Config, kept: Kept, versions: dict[str, str] | None = None
) -> None:
    """Write a theta and its configuration into a folder, without the data's path.

    versions: those of the run's libraries
    """
    if "data" in config.options:
        config = config.with_changes({"data": ""})
    runs.write(path / THETA, _packed_theta(config, kept))
    runs.write_config(path, config, versions or {})


def _packed_theta(config: Config, kept: Kept) -> bytes:
    arrays = {"theta": kept.theta, "validation": np.float64(kept.validation)}
    return _packed(config, kept.iteration, arrays)


def _packed(config: Config, iteration: int, arrays: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file without pickle; the same arrays give the same bytes."""
    options = json.dumps(fixed_values(config), separators=(",", ":")).encode()
    head: dict[str, Any] = {
        "format": np.int64(FORMAT),
        "experiment": np.str_(config.name),
        OPTIONS: np.bytes_(options),
        "iteration": np.int64(iteration),
    }
    buffer = io.BytesIO()
    np.savez(buffer, **head, **arrays)
    return buffer.getvalue()


def better(config: Config, best: Kept | None, now: Kept) -> Kept | None:
    """Return the one of two with the better finite validation score; if equal, `best`."""
    if not math.isfinite(now.validation):
        return best
    won = best is None or config.score.better(now.validation, best.validation)
    return now if won else best


def best_of(
    path: Path, config: Config, iteration: int
) -> tuple[tuple[Path, Kept] | None, list[str]]:
    """Return the best theta that a run had at an iteration, and its file; None if none.

    With a list of faults the theta is an older one, or None. The metrics say of which
    iteration it must be, if they reach that far.
    """
    files = [path / name for name in (BEST, PREVIOUS_BEST) if (path / name).exists()]
    known, chosen = True, None
    if files or config.validate_every:
        known, chosen = _chosen(path, config, iteration)
    if known and chosen is None:
        return None, []
    faults: list[str] = []
    older = None
    for file, kept in whole(files, read_theta, config, faults):
        early = kept.iteration <= iteration  # a later one has no checkpoint
        if kept.iteration == chosen if known else early:
            return (file, kept), [] if known else faults
        older = older or ((file, kept) if early else None)
    if known and not faults:
        file = files[0] if files else path / BEST
        what = "is not of" if files else "is missing, of"
        faults.append(f"{str(file)!r} {what} iteration {chosen}, the best")
    return older, faults


def _chosen(path: Path, config: Config, iteration: int) -> tuple[bool, int | None]:
    """Return whether the metrics have all iterations, and the best up to this one."""
    best, last = None, 0
    for record in read_metrics(path):
        if record["iteration"] != last + 1:
            return False, None
        last = record["iteration"]
        score = record.get("validation")
        if last <= iteration and isinstance(score, float):
            best = better(config, best, Kept(last, np.empty(0), score))
    return last >= iteration, best and best.iteration


def resumed(path: Path, config: Config) -> tuple[State | None, Kept | None]:
    """Return a run's newest state whose best theta exists too, and that theta.

    The files in use replace newer damaged ones, which the next save would keep; a line on
    stderr reports it. Raises WorldError when no checkpoint is left to resume from.
    """
    faults: list[str] = []
    for file, state in states(path, config, faults):
        best, wrong = best_of(path, config, state.iteration)
        faults += wrong
        if not wrong:
            _fall_back(faults, file, state.iteration, allowed=True)
            os.replace(file, path / CHECKPOINT)
            if best:
                os.replace(best[0], path / BEST)
            return state, best and best[1]
    if faults:
        end = "no checkpoint is left that has its best theta"
        raise WorldError(f"{_joined(faults)}; {end}")
    return None, None


def check_unchanged(path: Path, config: Config) -> None:
    """Raise WorldError when a user's own file has changed so that no checkpoint fits."""
    faults: list[str] = []
    if (
        runs.changed_files(path, config)
        and not any(states(path, config, faults))
        and faults
    ):
        raise WorldError(_joined(faults))


def load(path: Path, config: Config, last: bool = False, fallback: bool = False) -> Kept:
    """Return a run's best theta when validation chose one, else its last.

    A line on stderr reports a run whose validations chose none, as none was finite.
    last: return the last in any case
    fallback: where a newer file is damaged, return an older one, with a line on stderr
    Raises WorldError when there is none, or a newer file is damaged.
    """
    if (path / THETA).exists():
        return read_theta(path / THETA, config)
    faults: list[str] = []
    newest = next(states(path, config, faults), None)
    if newest is None:
        raise WorldError("; ".join(faults) or f"no checkpoint in {str(path)!r}")
    file, state = newest
    kept = Kept(state.iteration, state.theta, math.nan)
    if not last:
        best, wrong = best_of(path, config, state.iteration)
        faults += wrong
        if not (best or wrong) and 0 < config.validate_every <= state.iteration:
            none = f"validation chose no theta of {str(path)!r}"
            print(f"{none}: using that of iteration {state.iteration}", file=sys.stderr)
        file, kept = best or (file, kept)
    _fall_back(faults, file, kept.iteration, fallback)
    return kept


def _fall_back(faults: list[str], file: Path, iteration: int, allowed: bool) -> None:
    """Report on stderr the file used for a faulty one. Raises WorldError if not allowed."""
    if faults:
        fallback = f"{str(file)!r} of iteration {iteration}"
        if not allowed:
            raise WorldError(f"{_joined(faults)}; add --fallback to use {fallback}")
        print(f"{_joined(faults)}; using {fallback}", file=sys.stderr)


def _joined(faults: list[str]) -> str:
    return "; ".join(dict.fromkeys(faults))


def locate(name: str) -> Path:
    """Return the folder of a name. Raises UsageError for an unknown kept:NAME."""
    if not name.startswith(PREFIX):
        return Path(name)
    folder = FOLDER / name.removeprefix(PREFIX)
    if folder.parent != FOLDER or not (folder / runs.CONFIG).is_file():
        kept = (PREFIX + path.parent.name for path in FOLDER.glob("*/config.json"))
        found = sorted(kept, key=lambda name: (len(name), name))  # 5 ways before 20
        raise UsageError(f"no {name!r}; there are: {', '.join(found) or 'none'}")
    return folder


def reached(path: Path) -> int | None:
    """Return the iteration of a run's last checkpoint or exported theta; None without one.

    It needs neither the run's data nor its model. Raises DamagedError.
    """
    files = (path / name for name in (THETA, CHECKPOINT, PREVIOUS))
    file = next(filter(Path.exists, files), None)
    if file is None:
        return None
    try:
        return int(_arrays(file, math.inf)["iteration"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{str(file)!r} is damaged: it has no iteration") from error


def states(path: Path, config: Config, faults: list[str]) -> Iterator[tuple[Path, State]]:
    """Yield the whole checkpoints of a run, newest first; a killed run may have one."""
    return whole((path / CHECKPOINT, path / PREVIOUS), read_state, config, faults)


def whole(
    files: Sequence[Path], read: Callable, config: Config, faults: list[str]
) -> Iterator[tuple[Path, Any]]:
    """Yield the files that exist and can be read, with their content.

    faults: gains a line for each file that is damaged or does not fit the run
    """
    for file in filter(Path.exists, files):
        try:
            found = read(file, config)
        except WorldError as error:
            faults.append(str(error))
        else:
            yield file, found


def read_state(file: Path, config: Config) -> State:
    """Return the state in a checkpoint. Raises WorldError as `_read` does."""
    arrays = _read(file, config, ("theta", "m", "v"))
    moments = Moments(arrays["m"], arrays["v"])
    return State(int(arrays["iteration"]), arrays["theta"], moments)


def read_theta(file: Path, config: Config) -> Kept:
    """Return the content of best.npz or theta.npz. Raises WorldError as `_read` does."""
    arrays = _read(file, config, ("theta",), ("validation",))
    validation = arrays["validation"]  # nan where it chose none
    wrong = validation.shape != () or validation.dtype != np.float64
    if wrong or np.isinf(validation):
        raise WorldError(f"{str(file)!r} has validation {validation}")
    return Kept(int(arrays["iteration"]), arrays["theta"], float(validation))


def _read(
    file: Path, config: Config, vectors: Sequence[str], others: Sequence[str] = ()
) -> dict[str, Array]:
    """Return the arrays of a file by name: vectors (M,), and others that a caller checks.

    Raises WorldError when the file is damaged, of another format or experiment, or does
    not fit the model. The message says so when a user's own file has changed.
    """
    try:
        return _checked(file, config, vectors, others)
    except WorldError as error:
        if not (lines := runs.changed_files(file.parent, config)):
            raise
        raise type(error)("; ".join([str(error), *lines])) from error


def _checked(
    file: Path, config: Config, vectors: Sequence[str], others: Sequence[str]
) -> dict[str, Array]:
    count = size(config)
    largest = OVERHEAD + len(vectors) * count * np.dtype(config.dtype).itemsize
    arrays = _arrays(file, largest)
    expected = {"format", "experiment", "iteration", *vectors, *others}
    if arrays.keys() - {OPTIONS} != expected:
        names = ", ".join(sorted((arrays.keys() - {OPTIONS}) ^ expected))
        raise WorldError(f"{str(file)!r} lacks or has too many arrays: {names}")
    if str(arrays["format"]) != str(FORMAT):
        raise WorldError(f"{str(file)!r} has format {arrays['format']}, not {FORMAT}")
    if str(arrays["experiment"]) != config.name:
        raise WorldError(f"{str(file)!r} is of {arrays['experiment']}")
    _check_options(file, config, arrays.get(OPTIONS))
    for name in vectors:
        _check_vector(file, name, arrays[name], config.dtype, count)
    iteration = arrays["iteration"]
    if iteration.shape != () or iteration.dtype != np.int64 or iteration < 0:
        raise WorldError(f"{str(file)!r} has iteration {iteration}")
    return arrays


def _arrays(file: Path, largest: float) -> dict[str, Array]:
    """Return the arrays of a file of at most `largest` bytes. Raises DamagedError."""
    try:
        if file.stat().st_size > largest:
            raise ValueError("it is too large for this model")
        return _unpacked(file.read_bytes())
    except DAMAGE as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        # NumPy's advice to load a pickle "unsafely" is not ours.
        text = "an array of objects" if "pickle" in text.lower() else text
        raise DamagedError(f"{str(file)!r} is damaged: {text}") from error


def _unpacked(data: bytes) -> dict[str, Array]:
    if not data.startswith(b"PK"):
        raise ValueError("not a tinymaml checkpoint")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = [member.file_size for member in archive.infolist()]
    if sum(sizes) > len(data):  # np.savez does not compress
        raise ValueError("it claims to be larger than it is")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    for name, array in found.items():
        if not isinstance(array, np.ndarray):  # NumPy returns the bytes of other members
            raise ValueError(f"{name} is no array")
    return found


def _check_options(file: Path, config: Config, options: Array | None) -> None:
    """Raise WorldError when a file's options are those of another run, naming them."""
    if options is None:
        return
    try:
        differing = runs.unlike(json.loads(options.item()), config)
    except (*DAMAGE, AttributeError) as error:
        raise WorldError(f"{str(file)!r} is damaged: its options are no JSON") from error
    if differing:
        raise WorldError(f"{str(file)!r} is of another run: {'; '.join(differing)}")


def _check_vector(file: Path, name: str, vector: Array, dtype: str, count: int) -> None:
    if vector.shape != (count,) or vector.dtype != dtype:
        found = f"{vector.dtype} {vector.shape}"
        raise WorldError(f"{str(file)!r}: {name} is {found}, not {dtype} ({count},)")
    if not np.isfinite(vector).all():
        raise WorldError(f"{str(file)!r}: {name} is not finite")
