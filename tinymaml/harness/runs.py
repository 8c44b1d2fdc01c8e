"""The run folder and its files, each whole at any time.

    config.json       experiment, options, versions
    metrics.jsonl     one line an iteration
    evaluation.json   the result on held-out tasks
    lock              held while a process works on the run
    *.npz             see checkpoints.py

A file is written beside its place, synced and moved there.
"""

import fcntl
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tinymaml import algorithms, summary
from tinymaml.algorithms import older
from tinymaml.errors import DAMAGE, UsageError, WorldError
from tinymaml.experiments import MODULES
from tinymaml.experiments.common import Config


CONFIG, METRICS, LOCK = "config.json", "metrics.jsonl", "lock"
EVALUATION = "evaluation.json"
CHECKPOINT, PREVIOUS = "checkpoint.npz", "checkpoint.previous.npz"
BEST, PREVIOUS_BEST, THETA = "best.npz", "best.previous.npz", "theta.npz"
TEMPORARY, SEED = ".tmp-", "seed-"  # names of one seed's run end with its number


def new_folder(out: str | None, name: str) -> Path:
    """Return the folder of a new run: `out`, or the next of runs/NAME-1, -2, ...

    Raises UsageError when `out` is a file, WorldError when it holds a run already.
    """
    if out == "":
        raise UsageError("--out must not be empty")
    if out is None:
        numbered = (Path("runs", f"{name}-{number}") for number in itertools.count(1))
        return next(path for path in numbered if not path.exists())
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
def locked(path: Path) -> Iterator[None]:
    """Lock the run for this process. Raises WorldError when another process holds it."""
    with open(path / LOCK, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise WorldError(f"{str(path)!r} is in use by process {holder}") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        for left_over in path.glob(f"{TEMPORARY}*"):
            left_over.unlink(missing_ok=True)
        yield


def write(path: Path, data: bytes, previous: Path | None = None) -> None:
    """Write a file, whole or not at all; the former file moves to `previous`, if given."""
    beside = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_config(path: Path, config: Config, versions: dict[str, str]) -> None:
    """Write config.json: the experiment, its options and the versions of libraries."""
    found = {"experiment": config.name, "options": config.values(), "versions": versions}
    if file_hash := algorithms.fingerprint(config.algorithm):
        found["algorithm_sha256"] = file_hash
    write(path / CONFIG, (json.dumps(found, indent=2) + "\n").encode())


def read_config(path: Path, data: str | None = None) -> Config:
    """Return the configuration of a run; data: its data file, if that has moved.

    Raises WorldError when no run can be read, UsageError when it has no data file.
    """
    try:
        found = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        kind, options = MODULES[found["experiment"]].CONFIG, found["options"]
        own = re.fullmatch(algorithms.OWN, options["algorithm"])
        if not (fault := _fault(options["algorithm"]) if own else ""):
            config = kind.restored(older.translated(options))
    except FileNotFoundError as error:
        raise WorldError(f"no run in {str(path)!r}") from error
    except (*DAMAGE, AttributeError) as error:
        raise WorldError(f"{str(path / CONFIG)!r} is damaged: {error}") from error
    if fault:
        raise WorldError(f"{str(path)!r} needs the file of its algorithm: {fault}")
    if data is not None and "data" not in config.options:
        raise UsageError(f"a run of {config.name} has no data file")
    return config if data is None else config.with_changes({"data": data})


def _fault(algorithm: str) -> str:
    """Return the reason why a user's own algorithm cannot be used, "" if none."""
    try:
        algorithms.find(algorithm)
    except (UsageError, WorldError) as error:
        return str(error)
    return ""


def changed_algorithm(path: Path, config: Config) -> bool:
    """Return whether a user's algorithm file has changed since the run began."""
    found = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    return found.get("algorithm_sha256", "") != algorithms.fingerprint(config.algorithm)


def changed_versions(path: Path, versions: Mapping[str, str]) -> dict[str, str]:
    """Return those of these versions that the run began with, where they differ."""
    found = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    before = found.get("versions", {})
    return {n: before[n] for n, now in versions.items() if before.get(n, now) != now}


class Metrics(AbstractContextManager):
    """Appends one JSON line an iteration. It first drops lines after the checkpoint."""

    def __init__(self, path: Path, iteration: int) -> None:
        self.path = path / METRICS
        kept = [r for r in read_metrics(path) if r["iteration"] <= iteration]
        lines = [summary.as_json(record) + "\n" for record in kept]
        write(self.path, "".join(lines).encode())
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115

    def add(self, record: dict[str, Any]) -> None:
        """Write one record, with null for a number that is not finite."""
        self.file.write(summary.as_json(record) + "\n")

    def sync(self) -> None:
        """Flush all records to the disk. Call this before their checkpoint is saved."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def __exit__(self, *_: object) -> None:
        self.file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the records of a run in order, without a torn last line.

    A number that was not finite is None, or nan in the files of older programs.
    """
    if not (path / METRICS).exists():
        return []
    records = []
    for line in (path / METRICS).read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
            0.0 * record["iteration"] + record["loss"] + (record.get("validation") or 0)
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            break
        records.append(record)
    return records
