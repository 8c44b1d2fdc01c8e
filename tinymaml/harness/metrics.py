"""The records of a training: metrics.jsonl in its folder, one line an iteration.

A line ends with `check`: the first digits of the hash of the run's options, and a CRC-32 of
these and the line. Older programs wrote none.
"""

import json
import os
import zlib
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tinymaml import summary
from tinymaml.errors import DAMAGE, WorldError, named
from tinymaml.harness import runs
from tinymaml.harness.runs import METRICS


CHECK, DIGITS = "check", 16  # in a line; hexadecimal digits of a hash
DAMAGED, FOREIGN = "is damaged", "is of another run"


class Metrics(AbstractContextManager):
    """Appends one JSON line an iteration. It first drops lines after the checkpoint.

    run: the hash of `runs.begun_as`, of which every new line has the first digits
    Raises WorldError, and changes nothing, when a line is of another run.
    """

    def __init__(self, path: Path, iteration: int, run: str = "") -> None:
        self.path, self.run = path / METRICS, run[:DIGITS]
        lines = _lines(path)
        for number, (_, _, fault) in enumerate(lines, 1):
            if fault == FOREIGN:
                line = f"line {number} of {str(self.path)!r} {FOREIGN}"
                raise WorldError(f"{line}; move the file away to go on without it")
        at = [record.get("iteration", 0) for _, record, _ in lines]
        later = (number for number, k in enumerate(at) if k > iteration)
        end = at.index(iteration) + 1 if iteration in at else next(later, len(at))
        kept = lines[:end] if iteration else []  # damaged lines too, which people can mend
        runs.write(self.path, b"".join(line + b"\n" for line, _, _ in kept))
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115

    def add(self, record: dict[str, Any]) -> dict[str, Any]:
        """Write a record, null for a number that is not finite; return what was written."""
        record = summary.finite(record)
        record = {**record, CHECK: _check(record, self.run)}
        with named(self.path):
            self.file.write(json.dumps(record) + "\n")
        return record

    def sync(self) -> None:
        """Flush all records to the disk. Call this before their checkpoint is saved.

        Raises WorldError when the file was deleted or replaced: its records are lost.
        """
        if not runs.is_at(self.path, self.file):
            lost = f"{str(self.path)!r} was deleted or replaced while it was written"
            raise WorldError(f"{lost}; train --resume {self.path.parent} goes on")
        with named(self.path):
            self.file.flush()
            os.fsync(self.file.fileno())

    def __exit__(self, *_: object) -> None:
        with named(self.path):
            self.file.close()


def read_metrics(
    path: Path, faults: list[str] | None = None, needs: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return the whole records of a run in order; a torn last line is no fault.

    faults: gains a line on what is left out, and one on lines that are missing
    needs: names that each record must have, besides "iteration" and "loss"
    """
    lines, faults = _lines(path, needs), [] if faults is None else faults
    file = repr(str(path / METRICS))
    bad = [(number, fault) for number, (*_, fault) in enumerate(lines, 1) if fault]
    if bad:
        number, fault = bad[0]
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        faults.append(f"line {number} of {file} {fault}{more}: left out")
    for number, (_, record, fault) in enumerate(lines, 1):
        if not fault and record["iteration"] != number:
            where = f"line {number} is of iteration {record['iteration']}"
            faults.append(f"{file} lacks lines, or has too many: {where}")
            break
    return [record for _, record, fault in lines if not fault]


Line = tuple[bytes, dict[str, Any], str]  # as it stands, its record, its fault


def _lines(path: Path, needs: Collection[str] = ()) -> list[Line]:
    """Return the lines of the metrics, without a last one that a kill cut short.

    A fault is "", DAMAGED or FOREIGN.
    """
    if not (path / METRICS).exists():
        return []
    run = runs.begun(path)[:DIGITS]
    data = (path / METRICS).read_bytes()
    names = {"iteration", "loss", *needs}
    found = [(line, *_parsed(line, run, names)) for line in data.split(b"\n")]
    last, _, fault = found[-1]
    return found[:-1] if fault and b"}" not in last else found


def _parsed(line: bytes, run: str, names: set[str]) -> tuple[dict[str, Any], str]:
    """Return the record of a line, without its check, and "", DAMAGED or FOREIGN.

    A record has numbers under these names, and others or null under more names.
    """
    try:
        record = json.loads(line)
        values = {name: x for name, x in record.items() if name != CHECK}
        given = {name: x for name, x in values.items() if x is not None}
        sound = names <= given.keys() and {*map(type, given.values())} <= {int, float}
        sound = sound and type(values["iteration"]) is int and values["iteration"] > 0
        sum(map(float, given.values()))  # an integer may be no float: OverflowError
        begun = run
        if CHECK in record:
            begun = record[CHECK].partition("-")[0]
            sound = sound and record[CHECK] == _check(values, begun)
    except (*DAMAGE, AttributeError):
        return {}, DAMAGED
    if not sound:
        return {}, DAMAGED
    return (values, "") if begun in ("", run) or not run else ({}, FOREIGN)


def _check(values: Mapping[str, Any], run: str) -> str:
    return f"{run}-{zlib.crc32(f'{run} {json.dumps(values)}'.encode()):08x}"
