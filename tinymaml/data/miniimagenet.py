"""mini-ImageNet, read from the .npz that data_scripts/miniimagenet.py writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinymaml.data import prepared
from tinymaml.errors import WorldError


Array = np.ndarray

PARTS = ("train", "val", "test")
SIDE = 84
LARGEST = 2**20  # bytes of the lists of rows; ours have 800


def load(path: str | Path) -> tuple[Array, dict[str, Array]]:
    """Return images uint8 (classes, images of each, 84, 84, 3) and {part: class indices}.

    mini-ImageNet has 100 classes of 600 images, 64/16/20 of them (Ravi & Larochelle 2017).
    Its 1.2 GB stay in the file, which is mapped into memory: it must not change meanwhile.
    Raises WorldError when the file is missing or damaged; the message names the script.
    """
    with prepared.opened(path, "miniimagenet.py"):
        classes = prepared.arrays(path, {part: part for part in PARTS}, LARGEST)
        images = prepared.mapped(path, "images")
    if images.ndim != 5 or images.shape[2:] != (SIDE, SIDE, 3):
        found = f"{images.dtype} {images.shape}"
        expected = f"(classes, images, {SIDE}, {SIDE}, 3)"
        raise WorldError(f"{str(path)!r} holds images {found}, not uint8 {expected}")
    prepared.check_parts(path, classes, len(images))
    return images, classes
