"""The two forms in which mini-ImageNet is shared as pickles, one for each split.

cache : {"image_data": images, "class_dict": {class name: [index]}}, as
        renmengye/few-shot-ssl-public writes it (fewshot/data/mini_imagenet.py), and
        torchmeta and learn2learn read it
labels: {"data": images, "labels": [label], "catname2label": {class name: label}}, as
        gidariss/FewShotWithoutForgetting reads it (dataloader.py)

images is a NumPy array uint8 (number, 84, 84, 3). No pickle is run (see pickles.py).
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from tinymaml.prepare.files import failure, naming
from tinymaml.prepare.images import IMAGE, SIDE, Array, Source
from tinymaml.prepare.pickles import (
    OPCODES,
    RAW,
    REPR,
    UTF8,
    Call,
    Global,
    Span,
    load,
    raw,
    text,
)
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

# The functions that make an array in NumPy 1 and 2: up to protocol 4, and in protocol 5;
# and the one that makes an integer.
ARRAY = {f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")}
BUFFER = {f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")}
SCALAR = {f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")}
# The state of a NumPy type: a version, the byte order, and nothing special.
UINT8_STATE = (3, "|", None, None, None, -1, -1, 0)
INTEGERS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
LONGEST = {UTF8: 2, RAW: 6, REPR: 4}  # bytes of a character

Classes = dict[str, list[int]]


class Pixels(NamedTuple):
    """Images uint8 (84, 84, 3) that stay in a file, as bytes or as text (see _starts).

    starts: where each image begins, and where the last one ends
    coding: of `pickles.Span`
    """

    file: BinaryIO
    starts: Sequence[int]
    coding: str

    def read(self, indices: list[int]) -> Array:
        """Return the images of these indices, (len(indices), 84, 84, 3)."""
        images = np.empty((len(indices), *IMAGE), np.uint8)
        for image, index in zip(images, indices, strict=True):
            self.file.seek(self.starts[index])
            data = self.file.read(self.starts[index + 1] - self.starts[index])
            image[...] = np.frombuffer(raw(data, self.coding), np.uint8).reshape(IMAGE)
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
        return _classes(file, content["class_dict"], len(pixels.starts) - 1), pixels
    if {"data", "labels"} <= content.keys():
        pixels = _pixels(file, content["data"])
        names = content.get("catname2label", {})
        return _by_label(file, content["labels"], names, len(pixels.starts) - 1), pixels
    raise ValueError("it holds neither image_data and class_dict nor data and labels")


def _by_text(named: dict) -> dict:
    by_text = {text(name): value for name, value in named.items()}
    if len(by_text) < len(named):
        raise ValueError("a dict has one name twice, as text and as bytes")
    return by_text


def _is_index(value: object, below: int) -> bool:
    return type(value) is int and 0 <= value < below


def _integers(file: BinaryIO, value: object) -> list:
    """Return a list or a NumPy array of integers as a list; what else it holds stays."""
    if isinstance(value, Call) and (array := _array(value)):
        shape, dtype, data = array
        if not (form := _integer(dtype)) or len(shape) != 1:
            raise ValueError("an array is not a list of integers")
        found = np.frombuffer(_bytes(file, data), form)
        if shape != found.shape:
            raise ValueError("an array has another length than its shape")
        return found.tolist()
    if type(value) is not list:
        raise ValueError("it is not a list")
    return [_plain(file, item) for item in value]


def _plain(file: BinaryIO, value: object) -> object:
    """Return a NumPy integer as Python's; anything else as it is."""
    match value:
        case Call(Global(name), (dtype, data)) if name in SCALAR and _integer(dtype):
            found = np.frombuffer(_bytes(file, data), _integer(dtype))
            return int(found[0]) if found.size == 1 else value
    return value


def _integer(dtype: object) -> str:
    """Return NumPy's name of an integer type; "" for another."""
    match dtype:
        case Call(Global("numpy.dtype"), (name, *_)) if name in INTEGERS:
            order = dtype.state[1] if dtype.state in _states() else ""
            return f"{order}{name}" if order else ""
    return ""


def _states() -> list[tuple]:
    return [(3, order, *UINT8_STATE[2:]) for order in "|<>"]


def _bytes(file: BinaryIO, data: object) -> bytes:
    """Return the data of a small array."""
    match data:
        case bytes():
            return data
        case str():  # of Python 2
            return data.encode("latin-1")
        case Call(Global("_codecs.encode"), (str(letters), "latin1")):
            return letters.encode("latin-1")
        case Call(Global("_codecs.encode"), (Span(is_text=True) as span, "latin1")) | (
            Span(is_text=False) as span
        ) if span.size <= 8 * OPCODES:
            file.seek(span.start)
            return raw(file.read(span.size), span.coding)
    raise ValueError("an array has no data")


