"""When, for how long and on what a run was trained: sessions.json in its folder.

    {"seconds": 93.1, "sessions": [{"began": "2026-01-31T12:00:00+00:00", "seconds": 61.0,
     "iteration": 500, "commit": "", "tinymaml": "0.3.0", "python": "3.13.1", ...}],
     "sha256": "..."}

A session is one `tinymaml train`. A resumed run has several, and `seconds` is their sum. A
session counts until its last checkpoint, which is that of `iteration`. All this differs
between equal runs, so it is in no other file.
"""

import math
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import tinymaml
from tinymaml.errors import DAMAGE
from tinymaml.harness import runs
from tinymaml.speed import machine


SESSIONS, DAMAGED = "sessions.json", "sessions.damaged.json"


class Session:
    """The session that begins now, after the run's sessions so far."""

    def __init__(self, path: Path, libraries: tuple[str, ...] = ()) -> None:
        self.path, self.earlier = path, read(path)
        self.began = datetime.now(UTC).isoformat(timespec="seconds")
        self.clock, self.libraries = time.monotonic(), libraries

    def save(self, iteration: int) -> None:
        """Write the run's sessions, this one until now, after a checkpoint."""
        now = {
            "began": self.began,
            "seconds": round(time.monotonic() - self.clock, 3),
            "iteration": iteration,
            **environment(self.libraries),
        }
        sessions = [*self.earlier, now]
        total = round(sum(one["seconds"] for one in sessions), 3)
        found = {"seconds": total, "sessions": sessions}
        runs.write(self.path / SESSIONS, runs.sealed(found))


def read(path: Path) -> list[dict[str, Any]]:
    """Return the sessions of a run, none where no file has them.

    A damaged file is moved to sessions.damaged.json, with a line on stderr.
    """
    file = path / SESSIONS
    if not file.exists():
        return []
    try:
        return parsed(file)
    except (*DAMAGE, AttributeError) as error:
        os.replace(file, path / DAMAGED)
        kept = f"it is now {DAMAGED!r}, and the time is counted anew"
        print(f"{str(file)!r} is damaged: {error}; {kept}", file=sys.stderr)
        return []


def parsed(file: Path) -> list[dict[str, Any]]:
    """Return the sessions in a file. Raises errors of DAMAGE for other content."""
    found = runs.unsealed(file)["sessions"]
    if not math.isfinite(sum(one["seconds"] for one in found)):
        raise ValueError("its seconds are not finite")
    return [dict(one) for one in found]


@lru_cache  # what a process has imported stays when a checkout moves on
def environment(libraries: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what a result can depend on besides the options of its run.

    libraries: names of modules whose versions are added
    """
    return {
        "commit": commit(Path(tinymaml.__file__).parents[1]),
        **machine.versions(libraries),
        "cpu": machine.cpu_model(),
        "cores": machine.cores(),
        "platform": platform.platform(),
    }


def commit(checkout: Path) -> str:
    """Return the Git commit of a checkout, with "-dirty" after changes; "" elsewhere.

    A folder inside another project's checkout, such as site-packages, has no commit.
    """
    if not (checkout / ".git").exists():
        return ""
    # Git sets GIT_DIR and others for its hooks, which may train in another checkout.
    own = {name: x for name, x in os.environ.items() if not name.startswith("GIT_")}
    ask = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(
            ask,
            cwd=checkout,
            env=own | {"GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git, or a checkout that it refuses
        return ""
