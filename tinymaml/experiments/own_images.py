"""Images: few-shot classification of a user's own images; see images.py for the rest."""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Self

from tinymaml.data import own_images
from tinymaml.data.glyphs import SIDE
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments import glyphs, images
from tinymaml.experiments.common import configuration
from tinymaml.experiments.images import Grouped
from tinymaml.fewshot import Problem
from tinymaml.options import NET, PLACE, option, redefault


POOLED = 16  # pixels of a side, which four 2 x 2 pools need
DENSE = 10_000  # inputs of a dense net: above, its first layer has millions of weights
MIDDLE = 16  # pixels of a side in a check of the gradients, as in mini-ImageNet's

# They are those of the data file, so that no title or table has them.
SIZE = NET._replace(titled=False, checked=False)


@configuration
class OwnImages(Grouped):
    """Few-shot classification of your own images; see `tinymaml prepare images`."""

    name: ClassVar[str] = "images"
    title: ClassVar[str] = "Images"
    most_images: ClassVar[int] = 80  # they have 84 x 84 pixels

    iterations: int = redefault(2000)
    filters: int = redefault(32)
    checkpoint_every: int = redefault(100)
    validate_every: int = redefault(
        250,
        help="validate every N iterations and test the best theta; 0: test the last theta;"
        " 0 by default where the data have no validation classes",
    )
    data: str = option("", "data file that `tinymaml prepare images` writes", role=PLACE)
    side: int = option(
        0,
        "width and height of the images in pixels; 0: as in the data file",
        role=SIZE,
        least=0,
        most=256,
    )
    channels: int = option(
        0,
        "channels of the images, 1 grey or 3 RGB; 0: as in the data file",
        role=SIZE,
        least=0,
        most=3,
    )

    @property
    def image(self) -> tuple[int, int, int]:
        """Height, width and channels of the images; 0 where the data file is needed."""
        return self.side, self.side, self.channels

    def _fill(self, before: Mapping[str, Any], given: Mapping[str, Any]) -> Self:
        """Set every option; what is left open is as in the data file, if it is there."""
        super()._fill(before, given)
        if self.data and not (self.side and self.channels):
            with suppress(WorldError):  # `setup` reports it
                side, channels = own_images.size(self.data)
                found = {"side": self.side or side, "channels": self.channels or channels}
                if "validate_every" not in given and not own_images.has_validation(
                    self.data
                ):
                    found["validate_every"] = 0
                self.__dict__.update(found)
        return self


CONFIG = OwnImages


def setup(config: OwnImages) -> Problem:
    """Return the problem on the prepared file, which is read for the first task.

    Raises UsageError when the net does not fit the images, WorldError without a data file
    that says how large they are.
    """
    if not (config.side and config.channels):
        own_images.size(config.data)  # raises
    check_net(config.net, config.image)
    load = partial(own_images.load, config.data, config.side, config.channels)
    groups = partial(own_images.groups, config.data)
    return images.from_data(config, config.image, load, rotate=False, groups=groups)


def check_net(net: str, image: tuple[int, int, int]) -> None:
    """Raise UsageError for a net that does not fit images of a size (h, w, c)."""
    side, _, channels = image
    held = f"--net {net}: the images have {side} x {side} pixels"
    if net == "pooled" and side < POOLED:
        raise UsageError(
            f"{held}, and its 4 pools need {POOLED} x {POOLED} or more; use --net conv or"
            " dense, or prepare the images with --size 28"
        )
    if net == "dense" and (inputs := side * side * channels) > DENSE:
        raise UsageError(
            f"{held}, {inputs} inputs, more than {DENSE}; use --net conv or pooled, or"
            " prepare the images with --size 28"
        )


def stand_in(config: OwnImages) -> Problem:
    """Return the problem for a check of the gradients: on glyphs without a data file.

    Of images larger than glyphs it is on their middle, as for mini-ImageNet.
    """
    if not config.data:
        return glyphs.setup(config)
    if not config.side or config.side <= SIDE:
        return setup(config)
    found, classes = own_images.load(config.data, config.side, config.channels)
    return images.on_middle(config, found, classes, MIDDLE)
