"""metrics.jsonl: damaged lines, lines of another run, and where a resume goes on."""

import os
import random
from pathlib import Path

import numpy as np
import pytest

from tinymaml.errors import WorldError
from tinymaml.experiments.sine import Sine
from tinymaml.harness import runs
from tinymaml.harness.metrics import Metrics, read_metrics


CONFIG = Sine(hidden=(2,))
VERSIONS = {"tinymaml": "0"}


@pytest.mark.parametrize(
    "last",
    [
        *(
            b'{"iteration": 2, "lo',
            b"\xff\xfe\x00",
            b"[" * 10000,
            b"[1]",
            b'{"loss": 1}',
            b"3",
        ),
        b'{"iteration": 2, "loss": 1, "validation": "x"}',
    ],
    ids=["torn", "not-utf8", "deep", "list", "no-iteration", "number", "text"],
)
def test_a_torn_last_line_is_left_out(tmp_path, last):
    """Rejects metrics that cannot be read because a write was cut short."""
    (tmp_path / runs.METRICS).write_bytes(b'{"iteration": 1, "loss": 0.5}\n' + last)
    assert read_metrics(tmp_path) == [{"iteration": 1, "loss": 0.5}]


def test_metrics_are_not_lost_when_they_are_cut(tmp_path, monkeypatch):
    """Rejects writing in place: a process that is killed meanwhile leaves none."""
    lines = "".join(f'{{"iteration": {i}, "loss": 0.5}}\n' for i in (1, 2, 3))
    (tmp_path / runs.METRICS).write_text(lines)

    def killed(*_):
        raise InterruptedError

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(InterruptedError):
        Metrics(tmp_path, 2)
    assert (tmp_path / runs.METRICS).read_text() == lines


def test_metrics_are_on_the_disk_after_a_sync(tmp_path, monkeypatch):
    """Rejects lines that wait in this process, and a sync of another file."""
    synced, fsync = [], os.fsync
    with Metrics(tmp_path, 0) as metrics:
        monkeypatch.setattr(os, "fsync", lambda x: (synced.append(x), fsync(x)))
        metrics.add({"iteration": 1, "loss": 0.5})
        metrics.sync()
        assert read_metrics(tmp_path) == [{"iteration": 1, "loss": 0.5}]
        assert synced == [metrics.file.fileno()]


def test_metrics_go_on_where_the_checkpoint_is(tmp_path):
    """Rejects doubled iterations, and metrics that a kill leaves in a buffer."""
    with Metrics(tmp_path, 0) as metrics:
        for iteration in (1, 2, 3):
            metrics.add({"iteration": iteration, "loss": 0.1})
        metrics.sync()
        assert len(read_metrics(tmp_path)) == 3
    with Metrics(tmp_path, 2):
        assert [r["iteration"] for r in read_metrics(tmp_path)] == [1, 2]


def written(path: Path, count: int = 5, config: Sine = CONFIG) -> list[bytes]:
    """Write the metrics of a run, and return their lines."""
    runs.write_config(path, config, VERSIONS)
    with Metrics(path, 0, runs.begun_as(path, config)) as metrics:
        for iteration in range(1, count + 1):
            metrics.add({"iteration": iteration, "loss": 0.1 * iteration, "std": None})
    return (path / runs.METRICS).read_bytes().splitlines(keepends=True)


BAD_LINES = {
    "no-loss": b'{"iteration": 3, "lnss": 0.5}',
    "no-iteration": b'{"iter`tion": 3, "loss": 0.5}',
    "texts": b'{"iteration": "a", "loss": "b"}',
    "one-text": b'{"iteration": 3, "loss": 0.5, "kl": "x"}',
    "truth": b'{"iteration": 3, "loss": true}',
    "list": b'{"iteration": 3, "loss": [0.5]}',
    "null": b'{"iteration": 3, "loss": null}',
    "zero": b'{"iteration": 0, "loss": 0.5}',
    "half": b'{"iteration": 2.5, "loss": 0.5}',
    "digits-400": b'{"iteration": 3, "loss": ' + b"7" * 400 + b"}",
    "more-digits-400": b'{"iteration": 3, "loss": 1, "validation": ' + b"7" * 400 + b"}",
    "digits-5000": b'{"iteration": 3, "loss": ' + b"7" * 5000 + b"}",
    "check-a-number": b'{"iteration": 3, "loss": 0.5, "check": 3}',
    "check-of-another-line": b'{"iteration": 3, "loss": 0.5, "check": "-00000000"}',
    "not-utf8": b'{"iteration": 3, "l\xffss": 0.5}',
    "empty": b"",
}


@pytest.mark.parametrize("kind", BAD_LINES)
def test_a_damaged_line_hides_no_later_ones(tmp_path, kind):
    """Rejects metrics that end, without a word, where a line is damaged; and a traceback,
    in the reader or where the numbers are used."""
    lines = written(tmp_path)
    lines[2] = BAD_LINES[kind] + b"\n"
    (tmp_path / runs.METRICS).write_bytes(b"".join(lines))
    faults = []
    found = read_metrics(tmp_path, faults)
    assert [record["iteration"] for record in found] == [1, 2, 4, 5]
    line = f"line 3 of {str(tmp_path / runs.METRICS)!r} is damaged: left out"
    assert faults == [line]
    np.array([[record["loss"], record["std"]] for record in found], float)


