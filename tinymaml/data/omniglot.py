"""Omniglot, read from the .npz that data_scripts/omniglot.py writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinymaml.data import prepared
from tinymaml.errors import UsageError, WorldError


Array = np.ndarray

CHARACTERS, DRAWINGS, SIDE = 1623, 20, 28
# Of each named split, the parts that it has, and the file's lists that they are made of.
PARTS = {
    "finn": {part: (f"finn_{part}",) for part in ("train", "val", "test")},
    "finn-1200": {"train": ("finn_train", "finn_val"), "test": ("finn_test",)},
    "vinyals": {part: (f"vinyals_{part}",) for part in ("train", "val", "test")},
    "lake": {part: (f"lake_{part}",) for part in ("train", "test")},
}
LARGEST = 100 * 2**20  # bytes unpacked; ours has 26 MB


def load(path: str | Path, split: str) -> tuple[Array, dict[str, Array]]:
    """Return images uint8 (1623, 20, 28, 28), ink 255 on 0, and {part: class indices}.

    split: "finn" (1100/100/423), "finn-1200" (the same without a validation part,
    1200/423), "vinyals" (1028/172/423) or "lake" (964 background, 659 evaluation, no
    validation part).
    Raises UsageError for an unknown split, WorldError when the file is missing or
    damaged; the message names the script.
    """
    if split not in PARTS:
        raise UsageError(f"no split {split!r}; there are {', '.join(PARTS)}")
    lists = {name: name for some in PARTS[split].values() for name in some}
    with prepared.opened(path, "omniglot.py"):
        found = prepared.arrays(path, {**lists, "images": "images"}, LARGEST)
        classes = {
            part: _joined([found[name] for name in some])
            for part, some in PARTS[split].items()
        }
    images = found["images"]
    expected = (CHARACTERS, DRAWINGS, SIDE, SIDE)
    if images.shape != expected or images.dtype != np.uint8:
        found = f"{images.dtype} {images.shape}"
        raise WorldError(f"{str(path)!r} holds images {found}, not uint8 {expected}")
    prepared.check_parts(path, classes, CHARACTERS)
    return images, classes


def _joined(lists: list[Array]) -> Array:
    return lists[0] if len(lists) == 1 else np.concatenate(lists)
