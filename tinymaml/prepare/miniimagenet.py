"""mini-ImageNet, in any of its usual forms, as one .npz.

The source is one of
- the images under the names in Ravi & Larochelle's csv files: in one folder, or in a
  folder for each class
- the images in SPLIT/CLASS/IMAGE, without csv files
- ImageNet's training images: a folder of class folders (n01532829/n01532829_28.JPEG), a
  folder of class tars (n01532829.tar), or ILSVRC2012_img_train.tar itself. The mapping
  from csv names to images is the one that other tools use: see imagenet.py
- the shared pickles: a folder with mini-imagenet-cache-{train,val,test}.pkl, or with
  miniImageNet_category_split_{train_phase_train,val,test}.pickle. They are not run
Other images need train.csv, val.csv and test.csv (filename,label or filename,class).

images         : (100, 600, 84, 84, 3) uint8, uncompressed, to be mapped into memory; of
                 classes of unequal sizes (all images, 84, 84, 3), with their `sizes`
names          : (100,) class labels, sorted; row i of images is names[i]
train, val, test: rows of names, ascending: 64, 16 and 20

Nothing is downloaded: ImageNet's terms forbid their redistribution.
Split: S. Ravi, H. Larochelle, Optimization as a Model for Few-Shot Learning, ICLR 2017.
"""

import io
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tinymaml.errors import UsageError
from tinymaml.prepare import folders, tables
from tinymaml.prepare.caches import find_pickles, from_pickles
from tinymaml.prepare.files import DATA_ERRORS, failure, naming, reason, refuse
from tinymaml.prepare.imagenet import Place, Places, find
from tinymaml.prepare.images import (
    IMAGE,
    SIDE,
    SPLITS,
    Array,
    Source,
    check_sizes,
    write,
)
from tinymaml.prepare.pictures import IMAGE_BYTES, LONGEST, PIXELS, quiet


# cbfinn/maml, proc_images.py, which then saves them as JPEG again; Ravi & Larochelle's
# loader, image.scale of torch; close to the INTER_AREA of mini-imagenet-tools.
FILTERS = "lanczos", "bilinear", "box"  # the first is the default
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")


# ----- The csv files -----


def read_table(folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return {label: file names} and {label: split} of the three csv files."""
    table: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    for split in SPLITS:
        path = folder / f"{split}.csv"
        for _, name, label, *_ in tables.read(path, head=("filename", "label")):
            if splits.setdefault(label, split) != split:
                raise failure(path, f"{label!r} is in {splits[label]}.csv too")
            table.setdefault(label, []).append(name)
    names = [name for names in table.values() for name in names]
    if len(set(names)) < len(names):
        raise failure(folder, "the csv files have an image twice")
    return table, splits


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
    places, by_order = find(source, table, splits)
    remarks = ["csv names mapped by ImageNet's order: not verified"] * by_order
    return _source(places, splits, resize, remarks)


def from_folders(source: Path, resize: str) -> Source:
    """Return the images of SPLIT/CLASS/IMAGE."""
    found = folders.find(source)
    if missing := [split for split in SPLITS if split not in found.parts.values()]:
        raise failure(source, f"no classes in {missing[0]}/")
    places = {
        name: [Place(file, 0, file.stat().st_size, str(file)) for file in files]
        for name, files in found.files.items()
    }
    return _source(places, found.parts, resize, found.remarks)


def _source(
    places: Places, splits: dict[str, str], resize: str, remarks: list[str]
) -> Source:
    read = partial(decode_class, places, Image.Resampling[resize.upper()])
    members = {split: [x for x in places if splits[x] == split] for split in SPLITS}
    sizes = {label: len(files) for label, files in places.items()}
    return Source(members, sizes, read, remarks)


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
    with ExitStack() as stack, quiet():
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
            elif table is None and _has_splits(source):
                found = from_folders(source, resize or FILTERS[0])
            else:
                folder = source if source.is_dir() else source.parent
                found = from_files(source, table or folder, resize or FILTERS[0])
        if not any_size:
            check_sizes(source, found)
        arrays, digest = write(out, found)
    rows = [f"{name:<10}{array.shape} {array.dtype}" for name, array in arrays.items()]
    return [*rows, f"sha256 of the images: {digest}", *found.remarks]


def _has_splits(source: Path) -> bool:
    """Return whether a folder has that of a split, and no csv file."""
    return (source / "train").is_dir() and not (source / "train.csv").exists()
