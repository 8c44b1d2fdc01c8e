"""mini-ImageNet: section 5.2 of the paper, on 84 x 84 photographs in colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinymaml.data import miniimagenet
from tinymaml.experiments import images
from tinymaml.experiments.common import MOST, option
from tinymaml.fewshot import Problem


Array = np.ndarray

# Of the stand-in: pixels, squares in a row, classes of each part.
SIDE, SQUARES, CLASSES = 16, 4, 20


@dataclass(frozen=True)
class MiniImageNet(images.Images):
    """Tell photographs of 100 kinds of things apart."""

    name: ClassVar[str] = "miniimagenet"
    test_chunk: ClassVar[int] = 2  # as large as a task is, more would fill the memory

    iterations: int = option(
        10000, "outer updates in all", "60,000 in main.py:17", least=0, most=10**8
    )
    tasks: int = option(4, "tasks in a meta-batch", "main.py:17, :20", least=1, most=MOST)
    queries: int = option(
        15,
        "examples of a class to be judged on, 0 for as many as shots",
        "main.py:247; for main.py:249, as many as shots at test, see --test-queries",
        least=0,
        most=MOST,
    )
    alpha: float = option(
        0.01,
        "inner step size, on the loss that --inner-loss names",
        "main.py:17, where the loss is a sum over shots: 0.05 on the mean",
        least=0,
        most=1e9,
    )
    inner_steps: int = option(
        5, "inner gradient steps in training", "main.py:17, :20", least=0, most=1000
    )
    net: str = option(
        "pooled",
        "convolutional with stride or with max-pooling, or fully connected 256-128-64-64",
        "section 5.2 of the paper",
        choices=("conv", "pooled", "dense"),
    )
    filters: int = option(32, "filters of a convolution", "section 5.2", least=1, most=4096)
    chunk: int = option(
        1, "tasks computed side by side; fixes the last bits", least=1, most=MOST
    )
    checkpoint_every: int = option(
        100, "iterations between checkpoints", least=1, most=10**8
    )
    data: str = option("", "the .npz that data_scripts/miniimagenet.py writes")

    @property
    def is_original(self) -> bool:
        """Whether the data file is known to hold mini-ImageNet, not other images."""
        return miniimagenet.is_original(self.data)


CONFIG = MiniImageNet


def setup(config: MiniImageNet) -> Problem:
    """Return the problem on the prepared file; no image is turned, for they have a top."""
    return images.build(config, *miniimagenet.load(config.data), rotate=False)


def stand_in(config: MiniImageNet) -> Problem:
    """Return what a check of the gradients needs, on images of 16 x 16 pixels.

    They are the middle of the photographs, where a file is named, else drawn patchworks.
    There are no more queries than shots: at the full size some relu or maximum is always
    about to change sides, and differences measure nothing.
    """
    if config.data:
        pictures, classes = miniimagenet.load(config.data)
        middle = slice((miniimagenet.SIDE - SIDE) // 2, (miniimagenet.SIDE + SIDE) // 2)
        pictures = pictures[:, :, middle, middle]
    else:
        pictures, classes = draw_patchworks(config.shots)
    few = config.with_changes(
        {"queries": min(config.queries, config.shots), "test_queries": 0}
    )
    return images.build(few, pictures, classes, rotate=False)


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
