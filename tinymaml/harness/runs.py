"""The run folder and its files, each whole at any time.

    config.json       experiment, options, versions of simulators; two hashes
    metrics.jsonl     one line an iteration, see metrics.py
    evaluation.json   the result on held-out tasks
    sessions.json     time and environment, see sessions.py
    lock              held while a process works on the run
    *.npz             see checkpoints.py

A file is written beside its place, synced and moved there.

config.json ends with `options_sha256`, of the fixed options with which the run began. It,
evaluation.json and sessions.json end with `sha256`, of all before it. Older programs wrote
neither.
"""

import fcntl
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import IO, Any

import numpy as np

from tinymaml import algorithms, experiments, loading, summary
from tinymaml.algorithms import older
from tinymaml.errors import DAMAGE, DamagedError, UsageError, WorldError, named
from tinymaml.experiments.common import Config, fixed_values
from tinymaml.options import flag, shown
from tinymaml.speed import machine


CONFIG, METRICS, LOCK = "config.json", "metrics.jsonl", "lock"
EVALUATION = "evaluation.json"
CHECKPOINT, PREVIOUS = "checkpoint.npz", "checkpoint.previous.npz"
BEST, PREVIOUS_BEST, THETA = "best.npz", "best.previous.npz", "theta.npz"
TEMPORARY, SEED = ".tmp-", "seed-"  # names of one seed's run end with its number
HASH, BEGUN = "sha256", "options_sha256"  # of a JSON file's content; in config.json
OPTIONS = "options"  # in a checkpoint: the fixed options, as JSON


def new_folder(out: str | None, name: str) -> Path:
    """Return the folder of a new run: `out`, or the next of runs/NAME-1, -2, ...

    Raises UsageError when `out` is a file, WorldError when it holds a run already.
    """
    if out == "":
        raise UsageError("--out must not be empty")
    if out is None:
        name = Path(name).stem  # of a user's file
        numbered = (Path("runs", f"{name}-{number}") for number in itertools.count(1))
        return next(path for path in numbered if not os.path.lexists(path))
    path = Path(out)
    if path.exists() and not path.is_dir():
        raise UsageError(f"--out {out!r} is a file")
    if (path / CONFIG).exists():
        raise WorldError(f"{out!r} already holds a run; resume it with --resume {out}")
    return path


def members(path: Path) -> list[Path]:
    """Return the runs in a folder of several seeds, by number, or the run itself."""
    found = [config.parent for config in path.glob(f"{SEED}*/{CONFIG}")]
    if (path / CONFIG).exists() or not found:
        return [path]
    return sorted(found, key=lambda run: (len(run.name), run.name))


@contextmanager
def locked(path: Path) -> Iterator[Callable[[], None]]:
    """Lock the run for this process. Raises WorldError when another process holds it.

    It yields a function that raises WorldError when the lock file was deleted: another
    process may then have locked the run, so that this one must not write.
    """
    place = path / LOCK
    file = _lock_file(place)

    def check() -> None:
        if not is_at(place, file):
            lost = f"{str(place)!r} was deleted: another process may have taken over"
            raise WorldError(f"{lost}; once none is running: train --resume {path}")

    with file:
        try:
            with named(place):
                file.truncate(0)
                file.write(str(os.getpid()).encode())
            for left_over in path.glob(f"{TEMPORARY}*"):
                left_over.unlink(missing_ok=True)
            yield check
        finally:
            if is_at(place, file):
                place.unlink(missing_ok=True)


def _lock_file(place: Path) -> FileIO:
    """Return the lock file, open and locked."""
    while True:
        # Unbuffered: on a full disk close() would fail again, without the file's name.
        file = open(place, "a+b", buffering=0)  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            number = re.fullmatch(rb"\d{1,20}", file.read(64).strip())
            file.close()
            holder = number[0].decode() if number else "unknown"
            held = f"{str(place.parent)!r} is in use by process {holder}"
            raise WorldError(held) from error
        if is_at(place, file):
            return file
        file.close()  # its last holder deleted it after it was opened here


def is_at(place: Path, file: IO[Any]) -> bool:
    """Return whether an open file still stands at its place."""
    try:
        return os.path.samestat(os.stat(place), os.fstat(file.fileno()))
    except (FileNotFoundError, NotADirectoryError):
        return False


