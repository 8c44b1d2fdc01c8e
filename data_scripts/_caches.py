"""The two forms in which mini-ImageNet is shared as pickles, one for each split.

cache : {"image_data": images, "class_dict": {class name: [index]}}, as
        renmengye/few-shot-ssl-public writes it (fewshot/data/mini_imagenet.py), and
        torchmeta and learn2learn read it
labels: {"data": images, "labels": [label], "catname2label": {class name: label}}, as
        gidariss/FewShotWithoutForgetting reads it (dataloader.py)

images is a NumPy array uint8 (number, 84, 84, 3). Nothing here runs a pickle (_pickles.py).
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from _files import failure, naming, reason
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

# As NumPy 1 and 2 name what makes an array, up to protocol 4 and in protocol 5.
ARRAY = {f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")}
BUFFER = {f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")}
# What NumPy keeps about uint8: a version, the byte order, and nothing special.
UINT8_STATE = (3, "|", None, None, None, -1, -1, 0)

Classes = dict[str, list[int]]


class Pixels(NamedTuple):
    """Images uint8 (84, 84, 3), left in a file as bytes, or as text (see _starts).

    starts: where each begins, and where the last one ends
    """

    file: BinaryIO
    starts: Sequence[int]
    is_text: bool

    def read(self, indices: list[int]) -> Array:
        """Return the images of these indices, (len(indices), 84, 84, 3)."""
        images = np.empty((len(indices), *IMAGE), np.uint8)
        for image, index in zip(images, indices, strict=True):
            self.file.seek(self.starts[index])
            data = self.file.read(self.starts[index + 1] - self.starts[index])
            if self.is_text:
                data = data.decode("utf-8").encode("latin-1")
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


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    with naming(path):
        try:
            yield
        except (ValueError, MemoryError) as error:
            told = f"not a pickle of mini-ImageNet: {reason(error)}"
            raise failure(path, told) from error


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
        with _reading(path):
            file = stack.enter_context(path.open("rb"))
            classes, pixels = read_classes(file)
        splits[split] = [*classes]
        for name, indices in classes.items():
            if not re.fullmatch(LABEL, name):
                raise failure(path, f"{name!r:.99} is no class label")
            if name in where:
                raise failure(path, f"{name!r} is in another split too")
            where[name], sizes[name] = (path, pixels, indices), len(indices)

    def read(name: str) -> Array:
        path, pixels, indices = where[name]
        with _reading(path):
            return pixels.read(indices)

    return Source(splits, equal(paths["train"].parent, sizes), read, told)


def read_classes(file: BinaryIO) -> tuple[Classes, Pixels]:
    """Return {class name: indices of its images}, and the images, of one pickle.

    Raises ValueError when it is neither form, OSError when it cannot be read.
    """
    content = load(file)
    if type(content) is not dict:
        raise ValueError("it is not a dict")
    content = _by_text(content)
    if {"image_data", "class_dict"} <= content.keys():
        pixels = _pixels(file, content["image_data"])
        return _classes(content["class_dict"], len(pixels.starts) - 1), pixels
    if {"data", "labels"} <= content.keys():
        pixels = _pixels(file, content["data"])
        names = content.get("catname2label", {})
        return _by_label(content["labels"], names, len(pixels.starts) - 1), pixels
    raise ValueError("it holds neither image_data and class_dict nor data and labels")


# ----- Classes -----


def _by_text(named: dict) -> dict:
    by_text = {text(name): value for name, value in named.items()}
    if len(by_text) < len(named):
        raise ValueError("a dict has one name twice, as text and as bytes")
    return by_text


def _is_index(value: object, below: int) -> bool:
    return type(value) is int and 0 <= value < below


def _classes(class_dict: object, count: int) -> Classes:
    if type(class_dict) is not dict:
        raise ValueError("class_dict is not a dict")
    classes = _by_text(class_dict)
    seen: set[int] = set()
    for indices in classes.values():
        if type(indices) is not list or not all(_is_index(i, count) for i in indices):
            raise ValueError(f"class_dict has what is not a list of indices below {count}")
        if len({*indices} - seen) < len(indices):
            raise ValueError("class_dict has an image twice")
        seen.update(indices)
    if len(seen) < count:
        raise ValueError(f"class_dict leaves out {count - len(seen)} of the images")
    return classes


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
    named = {label: name for name, label in _by_text(names).items()}
    classes = {named.get(label, f"label{label:03}"): rows for label, rows in found.items()}
    if len(classes) < len(found):
        raise ValueError("catname2label gives two labels one name")
    return classes


# ----- Images -----


def _pixels(file: BinaryIO, array: object) -> Pixels:
    shape, dtype, is_fortran, data = _parts(array)
    if not _is_uint8(dtype) or is_fortran:
        raise ValueError("the images are not uint8 in C order")
    if type(shape) is not tuple or shape[1:] != IMAGE or not _is_index(shape[0], OPCODES):
        raise ValueError(f"the images are not of shape (number, {SIDE}, {SIDE}, 3)")
    is_text = isinstance(data, Call) and data.function.name == "_codecs.encode"
    if is_text:
        data = data.args[0] if data.args[1:] == ("latin1",) else None
    starts: Sequence[int] = ()
    if isinstance(data, Span) and data.is_text == is_text:
        starts = _starts(file, data, shape[0])
    if len(starts) != shape[0] + 1 or starts[-1] != data.start + data.size:
        size = shape[0] * IMAGE_BYTES
        raise ValueError(f"the images are not the {size} bytes that their shape wants")
    return Pixels(file, starts, is_text)


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


def _starts(file: BinaryIO, span: Span, count: int) -> Sequence[int]:
    """Return where the images of a string begin, and where the last one ends.

    Others than `count` + 1 mean that the images are not whole. Protocol 2 of Python 3 keeps
    bytes as characters of UTF-8: one or two bytes each, so they have to be counted.
    """
    end = span.start + span.size
    if not span.is_text:
        return range(span.start, end + 1, IMAGE_BYTES)
    starts = [span.start]
    while starts[-1] < end and len(starts) <= count:
        file.seek(starts[-1])
        data = np.frombuffer(file.read(min(2 * IMAGE_BYTES, end - starts[-1])), np.uint8)
        characters = np.append(np.flatnonzero(data & 0xC0 != 0x80), data.size)
        if len(characters) <= IMAGE_BYTES:
            break
        starts.append(starts[-1] + int(characters[IMAGE_BYTES]))
    return starts