def test_records_without_what_is_drawn_are_left_out(tmp_path):
    """Rejects a KeyError, in a picture, for one flipped bit in a name."""
    lines = [b'{"iteration": %d, "loss": 1, "return_after": 2}\n' % n for n in (1, 2, 3)]
    lines[1] = lines[1].replace(b"return_after", b"rdturn_after")
    (tmp_path / runs.METRICS).write_bytes(b"".join(lines))
    faults = []
    found = read_metrics(tmp_path, faults, ("return_after",))
    assert [record["iteration"] for record in found] == [1, 3]
    assert "line 2" in faults[0]


def test_a_flipped_bit_of_the_metrics_is_reported(tmp_path):
    """Rejects a number that changes unnoticed: in a curve it would be believed."""
    whole, good = b"".join(written(tmp_path, 2)), read_metrics(tmp_path)
    for bit in random.Random(0).sample(range(8 * len(whole)), 500):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        (tmp_path / runs.METRICS).write_bytes(data)
        faults = []
        found = read_metrics(tmp_path, faults)
        assert faults or found == good, (bit, bytes(data))
        assert all(record in good for record in found)


def test_lines_that_are_missing_are_reported(tmp_path):
    """Rejects a curve of 5 points for 8 iterations, as when two processes wrote."""
    lines = written(tmp_path, 8)
    (tmp_path / runs.METRICS).write_bytes(b"".join([*lines[:2], *lines[5:]]))
    faults = []
    assert len(read_metrics(tmp_path, faults)) == 5
    [line] = faults
    assert "lacks lines, or has too many: line 3 is of iteration 6" in line
    (tmp_path / runs.METRICS).write_bytes(b"".join(lines[:4]) + lines[4][:9])
    read_metrics(tmp_path, faults := [])
    assert faults == []  # a kill leaves a torn line


def test_damaged_lines_stay_in_the_file(tmp_path):
    """Rejects a resume that deletes what a person could mend, or the lines behind it; and
    one that keeps iterations that will be done again."""
    lines = written(tmp_path)
    lines[1] = b'{"iteration": 2, "lnss": 0.2}\n'
    for iteration, kept in ((4, 4), (3, 3), (2, 2)):
        (tmp_path / runs.METRICS).write_bytes(b"".join(lines))
        with Metrics(tmp_path, iteration, runs.begun_as(tmp_path, CONFIG)) as metrics:
            metrics.add({"iteration": iteration + 1, "loss": 7.0})
        found = (tmp_path / runs.METRICS).read_bytes().splitlines(keepends=True)
        assert found[:-1] == lines[:kept]
        assert read_metrics(tmp_path)[-1] == {"iteration": iteration + 1, "loss": 7.0}


def test_metrics_of_another_run_are_not_believed(tmp_path):
    """Rejects another seed's curve, and a resume that deletes a file that was misplaced."""
    for name, seed in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        written(tmp_path / name, config=CONFIG.with_changes({"seed": seed}))
    other = (tmp_path / "b" / runs.METRICS).read_bytes()
    (tmp_path / "a" / runs.METRICS).write_bytes(other)
    faults = []
    assert read_metrics(tmp_path / "a", faults) == []
    assert "line 1" in faults[0]
    assert faults[0].endswith("is of another run, and 4 more: left out")
    for iteration in (0, 3):
        with pytest.raises(WorldError, match=r"line 1 .* is of another run; move"):
            Metrics(tmp_path / "a", iteration)
    assert (tmp_path / "a" / runs.METRICS).read_bytes() == other


def test_metrics_of_an_older_program_are_read_and_go_on(tmp_path):
    """Rejects lines without a check, or a file that has them before lines with one."""
    (tmp_path / runs.METRICS).write_bytes(b'{"iteration": 1, "loss": 0.5}\n')
    runs.write_config(tmp_path, CONFIG, VERSIONS)
    with Metrics(tmp_path, 1, runs.begun_as(tmp_path, CONFIG)) as metrics:
        assert "check" in metrics.add({"iteration": 2, "loss": 0.25})
    faults = []
    found = read_metrics(tmp_path, faults)
    assert [record["loss"] for record in found] == [0.5, 0.25]
    assert faults == []


@pytest.mark.parametrize("again", [False, True])
def test_records_of_a_deleted_file_are_not_lost_in_silence(tmp_path, again):
    """Rejects a training that goes on with records in a file that no folder has."""
    with Metrics(tmp_path, 0) as metrics:
        metrics.add({"iteration": 1, "loss": 0.5})
        metrics.sync()
        os.remove(tmp_path / runs.METRICS)
        if again:
            (tmp_path / runs.METRICS).touch()
        with pytest.raises(WorldError, match="was deleted or replaced"):
            metrics.sync()
