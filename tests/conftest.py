"""What every test shares: hypothesis profiles and the real data, where they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings


ROOT = Path(__file__).resolve().parent.parent

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


# For tests of what reads our data files.
not_ours = pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"<!DOCTYPE html><html>404</html>", b"PK\x05\x06" + bytes(18)],
    ids=["empty", "two bytes", "html", "empty zip"],
)


def data_folder() -> Path | None:
    """Return the folder with the real data, None where there is none."""
    named = os.environ.get("TINYMAML_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder if (folder / "omniglot").is_dir() else None


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
