"""What every test shares: hypothesis profiles and the real data, where they are."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from places import ROOT, data_folder


SLOW_DRAWS = (HealthCheck.too_slow, HealthCheck.data_too_large)
for _name, _examples in (("quick", 10), ("default", 30), ("thorough", 1000)):
    settings.register_profile(
        _name,
        max_examples=_examples,
        deadline=None,
        derandomize=_name != "thorough",
        suppress_health_check=SLOW_DRAWS,
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Ctrl-C interrupts this process and all that tests start, also where a script starts
    the tests in the background: its processes inherit SIGINT as ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def omniglot_zips() -> Path:
    """The folder with the two official zips; skips where it is not."""
    folder = data_folder()
    if folder is None:
        pytest.skip("no real Omniglot: set TINYMAML_DATA to a folder that has omniglot/")
    return folder / "omniglot"


@pytest.fixture(scope="session")
def omniglot_npz(omniglot_zips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared Omniglot file, made by the script from the real zips."""
    file = tmp_path_factory.mktemp("omniglot") / "omniglot.npz"
    script = ROOT / "data_scripts" / "omniglot.py"
    subprocess.run(
        [sys.executable, script, "--from", omniglot_zips, "--out", file],
        check=True,
        capture_output=True,
    )
    return file
