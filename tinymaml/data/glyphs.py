"""Glyphs: few-shot classes drawn here, so that images need no download.

A class is a few random strokes. A drawing of it repeats the strokes with random wobble.
Both have random streams of their class, so class 7 is the same among any number of classes.
"""

import itertools
import operator

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from tinymaml.maml import Array


SIDE = 28
SCALE = 4  # drawn larger and then reduced, since Pillow does not smooth edges
CURVE_POINTS = 12
STROKES = (2, 5)
LOW, HIGH = 0.18, 0.82  # extent of a class in each direction, as shares of the side
# Standard deviations of a drawing: of a stroke's control points and of the glyph's position
# (shares of the side); of its turn (radians); of its size and shear (ratios).
WOBBLE, SHIFT, TURN, STRETCH = 0.035, 0.03, 0.12, 0.08
PEN = (1.2, 1.9)  # pixels


def draw_classes(seed: int, classes: int, drawings: int = 20) -> Array:
    """Return images uint8 (classes, drawings, 28, 28), ink 255 on 0.

    The same seed gives the same glyphs; more classes or drawings add to them.
    Raises ValueError unless classes and drawings are 1 or more, TypeError for a seed that
    is not an integer.
    """
    if min(classes, drawings) < 1:
        raise ValueError(f"no glyphs in {classes} classes of {drawings} drawings")
    images = np.empty((classes, drawings, SIDE, SIDE), np.uint8)
    for index in range(classes):
        source = np.random.SeedSequence(operator.index(seed), spawn_key=(index,))
        shape, hand = map(np.random.default_rng, source.spawn(2))
        strokes = draw_strokes(shape)
        for drawing in images[index]:
            drawing[...] = render(wobble(hand, strokes), hand.uniform(*PEN))
    return images


def draw_strokes(rng: Generator) -> Array:
    """Draw a class: control points (strokes, 4, 2) of cubic Bezier curves, in [0, 1]^2.

    A stroke begins with probability 1/2 where the stroke before it ended. The class is
    stretched to LOW..HIGH, so that its position and size do not identify it.
    """
    strokes = rng.uniform(size=(rng.integers(*STROKES), 4, 2))
    for before, after in itertools.pairwise(strokes):
        if rng.random() < 0.5:
            after[0] = before[3]
    lines = bezier(strokes)
    least, most = lines.min((0, 1)), lines.max((0, 1))
    return LOW + (HIGH - LOW) * (strokes - least) / (most - least)


def wobble(rng: Generator, strokes: Array) -> Array:
    """Return the strokes of one drawing: randomly bent, turned, sized, sheared, moved."""
    bent = strokes + rng.normal(0, WOBBLE, strokes.shape)
    turn = rng.normal(0, TURN)
    wide, high = 1 + rng.normal(0, STRETCH, 2)
    shear = rng.normal(0, STRETCH)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    stretch = np.array([[wide, shear], [0, high]])
    return (bent - 0.5) @ (rotation @ stretch).T + 0.5 + rng.normal(0, SHIFT, 2)


def bezier(strokes: Array) -> Array:
    """Return points (strokes, CURVE_POINTS, 2) on the curves of strokes (strokes, 4, 2)."""
    t = np.linspace(0, 1, CURVE_POINTS)[:, None]
    bernstein = np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3])
    return bernstein @ strokes


def render(strokes: Array, pen: float) -> Array:
    """Draw strokes (strokes, 4, 2) with a pen of `pen` pixels: uint8 (28, 28)."""
    large = SIDE * SCALE
    image = Image.new("L", (large, large))
    canvas = ImageDraw.Draw(image)
    for line in bezier(strokes) * large:
        canvas.line([*map(tuple, line.tolist())], 255, round(pen * SCALE), "curve")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))
