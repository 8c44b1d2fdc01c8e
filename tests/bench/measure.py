"""Times, memory, and the machine that they were taken on."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinymaml import __version__
from tinymaml.speed.machine import kernel as kernel_of_blas


Call = Callable[[], Any]
Clock = Callable[[], float]

# A call is repeated within a round until it takes this long: well above the grain of the
# clock and the scheduler, and until the caches hold its own data, as in training.
ROUND_SECONDS = 0.3
WARM_ROUNDS = 1


class Timing(NamedTuple):
    """Milliseconds of one call: quartiles over the rounds."""

    low: float
    median: float
    high: float


# ----- Time -----


def seconds(call: Call, repeats: int = 1, clock: Clock = time.perf_counter) -> float:
    """Return the seconds of one call, averaged over some."""
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


def repeats_for(call: Call) -> int:
    """Return how often to repeat a call in a round."""
    call()
    return max(1, round(ROUND_SECONDS / seconds(call)))


def interleaved(
    calls: dict[Any, Call], rounds: int, clock: Clock = time.perf_counter
) -> dict[Any, np.ndarray]:
    """Return each call's milliseconds, one figure a round.

    Every round runs every call, so that a machine that slows down slows all of them.
    """
    repeats = {name: repeats_for(call) for name, call in calls.items()}
    times = {name: [] for name in calls}
    for _ in range(rounds + WARM_ROUNDS):
        for name, call in calls.items():
            times[name].append(1e3 * seconds(call, repeats[name], clock))
    return {name: np.array(figures[WARM_ROUNDS:]) for name, figures in times.items()}


def summary(figures: np.ndarray) -> Timing:
    """Return the quartiles."""
    return Timing(*np.quantile(figures, (0.25, 0.5, 0.75)).tolist())


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of all its workers (Linux: living too)."""
    return sum(os.times()[:4]) + sum(
        _cpu_of(process.pid) for process in multiprocessing.active_children()
    )


def _cpu_of(pid: int | None) -> float:
    """Return the CPU seconds of another process, 0 where /proc does not say."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


# ----- Memory -----


def peak_in_child(function: Callable[..., Any], *args: Any) -> dict[str, float]:
    """Call function(*args) in a process of its own; return its peaks in MB.

    idle: before the call, everything imported; peak: after it, worker processes of its
    own included if the function returns a list of their peaks.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_peaks, function, *args).result()


def _peaks(function: Callable[..., Any], *args: Any) -> dict[str, float]:
    idle = peak_mb()
    others = function(*args) or []
    return {"idle": idle, "peak": peak_mb() + sum(others)}


def peaks_of_children() -> list[float]:
    """Return the peaks of this process's workers, while they live (Linux)."""
    return [peak_mb(process.pid) for process in multiprocessing.active_children()]


def peak_mb(pid: int | str = "self") -> float:
    """Return the largest resident size that a process has had, in MB."""
    # Linux counts into ru_maxrss what the parent had when it started this process;
    # VmHWM is this program's own.
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    if pid != "self":
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


# ----- The machine -----


def machine(packages: Iterable[str]) -> dict[str, Any]:
    """Describe the processor, NumPy's BLAS, and the versions of what is installed."""
    versions = {"tinymaml": __version__}  # an editable install's metadata may be older
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "blas": _blas(),
        "versions": versions,
        "load": round(os.getloadavg()[0], 2),
    }


def machine_line(about: dict[str, Any]) -> str:
    """Say the machine in a few words."""
    versions = ", ".join(f"{name} {v}" for name, v in about["versions"].items())
    return (
        f"{about['cpu']}, {about['cores']} cores (load {about['load']}); {about['blas']};"
        f" Python {about['python']}, {versions}"
    )


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _blas() -> str:
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    kernel = kernel_of_blas(np) or "unknown"
    return f"{built.get('name')} {built.get('version')}, kernel {kernel}"


# ----- Tables -----


def table(head: list[str], rows: list[list[Any]]) -> str:
    """Lay rows out in columns: the first to the left, figures to the right."""
    cells = [head, *([shown(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *others in cells:
        aligned = (cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *aligned]))
    return "\n".join(lines)


def markdown(head: str, rows: list[list[Any]]) -> str:
    """Lay rows out as a table of Markdown; `head` has its columns between bars."""
    rule = " | ".join(["---", *["---:"] * head.count("|")])
    lines = [" | ".join(map(shown, row)) for row in rows]
    return "\n".join(f"| {line} |" for line in (head, rule, *lines))


def shown(cell: Any) -> str:
    """Write a figure with three digits, nothing as a dash."""
    if cell is None:
        return "-"
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