def in_use(path: Path) -> bool:
    """Return whether a process works on the run."""
    try:
        with open(path / LOCK, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def write(path: Path, data: bytes, previous: Path | None = None) -> None:
    """Write a file, whole or not at all; the former file moves to `previous`, if given."""
    # Two commands without the lock, as `evaluate`, may write the same file at once.
    beside = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        with named(path), open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(beside, path)
    except BaseException as error:
        with suppress(OSError):  # the folder may be gone
            beside.unlink()
        if isinstance(error, OSError) and error.filename == str(beside):
            error.filename = str(path)  # the name that a user knows
        raise
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        with named(path.parent):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sealed(found: Mapping[str, Any]) -> bytes:
    """Return JSON that ends with the hash of its content, to be read by `unsealed`."""
    values = summary.finite(found)
    return (json.dumps({**values, HASH: _sha256(values)}, indent=2) + "\n").encode()


def unsealed(file: Path) -> dict[str, Any]:
    """Return the content of a JSON file without its hash, if it has one.

    Raises FileNotFoundError, or one of DAMAGE: when the hash is not that of the content.
    """
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    written = found.pop(HASH, None)
    if written not in (None, _sha256(found)):
        raise ValueError(f"its {HASH} is not that of its content")
    return found


def _sha256(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


# ----- config.json -----


def write_config(path: Path, config: Config, versions: dict[str, str]) -> None:
    """Write config.json: the experiment, its options and versions that must not change."""
    found = {"experiment": config.name, "options": config.values(), "versions": versions}
    found |= {f"{what}_sha256": digest for what, digest in _hashes(config).items()}
    found[BEGUN] = begun_as(path, config)
    write(path / CONFIG, sealed(found))


def begin(path: Path, config: Config) -> None:
    """Write config.json for a training; a run keeps the versions with which it began."""
    now = machine.installed(config.libraries)
    write_config(path, config, now | library_versions(path, config))


def read_config(path: Path) -> Config:
    """Return the configuration of a run. Raises WorldError where none can be read."""
    try:
        found = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        name, options = found["experiment"], found["options"]
        fault = _fault(name, options["algorithm"])
        config = None
        if not fault:
            config = experiments.find(name).kind.restored(older.translated(options))
        written = found.pop(HASH, None)
        if (BEGUN in found or written is not None) and written != _sha256(found):
            other = _otherwise(path, config) if config else ""
            raise ValueError(f"its {HASH} is not that of its content{other}")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise WorldError(f"no run in {str(path)!r}") from error
    except (*DAMAGE, AttributeError) as error:
        raise DamagedError(f"{str(path / CONFIG)!r} is damaged: {error}") from error
    if config is None:
        raise WorldError(f"{str(path)!r} needs the file of its {fault}")
    return config


def read_configs(paths: Sequence[Path], data: str | None = None) -> list[Config]:
    """Return the configurations of runs; data: their data file, if that has moved.

    Raises WorldError as `read_config` does, UsageError when data is given and none has any.
    """
    found = [read_config(path) for path in paths]
    if data is None:
        return found
    if not any("data" in config.options for config in found):
        raise UsageError(f"--data: a run of {found[0].name} has no data file")
    given = {"data": data}
    return [one.with_changes(given) if "data" in one.options else one for one in found]


def _fault(experiment: str, algorithm: str) -> str:
    """Return which of a user's own files cannot be used, and why; "" if none."""
    own: list[tuple[str, Callable[[str], object], str]] = []
    if experiment.endswith(experiments.OWN):
        own.append(("experiment", experiments.find, experiment))
    if re.fullmatch(algorithms.OWN, algorithm):
        own.append(("algorithm", algorithms.find, algorithm))
    for what, find, name in own:
        try:
            find(name)
        except (UsageError, WorldError) as error:
            return f"{what}: {error}"
    return ""


def _hashes(config: Config) -> dict[str, str]:
    """Return the sha256 of the user's own files of a run, by what they define."""
    files = {
        "experiment": experiments.of(config).file,
        "algorithm": algorithms.file_of(config.algorithm),
    }
    return {what: loading.fingerprint(file) for what, file in files.items() if file}


def _otherwise(path: Path, config: Config) -> str:
    """Return which options of a damaged config.json the checkpoint has otherwise."""
    with suppress(*DAMAGE, AttributeError):
        with np.load(path / CHECKPOINT, allow_pickle=False) as file:
            differing = unlike(json.loads(file[OPTIONS].item()), config)
        return f"; {CHECKPOINT} has {'; '.join(differing)}" if differing else ""
    return ""


def _read(path: Path) -> dict[str, Any]:
    """Return config.json as it stands, {} where there is none that can be read."""
    try:
        found = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def begun(path: Path) -> str:
    """Return the hash of the fixed options in config.json, "" where there is none."""
    return str(_read(path).get(BEGUN) or "")


def begun_as(path: Path, config: Config) -> str:
    """Return the hash of the fixed options with which a run began.

    It is written once: a later program may have more options.
    """
    return begun(path) or _sha256(identity(config))


def identity(config: Config) -> dict[str, Any]:
    """Return the experiment and the options that stay as a run was begun."""
    return {"experiment": config.name, **fixed_values(config)}


def unlike(found: Mapping[str, Any], config: Config) -> list[str]:
    """Return the options of a file that are not those of a run: "--seed 1, not 0".

    found: the file's options by name; an older program may not have had them all
    """
    before, now = older.translated(dict(found)), fixed_values(config)
    pairs = {name: (before[name], x) for name, x in now.items() if name in before}
    return [
        f"{flag(name)} {shown(_tuple(theirs))}, not {shown(ours)}"
        for name, (theirs, ours) in pairs.items()
        if _tuple(theirs) != ours
    ]


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # JSON has lists only


def changes(path: Path, config: Config) -> list[str]:
    """Return a line for all that is not as it was when the run began.

    That is a user's own file, and a library that decides the bits of a run.
    """
    lines, now = changed_files(path, config), machine.installed(config.libraries)
    for name, version in changed_versions(path, now).items():
        begun = f"the run was begun with {name} {version}, this is {now[name]}"
        lines.append(f"{begun}: the simulations differ")
    return lines


def changed_files(path: Path, config: Config) -> list[str]:
    """Return a line for each of a user's own files that has changed since a run began."""
    names = {"experiment": config.name, "algorithm": f"--algorithm {config.algorithm}"}
    before = _read(path)
    return [
        f"the file of {names[what]} has changed since the run was begun"
        for what, digest in _hashes(config).items()
        if before.get(f"{what}_sha256", "") != digest
    ]


def library_versions(path: Path, config: Config) -> dict[str, str]:
    """Return the versions, with which a run began, of libraries that decide its bits."""
    before = _read(path).get("versions", {})
    return {name: before[name] for name in config.libraries if name in before}


def changed_versions(path: Path, versions: Mapping[str, str]) -> dict[str, str]:
    """Return those of these versions that the run began with, where they differ."""
    before = _read(path).get("versions", {})
    return {n: before[n] for n, now in versions.items() if before.get(n, now) != now}
