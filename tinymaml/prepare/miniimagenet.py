"""mini-ImageNet, in any of its usual forms, as one .npz.

The source is one of
- the images under the names in Ravi & Larochelle's csv files: in one folder, or in a
  folder for each class
- ImageNet's training images: a folder of class folders (n01532829/n01532829_28.JPEG), a
  folder of class tars (n01532829.tar), or ILSVRC2012_img_train.tar itself. The mapping
  from csv names to images is the one that other tools use: see imagenet.py
- the shared pickles: a folder with mini-imagenet-cache-{train,val,test}.pkl, or with
  miniImageNet_category_split_{train_phase_train,val,test}.pickle. They are not run
Images need train.csv, val.csv and test.csv (filename,label); pickles need none.

images         : (100, 600, 84, 84, 3) uint8, uncompressed, to be mapped into memory
names          : (100,) class labels, sorted; row i of images is names[i]
train, val, test: rows of names, ascending: 64, 16 and 20

Nothing is downloaded: ImageNet's terms forbid their redistribution.
Split: S. Ravi, H. Larochelle, Optimization as a Model for Few-Shot Learning, ICLR 2017.
"""

import csv
import io
import re
import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tinymaml.errors import UsageError
from tinymaml.prepare.caches import find_pickles, from_pickles
from tinymaml.prepare.files import DATA_ERRORS, failure, naming, reason, refuse
from tinymaml.prepare.imagenet import Place, find
from tinymaml.prepare.images import (
    IMAGE,
    LABEL,
    SIDE,
    SPLITS,
    Array,
    Source,
    check_sizes,
    equal,
    write,
)


# cbfinn/maml, proc_images.py, which then saves them as JPEG again; Ravi & Larochelle's
# loader, image.scale of torch; close to the INTER_AREA of mini-imagenet-tools.
FILTERS = "lanczos", "bilinear", "box"  # the first is the default
CSV_BYTES = 1 << 24  # ten times the largest
IMAGE_BYTES, PIXELS = 1 << 26, 1 << 26  # of one image; ImageNet's have a few megabytes
LONGEST = 65_535  # pixels of a side, JPEG's limit; resizing takes memory by the side
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")


# ----- The csv files -----


def read_table(folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return {label: file names} and {label: split} of the three csv files."""
    table: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    for split in SPLITS:
        path = folder / f"{split}.csv"
        for name, label in read_csv(path):
            if splits.setdefault(label, split) != split:
                raise failure(path, f"{label!r} is in {splits[label]}.csv too")
            table.setdefault(label, []).append(name)
    names = [name for names in table.values() for name in names]
    if len(set(names)) < len(names):
        raise failure(folder, "the csv files have an image twice")
    return table, splits


def read_csv(path: Path) -> list[list[str]]:
    """Return the rows filename, label of one csv file."""
    with naming(path, "not a readable csv file"):
        if not path.is_file():
            raise failure(path, "no such file; --csv FOLDER has the csv files")
        with path.open("rb") as file:
            data = file.read(CSV_BYTES + 1)
        if len(data) > CSV_BYTES:
            raise ValueError(f"more than {CSV_BYTES} bytes")
        head, *rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    while rows and not rows[-1]:  # blank lines
        rows.pop()
    if head != ["filename", "label"]:
        raise failure(path, "its first line is not filename,label")
    if not rows:
        raise failure(path, "no images in line 2")
    wrong = [
        f"line {i}"
        for i, row in enumerate(rows, 2)
        if len(row) != 2 or not all(re.fullmatch(LABEL, word) for word in row)
    ]
    refuse(path, wrong and [f"not a file name and a label in {wrong[0]}", *wrong[1:]])
    return rows


# ----- Images -----


def decode(place: Place, resize: Image.Resampling) -> Array:
    """Return one image, (84, 84, 3) uint8; grey and CMYK ones become RGB."""
    with place.path.open("rb") as file:
        file.seek(place.start)
        data = file.read(min(place.size, IMAGE_BYTES + 1))
    if len(data) > IMAGE_BYTES:
        raise ValueError(f"more than {IMAGE_BYTES} bytes")
    # One of ImageNet's JPEGs is a PNG (n02105855_2933.JPEG).
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
        if image.width * image.height > PIXELS or max(image.size) > LONGEST:
            raise ValueError(f"{image.width} x {image.height} pixels")
        if image.mode not in MODES:
            raise ValueError(f"of mode {image.mode}")
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE), resize))


def decode_class(
    places: dict[str, list[Place]], resize: Image.Resampling, label: str
) -> Array:
    """Return the images of one class; the failure names the first unreadable ones."""
    images, wrong = np.empty((len(places[label]), *IMAGE), np.uint8), []
    for image, place in zip(images, places[label], strict=True):
        try:
            image[...] = decode(place, resize)
        except DATA_ERRORS as error:
            wrong.append(f"{place.name}: not a readable JPEG or PNG: {reason(error)}")
    refuse(Path(label), wrong)
    return images


def from_files(source: Path, folder: Path, resize: str) -> Source:
    """Return the images that the csv files in `folder` name."""
    table, splits = read_table(folder)
    images = equal(folder, {label: len(names) for label, names in table.items()})
    places, by_order = find(source, table, splits)
    remarks = ["csv names mapped by ImageNet's order: not verified"] * by_order
    read = partial(decode_class, places, Image.Resampling[resize.upper()])
    members = {split: [x for x in table if splits[x] == split] for split in SPLITS}
    return Source(members, images, read, remarks)


def prepare(
    source: Path,
    out: Path,
    *,
    table: Path | None = None,
    resize: str | None = None,
    hashes: tuple[str, ...] = (),
    any_size: bool = False,
) -> list[str]:
    """Write the .npz of the images in a folder or tar; return lines about them.

    table: folder of the csv files, that of the source by default
    resize: one of FILTERS; hashes: the allowed sha256 of pickles, () for any
    any_size: accept other numbers of classes and images than mini-ImageNet's
    Raises UsageError for options that are not for this source, WorldError for wrong data.
    """
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of EXIF data, which some of ImageNet's lack
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with naming(source):
            if source.is_file() and source.suffix != ".tar":
                advice = "give the folder of the pickles, or unpack other archives"
                raise failure(source, f"neither a folder nor a .tar; {advice}")
            pickles = find_pickles(source)
            if pickles and (table or resize):
                raise UsageError("--csv and --resize are not for pickles")
            if hashes and not pickles:
                raise UsageError("--sha256 is for pickles")
            if pickles:
                found = from_pickles(pickles, hashes, stack)
            else:
                folder = source if source.is_dir() else source.parent
                found = from_files(source, table or folder, resize or FILTERS[0])
        if not any_size:
            check_sizes(source, found)
        arrays, digest = write(out, found)
    shape = len(arrays["names"]), found.images, *IMAGE
    rows = [f"{'images':<10}{shape} uint8"]
    rows += [f"{name:<10}{array.shape} {array.dtype}" for name, array in arrays.items()]
    return [*rows, f"sha256 of the images: {digest}", *found.remarks]
