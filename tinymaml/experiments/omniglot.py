"""Omniglot: section 5.2 of the paper, on the real drawings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymaml.data import omniglot
from tinymaml.experiments import glyphs, images
from tinymaml.experiments.common import option
from tinymaml.fewshot import Problem


@dataclass(frozen=True)
class Omniglot(images.Images):
    """Tell handwritten characters of 50 alphabets apart."""

    name: ClassVar[str] = "omniglot"

    iterations: int = option(
        10000, "outer updates in all", "60,000 in main.py:11", least=0, most=10**8
    )
    data: str = option("", "the .npz that data_scripts/omniglot.py writes")
    split: str = option(
        "finn",
        "which characters are held out",
        "data_generator.py:46-54: 1100/100/423, shuffled; section 5.2: 1200 to train on",
        choices=tuple(omniglot.PARTS),
    )
    rotate: bool = option(
        True, "turn each class of a task by 0-270 degrees", "data_generator.py"
    )


CONFIG = Omniglot


def setup(config: Omniglot) -> Problem:
    """Return the problem on the prepared file."""
    drawings, classes = omniglot.load(config.data, config.split)
    return images.build(config, drawings, classes, config.rotate)


def stand_in(config: Omniglot) -> Problem:
    """Return what a check of the gradients needs: glyphs where no file is named."""
    return setup(config) if config.data else glyphs.setup(config)
