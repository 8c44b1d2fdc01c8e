"""Where things are: this repository and the real data; and files that are not ours."""

import os
from pathlib import Path

import pytest
from PIL import ImageFont


ROOT = Path(__file__).resolve().parents[2]

# For tests of what reads our data files.
not_ours = pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"<!DOCTYPE html><html>404</html>", b"PK\x05\x06" + bytes(18)],
    ids=["empty", "two bytes", "html", "empty zip"],
)


def fonts(letters: str) -> list[Path]:
    """Return the installed TrueType fonts that have all of some letters."""
    folders = "/usr/share/fonts", "/usr/local/share/fonts", "/Library/Fonts"
    files = [file for folder in folders for file in sorted(Path(folder).rglob("*.ttf"))]
    return [file for file in files if _has(file, letters)]


def _has(file: Path, letters: str) -> bool:
    """Return whether a font has glyphs for letters, other than that for none."""
    font = ImageFont.truetype(file, 20)
    nothing = bytes(font.getmask("\uffff"))
    return nothing not in [bytes(font.getmask(letter)) for letter in letters]


def data_folder() -> Path | None:
    """Return the folder with the real data, None where there is none."""
    named = os.environ.get("TINYMAML_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder if (folder / "omniglot").is_dir() else None
