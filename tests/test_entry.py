"""`python -m tinymaml` where the system is not POSIX: one line."""

import subprocess
import sys

import pytest

from places import ROOT


# What Windows lacks, taken away before the program starts.
LACKING = {
    "the module fcntl": "sys.modules['fcntl'] = None",
    "the alarm": "del signal.SIGALRM, signal.alarm",
    "masks of signals": "del signal.pthread_sigmask",
    "all of it": "sys.modules['fcntl'] = None; del signal.SIGALRM, signal.alarm;"
    "del signal.pthread_sigmask, os.sched_getaffinity; sys.platform = 'win32'",
}
START = "import os, signal, sys; {}; from tinymaml.__main__ import main; main()"


def python(code: str, *args: str) -> subprocess.CompletedProcess:
    """Run a program in a process of its own."""
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("lacking", LACKING)
def test_windows_is_told_in_one_line(lacking):
    """Rejects a traceback of an import, or a run that fails at its first signal."""
    for args in ([], ["train", "sine"], ["--version"]):
        done = python(START.format(LACKING[lacking]), *args)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: tinymaml needs Linux or macOS; on Windows")
        assert done.stderr.count("\n") == 1
        if lacking != "all of it":
            break


def test_the_scripts_say_so_too():
    """Rejects a front end that goes past the entry point."""
    script = ROOT / "data_scripts" / "omniglot.py"
    run = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = python(f"import os, signal, sys; {LACKING['all of it']}; {run}", "--help")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: tinymaml needs Linux or macOS")


def test_the_library_needs_no_posix():
    """Rejects an algorithm or a verifier that cannot be imported on Windows, where the
    gradient is the same."""
    imports = "import tinymaml.maml, tinymaml.check, tinymaml.experiments, tinymaml.prepare"
    done = python(f"import os, signal, sys; {LACKING['all of it']}; {imports}")
    assert done.returncode == 0, done.stderr
