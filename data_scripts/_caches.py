"""The two forms in which mini-ImageNet is shared as pickles, one for each split.

cache : {"image_data": images, "class_dict": {class name: [index]}}, as
        renmengye/few-shot-ssl-public writes it (fewshot/data/mini_imagenet.py), and
        torchmeta and learn2learn read it
labels: {"data": images, "labels": [label], "catname2label": {class name: label}}, as
        gidariss/FewShotWithoutForgetting reads it (dataloader.py)

images is a NumPy array uint8 (number, 84, 84, 3). Nothing here runs a pickle (_pickles.py).
"""

import codecs
import hashlib
import re
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple

import numpy as np

from _files import failure, naming
from _images import IMAGE, LABEL, SIDE, Array, Source, equal
from _pickles import OPCODES, Call, Span, load, text


PICKLES = {  # names that a split's pickle has
    "train": (
        "mini-imagenet-cache-train.pkl",
        "miniImageNet_category_split_train_phase_train.pickle",
    ),
    "val": (
        "mini-imagenet-cache-val.pkl",
        "mini-imagenet-cache-validation.pkl",  # as learn2learn names it
        "miniImageNet_category_split_val.pickle",
    ),
    "test": ("mini-imagenet-cache-test.pkl", "miniImageNet_category_split_test.pickle"),
}
PICKLE_BYTES = 1 << 31  # nearly twice the largest, as protocol 2 of Python 3 has it
IMAGE_BYTES = SIDE * SIDE * 3
CHUNK = 1 << 20  # bytes

