"""A user's own images, read from the .npz of `tinymaml prepare images`."""

from pathlib import Path

from tinymaml.data import prepared
from tinymaml.errors import UsageError
from tinymaml.maml import Array


PARTS = ("train", "val", "test")
LARGEST = 2**28  # bytes of the lists of rows and names
COMMAND = "images --from FOLDER"


def size(path: str | Path) -> tuple[int, int]:
    """Return the side of the images in pixels, and their channels, 1 or 3.

    Only headers are read. Raises WorldError when the file is missing or damaged.
    """
    with prepared.opened(path, COMMAND):
        shape = prepared.shape(path, "images")
        grey = len(shape) == 3
        if (not grey and (len(shape) != 4 or shape[3] != 3)) or shape[1] != shape[2]:
            raise ValueError(f"images of shape {shape}")
    return shape[1], 1 if grey else 3


def has_validation(path: str | Path) -> bool:
    """Return whether there are validation classes. Raises WorldError as `size`."""
    with prepared.opened(path, COMMAND):
        return prepared.shape(path, "val") != (0,)


def load(
    path: str | Path, side: int, channels: int
) -> tuple[Array | list[Array], dict[str, Array]]:
    """Return images uint8, a list of classes (images, side, side[, 3]), and {part: rows}.

    They stay in the file, which is mapped into memory and must not change meanwhile. A part
    without classes is left out.
    Raises WorldError when the file is missing or damaged, UsageError when it holds images
    of another size.
    """
    held, kinds = size(path), {1: "grey", 3: "RGB"}
    if held != (side, channels):
        found = f"{held[0]} x {held[0]} pixels, {kinds[held[1]]}"
        wanted = f"{side} x {side}, {kinds[channels]}"
        advice = f"prepare them with --size {side}{' --grey' * (channels == 1)}"
        raise UsageError(f"{str(path)!r} holds images of {found}, not {wanted}; {advice}")
    with prepared.opened(path, COMMAND):
        classes = prepared.arrays(path, PARTS, LARGEST)
        images = prepared.by_class(path, prepared.mapped(path, "images"), LARGEST)
    shape = (side, side) if channels == 1 else (side, side, channels)
    prepared.check(path, images, classes, shape)
    return images, {part: rows for part, rows in classes.items() if len(rows)}


def groups(path: str | Path) -> list[str]:
    """Return the group of each class, "" for none. Raises WorldError as `load`."""
    with prepared.opened(path, COMMAND):
        return prepared.arrays(path, ["groups"], LARGEST)["groups"].tolist()
