"""mini-ImageNet: section 5.2 of the paper, on 84 x 84 photographs in colour."""

from functools import partial
from typing import ClassVar

import numpy as np

from tinymaml.data import miniimagenet
from tinymaml.experiments import images
from tinymaml.experiments.common import configuration
from tinymaml.experiments.images import Images
from tinymaml.fewshot import Problem
from tinymaml.maml import Array
from tinymaml.options import PLACE, option, redefault


# The stand-in's pixels, squares in a row, and classes of each part.
SIDE, SQUARES, CLASSES = 16, 4, 20


@configuration
class MiniImageNet(Images):
    """Few-shot classification of photographs in 100 classes."""

    name: ClassVar[str] = "miniimagenet"
    title: ClassVar[str] = "mini-ImageNet"
    most_images: ClassVar[int] = 80  # they have 84 x 84 pixels

    iterations: int = redefault(10000, "60,000 in main.py:17")
    tasks: int = redefault(4, "main.py:17, :20")
    queries: int = redefault(15, "main.py:247; main.py:249 has --test-queries -1")
    alpha: float = redefault(0.01, "main.py:17, on a sum over shots: 0.05 on the mean")
    inner_steps: int = redefault(5, "main.py:17, :20")
    net: str = redefault("pooled", "section 5.2 of the paper")
    filters: int = redefault(32, "section 5.2")
    chunk: int = redefault(1)
    checkpoint_every: int = redefault(100)
    data: str = option(
        "", "data file that `tinymaml prepare miniimagenet` writes", role=PLACE
    )

    @property
    def image(self) -> tuple[int, int, int]:
        """Height, width and channels of the images."""
        return miniimagenet.SIDE, miniimagenet.SIDE, 3

    @property
    def is_original(self) -> bool:
        """Whether the data file holds mini-ImageNet, not other images."""
        return miniimagenet.is_original(self.data)


CONFIG = MiniImageNet


def setup(config: MiniImageNet) -> Problem:
    """Return the problem on the prepared file, which is read for the first task.

    Photographs have a top: none is rotated.
    """
    load = partial(miniimagenet.load, config.data)
    return images.from_data(config, config.image, load, rotate=False)


def stand_in(config: MiniImageNet) -> Problem:
    """Return the problem for a check of the gradients, on images of 16 x 16 pixels.

    They are the middle of the photographs in the file, or drawn patchworks without a file.
    """
    if config.data:
        pictures, classes = miniimagenet.load(config.data)
    else:
        pictures, classes = draw_patchworks(config.shots)
    return images.on_middle(config, pictures, classes, SIDE)


def draw_patchworks(shots: int) -> tuple[Array, dict[str, Array]]:
    """Return images uint8 (60, 2 shots, 16, 16, 3) of coloured squares, and {part: rows}.

    A class has its own colours, and every image tints them.
    """
    rows = np.arange(len(miniimagenet.PARTS) * CLASSES)
    rng = np.random.default_rng(0)
    colours = rng.uniform(0, 160, (len(rows), 1, SQUARES, SQUARES, 3))
    tints = rng.uniform(0, 95, (len(rows), 2 * shots, SQUARES, SQUARES, 3))
    pictures = (colours + tints).astype(np.uint8)
    for axis in (2, 3):
        pictures = pictures.repeat(SIDE // SQUARES, axis)
    parts = rows.reshape(-1, CLASSES)
    return pictures, dict(zip(miniimagenet.PARTS, parts, strict=True))
