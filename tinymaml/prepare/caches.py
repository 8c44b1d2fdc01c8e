"""The two forms in which mini-ImageNet is shared as pickles, one for each split.

cache : {"image_data": images, "class_dict": {class name: [index]}}, as
        renmengye/few-shot-ssl-public writes it (fewshot/data/mini_imagenet.py), and
        torchmeta and learn2learn read it
labels: {"data": images, "labels": [label], "catname2label": {class name: label}}, as
        gidariss/FewShotWithoutForgetting reads it (dataloader.py)

images is a NumPy array uint8 (number, 84, 84, 3). No pickle is run (see pickles.py).
"""

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from tinymaml.prepare.files import failure, naming
from tinymaml.prepare.images import IMAGE, SIDE, Array, Source
from tinymaml.prepare.pickles import OPCODES, Call, Global, Span, load, text
from tinymaml.prepare.tables import is_name


PICKLES = {  # the names of a split's pickle
    "train": (
        "mini-imagenet-cache-train.pkl",
        "miniImageNet_category_split_train_phase_train.pickle",
    ),
    "val": (
        "mini-imagenet-cache-val.pkl",
        "mini-imagenet-cache-validation.pkl",  # learn2learn's name
        "miniImageNet_category_split_val.pickle",
    ),
    "test": ("mini-imagenet-cache-test.pkl", "miniImageNet_category_split_test.pickle"),
}
PICKLE_BYTES = 1 << 31  # nearly twice the largest: protocol 2, written by Python 3
IMAGE_BYTES = SIDE * SIDE * 3
WRONG = "not a readable pickle of mini-ImageNet"

# The functions that make an array in NumPy 1 and 2: up to protocol 4, and in protocol 5.
ARRAY = {f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")}
BUFFER = {f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")}
# The state of NumPy's uint8: a version, the byte order, and nothing special.
UINT8_STATE = (3, "|", None, None, None, -1, -1, 0)

Classes = dict[str, list[int]]


class Pixels(NamedTuple):
    """Images uint8 (84, 84, 3) that stay in a file, as bytes or as text (see _starts).

    starts: where each image begins, and where the last one ends
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
    """Return the pickle of each split; {} when the folder has none of them."""
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


def from_pickles(
    paths: dict[str, Path], expected: tuple[str, ...], stack: ExitStack
) -> Source:
    """Return the images of three pickles, whose sha256 are checked before they are read.

    expected: the allowed sha256; () allows any
    stack: closes the files
    """
    remarks, splits, where = [], {}, {}
    for path in paths.values():
        with naming(path), path.open("rb") as file:
            if path.stat().st_size > PICKLE_BYTES:
                raise failure(path, f"more than {PICKLE_BYTES} bytes")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if expected and digest not in expected:
            raise failure(path, f"its sha256 is {digest}, not one of --sha256")
        remarks.append(f"sha256 of {path.name}: {digest}")
    for split, path in paths.items():
        with naming(path, WRONG):
            classes, pixels = read_classes(stack.enter_context(path.open("rb")))
        splits[split] = [*classes]
        for name, indices in classes.items():
            if not is_name(name):
                raise failure(path, f"{name!r:.99} is no class label")
            if name in where:
                raise failure(path, f"{name!r} is in another split too")
            where[name] = path, pixels, indices

    def read(name: str) -> Array:
        path, pixels, indices = where[name]
        with naming(path, WRONG):
            return pixels.read(indices)

    sizes = {name: len(indices) for name, (_, _, indices) in where.items()}
    return Source(splits, sizes, read, remarks)


def read_classes(file: BinaryIO) -> tuple[Classes, Pixels]:
    """Return {class name: indices of its images}, and the images, of one pickle.

    Raises ValueError when it has neither form, OSError when it cannot be read.
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
    for name, indices in classes.items():
        if type(indices) is not list or not all(_is_index(i, count) for i in indices):
            raise ValueError(f"{name!r:.99} is not a list of indices below {count}")
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
        raise ValueError("labels has a value that is not a small integer")
    if type(names) is not dict or not all(type(x) is int for x in names.values()):
        raise ValueError("catname2label does not map names to labels")
    named = {label: name for name, label in _by_text(names).items()}
    classes: Classes = {}
    for index, label in enumerate(labels):
        classes.setdefault(named.get(label, f"label{label:03}"), []).append(index)
    if len(classes) < len({*labels}):
        raise ValueError("catname2label gives two labels one name")
    return classes


def _pixels(file: BinaryIO, array: object) -> Pixels:
    match array:
        case Call(Global(name), _, (_, shape, dtype, is_fortran, data)) if name in ARRAY:
            pass
        case Call(Global(name), (data, dtype, shape, order)) if name in BUFFER:
            is_fortran = order != "C"
        case _:
            raise ValueError("the images are not a NumPy array")
    match dtype:
        case Call(Global("numpy.dtype"), ("u1", *_)) if dtype.state == UINT8_STATE:
            pass
        case _:
            raise ValueError("the images are not uint8")
    if is_fortran:
        raise ValueError("the images are not in C order")
    if type(shape) is not tuple or shape[1:] != IMAGE or not _is_index(shape[0], OPCODES):
        raise ValueError(f"the images are not of shape (number, {SIDE}, {SIDE}, 3)")
    match data:
        case Call(Global("_codecs.encode"), (Span(is_text=True) as span, "latin1")) | (
            Span(is_text=False) as span
        ):
            starts = _starts(file, span, shape[0])
            if len(starts) == shape[0] + 1 and starts[-1] == span.start + span.size:
                return Pixels(file, starts, span.is_text)
    size = shape[0] * IMAGE_BYTES
    raise ValueError(f"the images are not the {size} bytes that their shape needs")


def _starts(file: BinaryIO, span: Span, count: int) -> Sequence[int]:
    """Return where the images of a string begin, and where the last one ends.

    The string is not `count` images when other than `count` + 1 places are returned.
    Protocol 2 of Python 3 keeps bytes as characters of UTF-8. They take one or two bytes
    each, so they have to be counted.
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
