"""The run folder: configuration, metrics and checkpoints, none of them ever half written.

    config.json             experiment, options, versions
    metrics.jsonl           one line an iteration
    evaluation.json         how held-out tasks went at the end
    checkpoint.npz          the state after an iteration; checkpoint.previous.npz before it
    lock                    held while a process works on the run

A checkpoint is an .npz without pickle. Everything is written beside its place, synced
and moved there.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from tinymaml.cli.options import shown, types_of
from tinymaml.errors import DAMAGE, UsageError, WorldError
from tinymaml.experiments import MODULES, problem
from tinymaml.experiments.common import FREE_TO_CHANGE, Config
from tinymaml.harness import npz
from tinymaml.optim import Moments


Array = np.ndarray

CONFIG, METRICS, LOCK = "config.json", "metrics.jsonl", "lock"
EVALUATION = "evaluation.json"
CHECKPOINT, PREVIOUS = "checkpoint.npz", "checkpoint.previous.npz"
TEMPORARY = ".tmp-"
SEED = "seed-"  # and its number: a run among those of several seeds
VECTORS = ("theta", "m", "v")


class State(NamedTuple):
    """Where a run is: updates done, meta-parameters (P,), Adam's moments (P,) each."""

    iteration: int
    theta: Array
    moments: Moments


# ----- The folder -----


def new_folder(out: str | None, name: str) -> Path:
    """Return the folder of a new run: `out`, or the next of runs/NAME-1, -2, ...

    Raises UsageError when `out` is a file, WorldError when it holds a run already.
    """
    if out == "":
        raise UsageError("--out must not be empty")
    if out is None:
        taken = 1
        while Path("runs", f"{name}-{taken}").exists():
            taken += 1
        return Path("runs", f"{name}-{taken}")
    path = Path(out)
    if path.exists() and not path.is_dir():
        raise UsageError(f"--out {out!r} is a file")
    if (path / CONFIG).exists():
        raise WorldError(f"{out!r} already holds a run; go on with --resume {out}")
    return path


def seed_folder(path: Path, seed: int) -> Path:
    """Return where the run of one of several seeds lies in their common folder."""
    return path / f"{SEED}{seed}"


def members(path: Path) -> list[Path]:
    """Return the runs in a folder of several seeds, in their order, or the run itself."""
    found = [config.parent for config in path.glob(f"{SEED}*/{CONFIG}")]
    if (path / CONFIG).exists() or not found:
        return [path]
    return sorted(found, key=lambda run: (len(run.name), run.name))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the run for this process; let go at its end, however it ends.

    Raises WorldError when another process holds it.
    """
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
    """Write a file so that it is whole or as before, whenever the process is killed.

    previous: where the file as it was before goes, if anywhere
    """
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
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ----- Configuration -----


def write_config(path: Path, config: Config, versions: dict[str, str]) -> None:
    """Write config.json: the experiment, its options and the versions of libraries."""
    told = {
        "experiment": config.name,
        "options": dataclasses.asdict(config),
        "versions": versions,
    }
    write(path / CONFIG, (json.dumps(told, indent=2) + "\n").encode())


def read_config(path: Path, data: str | None = None) -> Config:
    """Return the configuration of a run.

    data: the data file, when it has moved
    Raises WorldError when there is none, UsageError when it has no data file.
    """
    config = _read_config(path)
    if data is None:
        return config
    if not hasattr(config, "data"):
        raise UsageError(f"a run of {config.name} has no data file")
    return config.with_changes({"data": data})


def _read_config(path: Path) -> Config:
    try:
        told = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        kind = MODULES[told["experiment"]].CONFIG
        types = types_of(kind)
        options = {
            name: types[name].convert(value, None, None)
            for name, value in told["options"].items()
        }
        return kind(**options)
    except FileNotFoundError as error:
        raise WorldError(f"no run in {str(path)!r}") from error
    except (*DAMAGE, AttributeError, click.BadParameter) as error:
        raise WorldError(f"{str(path / CONFIG)!r} is damaged: {error}") from error


def check_resumable(saved: Config, wanted: Config) -> None:
    """Raise UsageError when an option that the next iteration depends on was changed."""
    for field in dataclasses.fields(saved):
        before, now = getattr(saved, field.name), getattr(wanted, field.name)
        if before != now and field.name not in FREE_TO_CHANGE:
            flag = "--" + field.name.replace("_", "-")
            raise UsageError(f"{flag} {shown(now)}: the run was begun with {shown(before)}")


# ----- Checkpoints -----


def save(path: Path, config: Config, state: State) -> None:
    """Write the checkpoint of a state; the one before it is kept.

    Raises WorldError, and writes nothing, when `load` would refuse it.
    """
    vectors = dict(zip(VECTORS, (state.theta, *state.moments), strict=True))
    size = problem(config).size
    for name, vector in vectors.items():
        npz.check_vector(path / CHECKPOINT, name, vector, config.dtype, size)
    data = npz.pack(config, state.iteration, vectors)
    write(path / CHECKPOINT, data, previous=path / PREVIOUS)


def load(path: Path, config: Config, count: int) -> State | None:
    """Return the newest whole checkpoint of a run, None when it has none yet.

    count: the number of parameters that the model has
    Raises WorldError when there are checkpoints but none of them is whole.
    """
    found = [path / name for name in (CHECKPOINT, PREVIOUS) if (path / name).exists()]
    complaints = []
    for file in found:
        try:
            return read_checkpoint(file, config, count)
        except WorldError as error:
            complaints.append(str(error))
    if complaints:
        raise WorldError("; ".join(complaints))
    return None


def last_state(path: Path, config: Config) -> State:
    """Return what `load` does; raise WorldError when there is no checkpoint yet."""
    state = load(path, config, problem(config).size)
    if state is None:
        raise WorldError(f"no checkpoint in {str(path)!r}")
    return state


def read_checkpoint(file: Path, config: Config, count: int) -> State:
    """Return the state in one checkpoint file. Raises WorldError as `npz.read` does."""
    arrays = npz.read(file, config, count, VECTORS)
    moments = Moments(arrays["m"], arrays["v"])
    return State(int(arrays["iteration"]), arrays["theta"], moments)


# ----- Metrics -----


class Metrics:
    """Appends one JSON line an iteration; forgets the lines after the checkpoint."""

    def __init__(self, path: Path, iteration: int) -> None:
        self.path = path / METRICS
        kept = [
            json.dumps(record) + "\n"
            for record in read_metrics(path)
            if record["iteration"] <= iteration
        ]
        write(self.path, "".join(kept).encode())
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115

    def add(self, record: dict[str, Any]) -> None:
        """Write one record."""
        self.file.write(json.dumps(record) + "\n")

    def sync(self) -> None:
        """Have all records on the disk: called before a checkpoint that counts them."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the records of a run in order; a torn last line is left out."""
    if not (path / METRICS).exists():
        return []
    records = []
    for line in (path / METRICS).read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
            record["iteration"] + record["loss"]
        except (ValueError, TypeError, KeyError, RecursionError):
            break
        records.append(record)
    return records
