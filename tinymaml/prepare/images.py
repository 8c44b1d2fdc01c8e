"""Classes of images and their .npz, which every form of mini-ImageNet gives."""

import hashlib
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from tinymaml.prepare.files import failure, note, refuse, replacing


SPLITS = {"train": 64, "val": 16, "test": 20}  # classes per split in the csv files
IMAGES = 600  # per class in the csv files
SIDE = 84
IMAGE = SIDE, SIDE, 3

Array = np.ndarray


class Source(NamedTuple):
    """Class names by split, the images per class, and the function that reads a class.

    sizes: class name -> number of its images
    read(name) -> (images, 84, 84, 3) uint8
    remarks: lines to print about the images
    """

    splits: dict[str, list[str]]
    sizes: dict[str, int]
    read: Callable[[str], Array]
    remarks: list[str]


def check_sizes(where: Path, source: Source) -> None:
    """Refuse other numbers of classes and images than mini-ImageNet's."""
    splits = {split: len(names) for split, names in source.splits.items()}
    most = max(source.sizes.values(), default=0)
    few = [f"{label} has {n}" for label, n in source.sizes.items() if n < most]
    one = f"not all classes have {most} images: {few[0] if few else ''}"
    advice = "for images of your own: --any-size"
    refuse(where, few and [f"{one} ({advice})", *few[1:]])
    if splits != SPLITS or most != IMAGES:
        found = ", ".join(f"{number} {split}" for split, number in splits.items())
        expected = ", ".join(f"{number} {split}" for split, number in SPLITS.items())
        raise failure(
            where,
            f"{found} classes of {most} images; mini-ImageNet has {expected}"
            f" classes of {IMAGES}. For images of your own: --any-size",
        )


def write(path: Path, source: Source) -> tuple[dict[str, Array], str]:
    """Write the .npz class by class; return its arrays' shapes by name and a hash.

    Classes of equal size have images (classes, images of each, 84, 84, 3). Others lie one
    after another, (all images, 84, 84, 3), and `sizes` has the number of images of each.
    The hash is a sha256 over each class name, a newline and the bytes of its images.
    """
    names = sorted(name for names in source.splits.values() for name in names)
    sizes = [source.sizes[name] for name in names]
    arrays = {"names": np.array(names)}
    for split, members in source.splits.items():
        arrays[split] = np.flatnonzero(np.isin(names, members))
    shape: tuple[int, ...] = len(names), sizes[0], *IMAGE
    if len({*sizes}) > 1:
        arrays["sizes"], shape = np.array(sizes), (sum(sizes), *IMAGE)
    digest = hashlib.sha256()

    def each() -> Iterator[Array]:
        for done, name in enumerate(names):
            note(f"{name}, {done + 1} of {len(names)}")
            images = source.read(name)
            digest.update(name.encode() + b"\n")
            digest.update(images.data)
            yield images

    with replacing(path) as file:
        save(file, arrays, shape, each())
    return {"images": np.broadcast_to(np.uint8(0), shape), **arrays}, digest.hexdigest()


def save(
    file: BinaryIO,
    arrays: dict[str, Array],
    shape: tuple[int, ...],
    images: Iterable[Array | bytes],
) -> None:
    """Write an .npz of arrays, and of images uint8 `shape` that come in parts."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        info = zipfile.ZipInfo("images.npy")
        info.file_size = int(np.prod(shape, dtype=object))  # zipfile needs it beyond 4 GB
        with archive.open(info, "w") as member:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            for part in images:
                member.write(part if isinstance(part, bytes) else part.data)