# As NumPy 1 and 2 name what makes an array, up to protocol 4 and in protocol 5.
ARRAY = {f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")}
BUFFER = {f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")}
# What NumPy keeps about uint8: a version, the byte order, and nothing special.
UINT8_STATE = (3, "|", None, None, None, -1, -1, 0)

Classes = dict[str, list[int]]


class Pixels(NamedTuple):
    """Images uint8 (count, 84, 84, 3), left in a file."""

    file: BinaryIO
    start: int
    count: int

    def read(self, indices: list[int]) -> Array:
        """Return the images of these indices, (len(indices), 84, 84, 3)."""
        images = np.empty((len(indices), *IMAGE), np.uint8)
        for image, index in zip(images, indices, strict=True):
            self.file.seek(self.start + index * IMAGE_BYTES)
            data = self.file.read(IMAGE_BYTES)
            image[...] = np.frombuffer(data, np.uint8).reshape(IMAGE)
        return images


def find_pickles(folder: Path) -> dict[str, Path]:
    """Return the pickle of each split, nothing when the folder has none of them."""
    found = {}
    for split, names in PICKLES.items():
        there = [name for name in names if (folder / name).is_file()]
        if len(there) > 1:
            raise failure(folder, f"{there[0]} and {there[1]}: keep one of them")
        if there:
            found[split] = folder / there[0]
    if found and (missing := [split for split in PICKLES if split not in found]):
        raise failure(folder, f"no {PICKLES[missing[0]][0]} beside the other pickles")
    return found


def sha256_of(path: Path) -> str:
    """Return the hash of a file, read in pieces."""
    with naming(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def from_pickles(
    paths: dict[str, Path], expected: tuple[str, ...], stack: ExitStack
) -> Source:
    """Return the images in three pickles, whose hashes are looked at first.

    stack: what closes them
    """
    told, splits, where, sizes = [], {}, {}, {}
    for path in paths.values():
        with naming(path):
            if path.stat().st_size > PICKLE_BYTES:
                raise failure(path, f"more than {PICKLE_BYTES} bytes")
        digest = sha256_of(path)
        if expected and digest not in expected:
            raise failure(path, f"its sha256 is {digest}, not one of --sha256")
        told.append(f"sha256 of {path.name}: {digest}")
    for split, path in paths.items():
        with naming(path):
            file = stack.enter_context(path.open("rb"))
            try:
                classes, pixels = read_classes(file, stack)
            except (ValueError, MemoryError) as error:
                raise failure(path, f"not a pickle of mini-ImageNet: {error}") from error
        splits[split] = [*classes]
        for name, indices in classes.items():
            if not re.fullmatch(LABEL, name):
                raise failure(path, f"{name!r:.99} is no class label")
            if name in where:
                raise failure(path, f"{name!r} is in another split too")
            where[name], sizes[name] = (path, pixels, indices), len(indices)

    def read(name: str) -> Array:
        path, pixels, indices = where[name]
        with naming(path):
            return pixels.read(indices)

    return Source(splits, equal(paths["train"].parent, sizes), read, told)


def read_classes(file: BinaryIO, stack: ExitStack) -> tuple[Classes, Pixels]:
    """Return {class name: indices of its images}, and the images, of one pickle.

    stack: what closes the file that the images are moved to, if they have to be
    Raises ValueError when it is neither form, OSError when it cannot be read.
    """
    content = load(file)
    if type(content) is not dict:
        raise ValueError("it is not a dict")
    content = {text(key): value for key, value in content.items()}
    if {"image_data", "class_dict"} <= content.keys():
        pixels = _pixels(file, content["image_data"], stack)
        return _classes(content["class_dict"], pixels.count), pixels
    if {"data", "labels"} <= content.keys():
        pixels = _pixels(file, content["data"], stack)
        names = content.get("catname2label", {})
        return _by_label(content["labels"], names, pixels.count), pixels
    raise ValueError("it holds neither image_data and class_dict nor data and labels")


# ----- Classes -----


def _is_index(value: object, below: int) -> bool:
    return type(value) is int and 0 <= value < below


def _classes(class_dict: object, count: int) -> Classes:
    if type(class_dict) is not dict:
        raise ValueError("class_dict is not a dict")
    seen: set[int] = set()
    for indices in class_dict.values():
        if type(indices) is not list or not all(_is_index(i, count) for i in indices):
            raise ValueError(f"class_dict has what is not a list of indices below {count}")
        if len({*indices} - seen) < len(indices):
            raise ValueError("class_dict has an image twice")
        seen.update(indices)
    return {text(name): indices for name, indices in class_dict.items()}


def _by_label(labels: object, names: object, count: int) -> Classes:
    if type(labels) is not list or len(labels) != count:
        raise ValueError(f"labels is not a list of {count}, one for each image")
    if not all(_is_index(label, OPCODES) for label in labels):
        raise ValueError("labels has what is not a small integer")
    if type(names) is not dict or not all(type(x) is int for x in names.values()):
        raise ValueError("catname2label does not map names to labels")
    found: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        found.setdefault(label, []).append(index)
    named = {label: text(name) for name, label in names.items()}
    classes = {named.get(label, f"label{label:03}"): rows for label, rows in found.items()}
    if len(classes) < len(found):
        raise ValueError("catname2label gives two labels one name")
    return classes


# ----- Images -----


def _pixels(file: BinaryIO, array: object, stack: ExitStack) -> Pixels:
    shape, dtype, is_fortran, data = _parts(array)
    if not _is_uint8(dtype) or is_fortran:
        raise ValueError("the images are not uint8 in C order")
    if type(shape) is not tuple or shape[1:] != IMAGE or not _is_index(shape[0], OPCODES):
        raise ValueError(f"the images are not of shape (number, {SIDE}, {SIDE}, 3)")
    size = shape[0] * IMAGE_BYTES
    if isinstance(data, Call) and data.function.name == "_codecs.encode":
        file, data = _encoded(file, data.args, stack)
    if not isinstance(data, Span) or data.is_text or data.size != size:
        raise ValueError(f"the images are not the {size} bytes that their shape wants")
    return Pixels(file, data.start, shape[0])


def _parts(array: object) -> tuple:
    """Return an array's shape, dtype, whether it is in Fortran's order, and data."""
    name = array.function.name if isinstance(array, Call) else ""
    if name in ARRAY and type(array.state) is tuple and len(array.state) == 5:
        return array.state[1:]
    if name in BUFFER and len(array.args) == 4:
        data, dtype, shape, order = array.args
        return shape, dtype, order != "C", data
    raise ValueError("the images are not a NumPy array")


def _is_uint8(dtype: object) -> bool:
    return (
        isinstance(dtype, Call)
        and dtype.function.name == "numpy.dtype"
        and dtype.args[:1] == ("u1",)
        and dtype.state == UINT8_STATE
    )


def _encoded(file: BinaryIO, args: tuple, stack: ExitStack) -> tuple[BinaryIO, Span]:
    """Return a file with the bytes that protocol 2 of Python 3 keeps as text."""
    if len(args) != 2 or not isinstance(args[0], Span) or args[1] != "latin1":
        raise ValueError("the images are text that does not stand for bytes")
    plain = stack.enter_context(TemporaryFile())  # noqa: SIM115
    decoder = codecs.getincrementaldecoder("utf-8")()
    file.seek(args[0].start)
    for left in range(args[0].size, 0, -CHUNK):
        data = file.read(min(left, CHUNK))
        plain.write(decoder.decode(data, left <= CHUNK).encode("latin-1"))
    return plain, Span(0, plain.tell(), False)
