"""Prepared data: the .npz files of `tinymaml prepare`, read without trusting them."""

import math
import os
import struct
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tinymaml.errors import DAMAGE, WorldError
from tinymaml.maml import Array


# A member's local header has LOCAL_HEADER bytes and then two fields of variable size, whose
# sizes stand at LENGTHS; the data follow (APPNOTE.TXT of PKWARE, section 4.3.7).
LOCAL_HEADER, LENGTHS = 30, slice(26, 30)
CHUNK = 2**20  # bytes


@contextmanager
def opened(path: str | Path, name: str) -> Iterator[None]:
    """Turn every error of a data file into a WorldError of one line.

    name: of the data for `tinymaml prepare`, which makes the file; for the message
    """
    hint = f"make it with: tinymaml prepare {name} --out FILE"
    if not path:
        raise WorldError(f"no data file given (--data FILE); {hint}")
    if not Path(path).is_file():
        moved = "if it has moved, add --data FILE"
        raise WorldError(f"no data file {str(path)!r}; {moved}, else {hint}")
    try:
        yield
    except DAMAGE as error:
        raise WorldError(f"{str(path)!r} is damaged or not ours; {hint}") from error


def arrays(path: str | Path, names: Collection[str], most: int) -> dict[str, Array]:
    """Return the named arrays of an .npz.

    most: the largest allowed sum of their bytes; a damaged file may claim any size
    """
    with zipfile.ZipFile(path) as archive:
        size = sum(archive.getinfo(f"{name}.npy").file_size for name in names)
        if size > most:
            raise ValueError(f"it claims {size} bytes")
        found = {}
        for name in names:
            with archive.open(f"{name}.npy") as file:
                found[name] = np.lib.format.read_array(file, allow_pickle=False)
    return found


def names(path: str | Path) -> set[str]:
    """Return the names of the arrays of an .npz."""
    with zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


def shape(path: str | Path, name: str) -> tuple[int, ...]:
    """Return the shape of an array of an .npz; only its header is read."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        np.lib.format.read_magic(file)
        return np.lib.format.read_array_header_1_0(file)[0]


def mapped(path: str | Path, name: str) -> Array:
    """Return an uncompressed uint8 array of an .npz, read-only, left in the file.

    The system loads pages as they are used, and drops them when memory is short. The
    checksum is verified first, which reads the file once.
    """
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError("it is compressed")
        with archive.open(info) as member:  # checks the local header too
            if np.lib.format.read_magic(member) != (1, 0):
                raise ValueError("it has another version of NumPy's format")
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
            begin = member.tell()
            while member.read(CHUNK):  # raises when the checksum is wrong
                pass
        file.seek(info.header_offset)
        lengths = struct.unpack("<HH", file.read(LOCAL_HEADER)[LENGTHS])
        offset = info.header_offset + LOCAL_HEADER + sum(lengths) + begin
        size = math.prod(shape)
        if fortran_order or dtype != np.uint8 or size != info.file_size - begin:
            raise ValueError(f"it is {dtype} {shape}, of {info.file_size - begin} bytes")
        if offset + size > os.fstat(file.fileno()).st_size:
            raise ValueError("it ends too early")
        return np.asarray(np.memmap(file, np.uint8, "r", offset, shape))


def by_class(path: str | Path, images: Array, most: int) -> Array | list[Array]:
    """Return images by class: as they are, or cut into classes of unequal `sizes`.

    images: (classes, images of each, ...), or (all images, ...) in a file with `sizes`
    most: as in `arrays`
    """
    if "sizes" not in names(path):
        return images
    sizes = arrays(path, ["sizes"], most)["sizes"]
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or not len(sizes):
        raise ValueError(f"sizes are {sizes.dtype} {sizes.shape}")
    if sizes.min() < 1 or sizes.max() > len(images) or sum(sizes.tolist()) != len(images):
        raise ValueError(f"sizes do not add up to {len(images)} images")
    return np.split(images, np.cumsum(sizes)[:-1])


def check(
    path: str | Path,
    images: Array | list[Array],
    classes: dict[str, Array],
    shape: tuple[int, ...],
) -> None:
    """Raise WorldError unless images are uint8 `shape` and classes partition their rows.

    shape: of all images; of one image where `images` is a list of classes
    """
    found = images if isinstance(images, np.ndarray) else images[0][0]
    if found.shape != shape or found.dtype != np.uint8:
        held = f"{found.dtype} {found.shape}"
        raise WorldError(f"{str(path)!r} holds images {held}, not uint8 {shape}")
    for part, rows in classes.items():
        if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
            found = f"{rows.dtype} {rows.shape}"
            raise WorldError(f"{str(path)!r}: {part!r} is {found}, not a list of rows")
    rows = np.concatenate([*classes.values()])
    if sorted(rows.tolist()) != list(range(len(images))):
        raise WorldError(f"{str(path)!r}: the split is not a partition of the classes")
