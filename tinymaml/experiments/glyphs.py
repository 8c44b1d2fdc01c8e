"""Glyphs: few-shot images drawn by a program."""

from typing import ClassVar

import numpy as np

from tinymaml.data import glyphs
from tinymaml.experiments import images
from tinymaml.experiments.common import configuration
from tinymaml.experiments.images import Images
from tinymaml.fewshot import Problem
from tinymaml.maml import Array
from tinymaml.options import redefault


# Classes of each split; all are drawn from one seed, so the splits never meet.
CLASSES = {"train": 200, "val": 50, "test": 50}
GLYPH_SEED = 2017


@configuration
class Glyphs(Images):
    """Few-shot classification of procedurally drawn glyphs; needs no data."""

    name: ClassVar[str] = "glyphs"
    title: ClassVar[str] = "Glyphs"
    ink: ClassVar[bool] = True

    iterations: int = redefault(500)
    filters: int = redefault(32)
    checkpoint_every: int = redefault(100)

    @property
    def image(self) -> tuple[int, int, int]:
        """Height, width and channels of the images."""
        return glyphs.SIDE, glyphs.SIDE, 1


CONFIG = Glyphs


def setup(config: Images) -> Problem:
    """Return the problem on the glyphs, which are drawn for the first task."""
    return images.from_data(config, (glyphs.SIDE, glyphs.SIDE, 1), draw, rotate=False)


def draw() -> tuple[Array, dict[str, Array]]:
    """Return the glyphs (all, drawings, h, w) uint8, and the rows of each split."""
    ends = np.cumsum([*CLASSES.values()])
    rows = np.split(np.arange(ends[-1]), ends[:-1])
    drawings = glyphs.draw_classes(GLYPH_SEED, sum(CLASSES.values()))
    return drawings, dict(zip(CLASSES, rows, strict=True))


# A check of the gradients uses the problem itself, as it needs no data.
stand_in = setup
