"""Classes of equal size, which every form of mini-ImageNet gives, and their .npz."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinymaml.prepare.files import failure, note, refuse, replacing


SPLITS = {"train": 64, "val": 16, "test": 20}  # classes per split in the csv files
IMAGES = 600  # per class in the csv files
SIDE = 84
IMAGE = SIDE, SIDE, 3
LABEL = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"  # allowed names of classes and files

Array = np.ndarray


class Source(NamedTuple):
    """Class names by split, the images per class, and the function that reads a class.

    read(name) -> (images, 84, 84, 3) uint8
    remarks: lines to print about the images
    """

    splits: dict[str, list[str]]
    images: int
    read: Callable[[str], Array]
    remarks: list[str]


def equal(where: Path, sizes: dict[str, int]) -> int:
    """Return the number of images that every class has; refuse classes with fewer."""
    images = max(sizes.values(), default=0)
    few = [f"{label} has {size}" for label, size in sizes.items() if size < images]
    refuse(where, few and [f"not all classes have {images} images: {few[0]}", *few[1:]])
    return images


def check_sizes(where: Path, source: Source) -> None:
    """Refuse other numbers of classes and images than mini-ImageNet's."""
    sizes = {split: len(names) for split, names in source.splits.items()}
    if sizes != SPLITS or source.images != IMAGES:
        found = ", ".join(f"{number} {split}" for split, number in sizes.items())
        expected = ", ".join(f"{number} {split}" for split, number in SPLITS.items())
        raise failure(
            where,
            f"{found} classes of {source.images} images; mini-ImageNet has {expected}"
            f" classes of {IMAGES}. For images of your own: --any-size",
        )


def write(path: Path, source: Source) -> tuple[dict[str, Array], str]:
    """Write the .npz class by class; return the small arrays and the images' hash.

    The hash is a sha256 over each class name, a newline and the bytes of its images.
    """
    names = sorted(name for names in source.splits.values() for name in names)
    arrays = {"names": np.array(names)}
    for split, members in source.splits.items():
        arrays[split] = np.flatnonzero(np.isin(names, members))
    shape = len(names), source.images, *IMAGE
    digest = hashlib.sha256()
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        info = zipfile.ZipInfo("images.npy")
        info.file_size = int(np.prod(shape, dtype=object))  # zipfile needs it beyond 4 GB
        with archive.open(info, "w") as member:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            for done, name in enumerate(names):
                note(f"{name}, {done + 1} of {len(names)}")
                images = source.read(name)
                digest.update(name.encode() + b"\n")
                digest.update(images.data)
                member.write(images.data)
    return arrays, digest.hexdigest()
