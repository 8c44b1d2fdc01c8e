"""Omniglot, read from the .npz that data_scripts/omniglot.py writes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from tinymaml.errors import DAMAGE, UsageError, WorldError


Array = np.ndarray

CHARACTERS, DRAWINGS, SIDE = 1623, 20, 28
# Of each named split, the parts that it has.
PARTS = {
    "finn": ("train", "val", "test"),
    "vinyals": ("train", "val", "test"),
    "lake": ("train", "test"),
}
# Bytes of a file unpacked; ours is 26 MB. One that claims more would fill the memory.
LARGEST = 100 * 2**20
HINT = "make it with: python data_scripts/omniglot.py --out FILE"


def load(path: str | Path, split: str) -> tuple[Array, dict[str, Array]]:
    """Return images uint8 (1623, 20, 28, 28), ink 255 on 0, and {part: class indices}.

    split: "finn" (1100/100/423), "vinyals" (1028/172/423) or "lake" (964 background,
    659 evaluation, no validation part).
    Raises UsageError for an unknown split, WorldError when the file is missing or
    damaged; the message names the script.
    """
    if split not in PARTS:
        raise UsageError(f"no split {split!r}; there are {', '.join(PARTS)}")
    if not path:
        raise WorldError(f"no data file given (--data FILE); {HINT}")
    if not Path(path).is_file():
        raise WorldError(f"no data file {str(path)!r}; {HINT}")
    try:
        images, classes = _read(path, split)
    except DAMAGE as error:
        raise WorldError(f"{str(path)!r} is damaged or not ours; {HINT}") from error
    _check(path, images, classes)
    return images, classes


def _read(path: str | Path, split: str) -> tuple[Array, dict[str, Array]]:
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > LARGEST:
        raise ValueError(f"it claims {size} bytes")
    with np.load(path, allow_pickle=False) as file:
        parts = {part: file[f"{split}_{part}"] for part in PARTS[split]}
        return file["images"], parts


def _check(path: str | Path, images: Array, classes: dict[str, Array]) -> None:
    expected = (CHARACTERS, DRAWINGS, SIDE, SIDE)
    if images.shape != expected or images.dtype != np.uint8:
        found = f"{images.dtype} {images.shape}"
        raise WorldError(f"{str(path)!r} holds images {found}, not uint8 {expected}")
    for part, rows in classes.items():
        if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
            found = f"{rows.dtype} {rows.shape}"
            raise WorldError(f"{str(path)!r}: {part!r} is {found}, not a list of rows")
    rows = np.concatenate([*classes.values()])
    if sorted(rows.tolist()) != list(range(CHARACTERS)):
        raise WorldError(f"{str(path)!r}: the split is not a partition of the characters")
