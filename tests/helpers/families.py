"""Problems with small nets, of which the images are noise: glyphs take seconds to draw."""

import numpy as np

from tinymaml.experiments import images, problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine


SMALL = {"dtype": "float64", "activation": "tanh"}
NETS = {"sine": {"hidden": (5, 4), "shots": 4}, "images": {"filters": 3}}
NOISE = np.random.default_rng(2017).integers(0, 256, (14, 4, 10, 10), np.uint8)
CLASSES = {"train": np.arange(8), "val": np.arange(8, 14)}


def family(kind, algorithm, **options):
    """A problem of sine curves or of images in float64, with a smooth net."""
    options = SMALL | NETS[kind] | {"algorithm": algorithm} | options
    if kind == "sine":
        return problem(Sine(**options))
    return images.build(Glyphs(**options), NOISE, CLASSES, rotate=False)