def _array(value: object) -> tuple[tuple, object, object] | None:
    """Return shape, dtype and data of a NumPy array in C order; None for anything else."""
    match value:
        case Call(Global(name), _, (_, shape, dtype, is_fortran, data)) if name in ARRAY:
            pass
        case Call(Global(name), (data, dtype, shape, order)) if name in BUFFER:
            is_fortran = order != "C"
        case _:
            return None
    if type(shape) is not tuple:
        return None
    if is_fortran and len(shape) > 1:
        raise ValueError("the images are not in C order")
    return shape, dtype, data


def _classes(file: BinaryIO, class_dict: object, count: int) -> Classes:
    if type(class_dict) is not dict:
        raise ValueError("class_dict is not a dict")
    classes = {}
    for name, value in _by_text(class_dict).items():
        with _about(name):
            classes[name] = _integers(file, value)
    seen: set[int] = set()
    for name, indices in classes.items():
        if not all(_is_index(i, count) for i in indices):
            raise ValueError(f"{name!r:.99} is not a list of indices below {count}")
        if len({*indices} - seen) < len(indices):
            raise ValueError("class_dict has an image twice")
        seen.update(indices)
    if len(seen) < count:
        raise ValueError(f"class_dict leaves out {count - len(seen)} of the images")
    return classes


@contextmanager
def _about(name: str) -> Iterator[None]:
    """Begin the message of a ValueError with what it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name!r:.99} is not a list of indices: {error}") from error


def _by_label(file: BinaryIO, labels: object, names: object, count: int) -> Classes:
    with _about("labels"):
        labels = _integers(file, labels)
    if len(labels) != count:
        raise ValueError(f"labels is not a list of {count}, one for each image")
    if not all(_is_index(label, OPCODES) for label in labels):
        raise ValueError("labels has a value that is not a small integer")
    if type(names) is dict:
        names = {name: _plain(file, label) for name, label in names.items()}
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
    if not (found := isinstance(array, Call) and _array(array)):
        raise ValueError("the images are not a NumPy array")
    shape, dtype, data = found
    match dtype:
        case Call(Global("numpy.dtype"), ("u1", *_)) if dtype.state == UINT8_STATE:
            pass
        case _:
            raise ValueError("the images are not uint8")
    if shape[1:] != IMAGE or not _is_index(shape[0], OPCODES):
        raise ValueError(f"the images are not of shape (number, {SIDE}, {SIDE}, 3)")
    match data:
        case Call(Global("_codecs.encode"), (Span(is_text=True) as span, "latin1")) | (
            Span(is_text=False) as span
        ):
            starts = _starts(file, span, shape[0])
            if len(starts) == shape[0] + 1 and starts[-1] == span.start + span.size:
                return Pixels(file, starts, span.coding)
    size = shape[0] * IMAGE_BYTES
    raise ValueError(f"the images are not the {size} bytes that their shape needs")


def _starts(file: BinaryIO, span: Span, count: int) -> Sequence[int]:
    """Return where the images of a string begin, and where the last one ends.

    The string is not `count` images when other than `count` + 1 places are returned.
    Protocol 2 of Python 3 keeps bytes as characters of UTF-8, and protocol 0 has escapes.
    They take one or more bytes each, so they have to be counted.
    """
    end = span.start + span.size
    if not span.coding:
        return range(span.start, end + 1, IMAGE_BYTES)
    most = LONGEST[span.coding] * IMAGE_BYTES
    starts = [span.start]
    while starts[-1] < end and len(starts) <= count:
        file.seek(starts[-1])
        data = np.frombuffer(file.read(min(most, end - starts[-1])), np.uint8)
        characters = np.append(np.flatnonzero(_begins(data, span.coding)), data.size)
        if len(characters) <= IMAGE_BYTES:
            break
        starts.append(starts[-1] + int(characters[IMAGE_BYTES]))
    return starts


def _begins(data: Array, coding: str) -> Array:
    """Return where a character begins, True or False for each byte of a string."""
    if coding == UTF8:
        return data & 0xC0 != 0x80
    begins = np.ones(len(data), bool)
    escapes = np.flatnonzero(data == ord("\\"))
    lengths = np.full(len(escapes), LONGEST[coding])
    if coding == REPR:
        # Of two backslashes side by side, the second belongs to the first.
        first = np.flatnonzero(np.diff(escapes, prepend=-2) > 1)
        runs = np.repeat(escapes[first], np.diff(first, append=len(escapes)))
        escapes = escapes[(escapes - runs) % 2 == 0]
        after = data[np.minimum(escapes + 1, len(data) - 1)]
        lengths = np.where(after == ord("x"), LONGEST[REPR], 2)
    for place in range(1, LONGEST[coding]):
        inside = escapes[lengths > place] + place
        begins[inside[inside < len(data)]] = False
    return begins
