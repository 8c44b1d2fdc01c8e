"""mini-ImageNet, read from the .npz of `tinymaml prepare miniimagenet`."""

import hashlib
from pathlib import Path

import numpy as np

from tinymaml.data import prepared
from tinymaml.errors import DAMAGE
from tinymaml.maml import Array


PARTS = ("train", "val", "test")
SIDE = 84
LARGEST = 2**20  # bytes of the lists of rows and names; the real ones have 5000
IMAGES = 600  # per class of mini-ImageNet
# sha256 of sorted lines "CLASS PART", from Ravi & Larochelle's csv files.
SPLIT = "94f34bb89a7c9c930ab6ec9196697800b4f05c60d343d23853facb3051f78d43"


def load(path: str | Path) -> tuple[Array | list[Array], dict[str, Array]]:
    """Return images uint8 (classes, images of each, 84, 84, 3) and {part: class indices}.

    Images of classes of unequal sizes are a list of classes. mini-ImageNet has 64/16/20
    classes of 600 images (Ravi & Larochelle 2017). Its 1.2 GB stay in the file, which is
    mapped into memory and must not change meanwhile.
    Raises WorldError when the file is missing or damaged; it names the command to make it.
    """
    with prepared.opened(path, "miniimagenet --from FOLDER"):
        classes = prepared.arrays(path, PARTS, LARGEST)
        images = prepared.by_class(path, prepared.mapped(path, "images"), LARGEST)
    lead = images.shape[:2] if isinstance(images, np.ndarray) else ()
    prepared.check(path, images, classes, (*lead, SIDE, SIDE, 3))
    return images, classes


def is_original(path: str | Path) -> bool:
    """Return whether a file has the classes and the split of Ravi & Larochelle.

    Class names and 600 images per class are compared, the images themselves are not.
    """
    try:
        found = prepared.arrays(path, ("names", *PARTS), LARGEST)
        part_of = {int(row): part for part in PARTS for row in found[part]}
        lines = [f"{name} {part_of[row]}\n" for row, name in enumerate(found["names"])]
        shape = prepared.shape(path, "images")
    except DAMAGE:
        return False
    split = hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    return split == SPLIT and shape == (len(lines), IMAGES, SIDE, SIDE, 3)
