"""Omniglot: section 5.2 of the paper, on the real drawings."""

from functools import partial
from typing import ClassVar

from tinymaml.data import omniglot
from tinymaml.data.omniglot import SIDE
from tinymaml.experiments import glyphs, images
from tinymaml.experiments.common import configuration
from tinymaml.experiments.images import Grouped
from tinymaml.fewshot import Problem
from tinymaml.options import DATA, PLACE, option, redefault


@configuration
class Omniglot(Grouped):
    """Few-shot classification of handwritten characters from 50 alphabets."""

    name: ClassVar[str] = "omniglot"
    title: ClassVar[str] = "Omniglot"
    ink: ClassVar[bool] = True

    iterations: int = redefault(10000, "60,000 in main.py:11")
    data: str = option("", "data file that `tinymaml prepare omniglot` writes", role=PLACE)
    split: str = option(
        "finn",
        "split of the characters into training, validation and test",
        "data_generator.py:46-54: 1100/100/423, shuffled; section 5.2: 1200 to train on",
        role=DATA,
        choices=tuple(omniglot.PARTS),
    )
    rotate: bool = option(
        True,
        "rotate each class of a task by a random multiple of 90 degrees",
        "data_generator.py",
        role=DATA,
    )

    @property
    def image(self) -> tuple[int, int, int]:
        """Height, width and channels of the images."""
        return SIDE, SIDE, 1


CONFIG = Omniglot


def setup(config: Omniglot) -> Problem:
    """Return the problem on the prepared file, which is read for the first task."""
    load = partial(omniglot.load, config.data, config.split)
    groups = partial(omniglot.alphabets, config.data)
    return images.from_data(config, config.image, load, config.rotate, groups)


def stand_in(config: Omniglot) -> Problem:
    """Return the problem for a check of the gradients: on glyphs without a data file."""
    return setup(config) if config.data else glyphs.setup(config)
