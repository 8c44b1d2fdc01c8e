"""A few-shot task of a user's: a folder of the support set, and images to classify."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinymaml import fewshot
from tinymaml.maml import Array
from tinymaml.prepare import folders, pictures
from tinymaml.prepare.files import DATA_ERRORS, failure, reason, refuse


class Kind(NamedTuple):
    """The images that a net takes: their side in pixels, channels, and if black is 1."""

    side: int
    channels: int
    ink: bool

    def read(self, file: Path) -> Array:
        """Return an image uint8 (side, side[, 3]). Raises one of DATA_ERRORS."""
        return pictures.read(file, self.side, self.channels == 1)

    def inputs(self, images: Sequence[Array], dtype: str) -> Array:
        """Return the net's inputs (n, side, side, channels) in [0, 1]."""
        found = np.stack(images)
        return fewshot.pixels(255 - found if self.ink else found, dtype)


def classes(folder: Path, remarks: list[str]) -> dict[str, list[Path]]:
    """Return the images of each class of the support set, by its name.

    remarks: gains lines about files that are left out
    Raises WorldError when there are not two classes, or one has no images.
    """
    found = _below(folder, remarks)
    if () in found:
        raise failure(folder, "images without the sub-folder of a class")
    used = {path[0] for path in found}
    for name in sorted(os.listdir(folder)):
        if (folder / name).is_dir() and name not in used and not folders.is_junk(name):
            raise failure(folder / name, "no images")
    named = _named(folders.unwrapped(found))
    if len(named) < 2:
        only = ", ".join(map(repr, named)) or "no images in sub-folders"
        raise failure(folder, f"{only}: a task needs two classes")
    return named


def labelled(
    place: Path, names: Sequence[str], remarks: list[str]
) -> list[tuple[Path, int | None]]:
    """Return the images at a place, each with the number of its class if that is known.

    place: an image, a folder of images, or one with a sub-folder for each class
    Raises WorldError for a folder without images, or of a class that is not in `names`.
    """
    if not place.is_dir():
        return [(place, None)]
    found = _below(place, remarks)
    if not found:
        raise failure(place, f"no images ({' '.join(pictures.ENDINGS)})")
    if () in found:
        return [(file, None) for file in found[()]]
    named = _named(found)
    if not {*named} <= {*names}:
        named = _named(folders.unwrapped(found))
    for name, files in named.items():
        if name not in names:
            some = ", ".join(names[:5]) + ", ..." * (len(names) > 5)
            lack = f"{name!r} is no class of the support set ({some})"
            raise failure(files[0].parent, lack)
    return [(file, names.index(name)) for name, files in named.items() for file in files]


def _below(folder: Path, remarks: list[str]) -> dict[tuple[str, ...], list[Path]]:
    own: list[str] = []
    found = folders.below(folder, own)
    remarks += [f"{folder}: {line}" for line in own]
    return found


def _named(found: Mapping[tuple[str, ...], list[Path]]) -> dict[str, list[Path]]:
    named = {"/".join(path): files for path, files in found.items()}
    for name, files in named.items():
        if not name.isprintable():
            raise failure(f"{str(files[0].parent)!a:.99}", "the name cannot be printed")
    return named


def fault(file: Path, error: Exception) -> str:
    """Return a line about an image that cannot be read."""
    return f"{str(file)!r}: not a readable image: {' '.join(reason(error).split())}"


def read_all(folder: Path, kind: Kind, files: Sequence[Path]) -> list[Array]:
    """Return the images of a class. Raises WorldError naming those that cannot be read."""
    images, bad = [], []
    for file in files:
        try:
            images.append(kind.read(file))
        except DATA_ERRORS as error:
            bad.append(fault(file, error))
    refuse(folder, bad)
    return images
