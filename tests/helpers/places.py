"""Where things are: this repository and the real data; and files that are not ours."""

import os
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[2]

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
