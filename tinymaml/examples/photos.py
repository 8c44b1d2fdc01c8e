"""Classify the images of a folder, each sub-folder a class, without preparing them first.

`tinymaml train photos.py --data FOLDER` trains it. Then `tinymaml predict RUN` classifies
images of new classes. For many images `tinymaml prepare images` is faster: it reads them
once.
"""

from functools import cache
from pathlib import Path

import numpy as np

from tinymaml.errors import WorldError
from tinymaml.experiments import images
from tinymaml.experiments.common import configuration
from tinymaml.experiments.images import Images
from tinymaml.options import DATA, NET, PLACE, option, redefault
from tinymaml.prepare import folders, pictures


@configuration
class Photos(Images):
    """Few-shot classification of the images in a folder."""

    data: str = option("photos", "folder with a sub-folder for each class", role=PLACE)
    side: int = option(28, "width and height in pixels", role=NET, least=8, most=256)
    held_out: int = option(5, "classes to test on, the last ones", role=DATA, least=2)
    filters: int = redefault(32)
    validate_every: int = redefault(0)  # there are no validation classes


CONFIG = Photos


@cache
def read(folder, side):
    """Return the images of each class, uint8 (images, side, side, 3), in a list."""
    files = folders.find(Path(folder)).files
    return [
        np.stack([pictures.read(file, side, grey=False) for file in files[name]])
        for name in sorted(files)
    ]


def setup(config):
    """Return the problem; the images are read for the first task."""

    def load():
        found = read(config.data, config.side)
        if len(found) <= config.held_out:
            raise WorldError(f"{config.data!r}: {len(found)} classes, too few to hold out")
        rows = np.arange(len(found))
        parts = {"train": rows[: -config.held_out], "test": rows[-config.held_out :]}
        return found, parts | {"val": parts["train"]}  # to look at, not to choose by

    return images.from_data(config, (config.side, config.side, 3), load, rotate=False)
