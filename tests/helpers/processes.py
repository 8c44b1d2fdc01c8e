"""Running the real command line: the console script in a process, or `cli.run` here."""

import hashlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from tinymaml.cli import main


COMMAND = str(Path(sys.executable).with_name("tinymaml"))
# A run of about half a second.
SMALL = (
    *("--iterations", "200", "--checkpoint-every", "10", "--hidden", "8"),
    *("--tasks", "4", "--chunk", "2", "--test-tasks", "4", "--test-steps", "1"),
)
RESULTS = ("checkpoint.npz", "checkpoint.previous.npz", "metrics.jsonl")


class Told(NamedTuple):
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return an environment without matplotlib, which takes longer than the training."""
    stub = folder / "no-matplotlib" / "matplotlib"
    stub.mkdir(parents=True, exist_ok=True)
    (stub / "__init__.py").write_text("raise ImportError('a stub')")
    paths = filter(None, [str(stub.parent), os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def run(*args: object, cwd: Path, **more) -> Told:
    """Run the console script to its end."""
    done = subprocess.run(
        [COMMAND, *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        **{"stdin": subprocess.DEVNULL, "env": environment(cwd), **more},
    )
    return Told(done.returncode, done.stdout, done.stderr)


def start(*args: object, cwd: Path, **more) -> subprocess.Popen:
    """Start the console script in a process group of its own."""
    return subprocess.Popen(
        [COMMAND, *map(str, args)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(cwd),
        start_new_session=True,
        **more,
    )


def end(process: subprocess.Popen) -> Told:
    """Wait for a process that was started."""
    out, err = process.communicate(timeout=120)
    return Told(process.returncode, out, err)


def here(*args: object) -> Told:
    """Run the command line in this process: fast, the same code but for __main__."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main.run([*map(str, args)])
        except SystemExit as stop:
            code = stop.code
    return Told(code, out.getvalue(), err.getvalue())


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Return when the condition holds; fail when it does not within the time."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it never happened"
        time.sleep(0.002)


def gone(pid: int) -> bool:
    """Return whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def digests(folder: Path) -> dict[str, str]:
    """Return the hashes of a run's results."""
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in RESULTS
    }


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with what it holds."""
    return {
        str(file.relative_to(folder)): file.read_bytes() if file.is_file() else b""
        for file in sorted(folder.rglob("*"))
    }


def one_error(told: Told) -> str:
    """Return the one error line; fail when there is not exactly one, or a traceback."""
    lines = [line for line in told.err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, told
    assert "Traceback" not in told.err, told
    assert "Warning" not in told.err, told
    return lines[0]
