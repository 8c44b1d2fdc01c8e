"""Turn mini-ImageNet, in any of the forms in which it is had, into one miniimagenet.npz.

    python data_scripts/miniimagenet.py --from SOURCE [--csv FOLDER] [--out FILE]

SOURCE is one of
- the images by the names in Ravi & Larochelle's csv files: a folder of them, or of a
  folder for each class
- ImageNet's training images: a folder of class folders (n01532829/n01532829_28.JPEG), a
  folder of class tars (n01532829.tar), or ILSVRC2012_img_train.tar itself. Which image a
  csv name means is what other tools take it to mean: see _imagenet.py
- the shared pickles: a folder with mini-imagenet-cache-{train,val,test}.pkl, or with
  miniImageNet_category_split_{train_phase_train,val,test}.pickle. They are not run
FOLDER has train.csv, val.csv and test.csv (filename,label); pickles need none.

images         : (100, 600, 84, 84, 3) uint8, uncompressed, to be mapped into memory
names          : (100,) class labels, sorted; row i of images is names[i]
train, val, test: rows of names, ascending: 64, 16 and 20

The images cannot be downloaded from here: ImageNet's terms forbid to pass them on.
Split: S. Ravi, H. Larochelle, Optimization as a Model for Few-Shot Learning, ICLR 2017.
"""

import csv
import io
import os
import re
import warnings
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click
import numpy as np
from click.core import ParameterSource
from PIL import Image, UnidentifiedImageError

from _caches import find_pickles, from_pickles
from _files import (
    DATA_ERRORS,
    FILE,
    FOLDER,
    check_out,
    ending,
    failure,
    naming,
    reason,
    refuse,
    tell,
)
from _imagenet import Place, find
from _images import IMAGE, LABEL, SIDE, SPLITS, Array, Source, check_sizes, equal, write


FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}
RESIZE_HELP = (
    "How images of other sizes become 84 x 84. lanczos: cbfinn/maml, proc_images.py (which"
    " then saves them as JPEG once more). bilinear: Ravi & Larochelle's loader, image.scale"
    " of torch. box: near to the INTER_AREA of mini-imagenet-tools."
)
CSV_BYTES = 1 << 24  # ten times the largest
IMAGE_BYTES, PIXELS = 1 << 26, 1 << 26  # of one image; ImageNet's have a few megabytes
LONGEST = 65_535  # pixels of a side, as of a JPEG's; resizing takes memory by the side
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
    with naming(path):
        if not path.is_file():
            raise failure(path, "no such file; --csv FOLDER says where the csv files are")
        with path.open("rb") as file:
            data = file.read(CSV_BYTES + 1)
    try:
        if len(data) > CSV_BYTES:
            raise ValueError(f"more than {CSV_BYTES} bytes")
        head, *rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    except (ValueError, csv.Error) as error:
        raise failure(path, f"not a csv file: {error}") from error
    while rows and not rows[-1]:  # blank lines
        rows.pop()
    if head != ["filename", "label"]:
        raise failure(path, "its first line is not filename,label")
    wrong = [
        f"line {i}"
        for i, row in enumerate(rows, 2)
        if len(row) != 2 or not all(re.fullmatch(LABEL, word) for word in row)
    ]
    if wrong or not rows:
        told = "no images" if not rows else "not a file name and a label"
        refuse(path, [f"{told} in {(wrong or ['line 2'])[0]}", *wrong[1:]])
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
    """Return the images of one class; name the first that cannot be read."""
    images, wrong = np.empty((len(places[label]), *IMAGE), np.uint8), []
    for image, place in zip(images, places[label], strict=True):
        try:
            image[...] = decode(place, resize)
        except (*DATA_ERRORS, MemoryError) as error:
            unknown = isinstance(error, UnidentifiedImageError)
            wrong.append(f"{place.name}: {'no JPEG or PNG' if unknown else reason(error)}")
    refuse(Path(label), wrong)
    return images


def from_files(source: Path, folder: Path, resize: str) -> Source:
    """Return the images that the csv files in `folder` name."""
    table, splits = read_table(folder)
    images = equal(folder, {label: len(names) for label, names in table.items()})
    places, by_order = find(source, table, splits)
    told = ["the csv names were counted in ImageNet's order: not verified"] * by_order
    members = {split: [x for x in table if splits[x] == split] for split in SPLITS}
    return Source(members, images, partial(decode_class, places, FILTERS[resize]), told)


# ----- Command line -----

OPENED = click.Path(exists=True, path_type=Path)


@click.command()
@click.option("--from", "source", type=OPENED, required=True, help="Folder, or tar.")
@click.option("--csv", "table", type=FOLDER, help="Folder of the csv files, else SOURCE's.")
@click.option("--out", default="miniimagenet.npz", type=FILE, show_default=True)
@click.option(
    "--resize",
    type=click.Choice([*FILTERS]),
    default="lanczos",
    show_default=True,
    help=RESIZE_HELP,
)
@click.option(
    "--sha256",
    "hashes",
    multiple=True,
    metavar="HEX",
    help="Hash that a pickle must have, looked at first; once for each pickle.",
)
@click.option("--any-size", is_flag=True, help="Take other numbers of classes and images.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def main(
    context: click.Context,
    source: Path,
    table: Path | None,
    out: Path,
    resize: str,
    hashes: tuple[str, ...],
    any_size: bool,
    debug: bool,
) -> None:
    """Turn mini-ImageNet, in any of the forms in which it is had, into one .npz."""
    check_out(out)
    hashes = tuple(value.lower() for value in hashes)
    if wrong := [value for value in hashes if not re.fullmatch("[0-9a-f]{64}", value)]:
        raise click.UsageError(f"--sha256 {wrong[0]!r} is not 64 hexadecimal digits")
    with ending(debug), ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of EXIF data, which some of ImageNet's lack
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        if not os.path.isdir(out.parent):
            raise failure(out.parent, "no such folder")
        with naming(source):
            if source.is_file() and source.suffix != ".tar":
                told = "give the folder of pickles, or what other archives unpack to"
                raise failure(source, f"neither a folder nor a .tar; {told}")
            pickles = find_pickles(source)
            typed = context.get_parameter_source("resize") is ParameterSource.COMMANDLINE
            if pickles and (table or typed):
                raise click.UsageError("--csv and --resize are not for pickles")
            if hashes and not pickles:
                raise click.UsageError("--sha256 is for pickles")
            if pickles:
                found = from_pickles(pickles, hashes, stack)
            else:
                folder = source if source.is_dir() else source.parent
                found = from_files(source, table or folder, resize)
        if not any_size:
            check_sizes(source, found)
        arrays, digest = write(out, found)
    shape = len(arrays["names"]), found.images, *IMAGE
    rows = [f"{'images':<10}{shape} uint8"]
    rows += [f"{name:<10}{array.shape} {array.dtype}" for name, array in arrays.items()]
    rows += [f"sha256 of the images: {digest}", *found.told]
    tell([click.format_filename(out), *rows])


if __name__ == "__main__":
    main()
