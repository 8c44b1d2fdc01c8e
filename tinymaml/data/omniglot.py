"""Omniglot, read from the .npz of `tinymaml prepare omniglot`."""

from pathlib import Path

import numpy as np

from tinymaml.data import prepared
from tinymaml.errors import UsageError
from tinymaml.maml import Array


CHARACTERS, DRAWINGS, SIDE = 1623, 20, 28
SMALL = 136 + 659, 156 + 659  # with Lake's small background sets, for his split only
# For each split, its parts, and the lists of the file that each part joins.
PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "finn": {part: (f"finn_{part}",) for part in ("train", "val", "test")},
    "finn-1200": {"train": ("finn_train", "finn_val"), "test": ("finn_test",)},
    "vinyals": {part: (f"vinyals_{part}",) for part in ("train", "val", "test")},
    "lake": {part: (f"lake_{part}",) for part in ("train", "test")},
}
LARGEST = 100 * 2**20  # bytes unpacked; the real file has 26 MB


def load(path: str | Path, split: str) -> tuple[Array, dict[str, Array]]:
    """Return images uint8 (1623, 20, 28, 28), ink 255 on 0, and {part: class indices}.

    split: "finn" (1100/100/423), "finn-1200" (1200/423, validation classes joined to
        training), "vinyals" (1028/172/423) or "lake" (964 background, 659 evaluation)
    A file of a small background set has fewer characters, and the split "lake" only.
    Raises UsageError for an unknown split, WorldError when the file is missing or
    damaged; the message names the command that makes it.
    """
    if split not in PARTS:
        raise UsageError(f"no split {split!r}; there are {', '.join(PARTS)}")
    names = [name for lists in PARTS[split].values() for name in lists]
    with prepared.opened(path, "omniglot"):
        held = prepared.names(path)
    if split != "lake" and {x for x in held if x.endswith("_train")} == {"lake_train"}:
        lake = "it is of a small background set; add --split lake"
        raise UsageError(f"{str(path)!r} has no split {split!r}: {lake}")
    with prepared.opened(path, "omniglot"):
        images, *rows = prepared.arrays(path, ["images", *names], LARGEST).values()
    found = dict(zip(names, rows, strict=True))
    small = split == "lake" and len(images) in SMALL
    characters = len(images) if small else CHARACTERS
    prepared.check(path, images, found, (characters, DRAWINGS, SIDE, SIDE))
    parts = PARTS[split].items()
    return images, {
        part: np.concatenate([found[x] for x in lists]) for part, lists in parts
    }


def alphabets(path: str | Path) -> list[str]:
    """Return the alphabet of each character. Raises WorldError as `load`."""
    with prepared.opened(path, "omniglot"):
        names = prepared.arrays(path, ["names"], LARGEST)["names"].tolist()
        return [name.partition("/")[0] for name in names]
