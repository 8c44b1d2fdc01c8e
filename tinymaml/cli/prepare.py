"""`tinymaml prepare`: image data from their usual archives to one .npz file."""

import re
import sys
from pathlib import Path

import click

from tinymaml.cli.terminal import columns
from tinymaml.errors import UsageError
from tinymaml.prepare import miniimagenet, omniglot, own_images
from tinymaml.prepare.files import check_out, naming
from tinymaml.report.layout import laid_out


FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)
OPENED = click.Path(exists=True, path_type=Path)
FILE = click.Path(path_type=Path)
RESIZE_HELP = (
    "Filter that resizes images to 84 x 84 pixels. lanczos: the code of MAML."
    " bilinear: Ravi & Larochelle's loader. box: close to mini-imagenet-tools."
    "  [default: lanczos]"
)
BACKGROUND_HELP = (
    "Background set: all 964 characters, or one of Lake's small sets of 5 alphabets, which"
    " needs --from and trains with --split lake.  [default: the set that is there]"
)
HASHES_HELP = (
    "Allowed sha256 of a pickle, checked before it is read; give one for each pickle."
)
SPLIT_HELP = (
    "Shares of the classes, as 64/16/20, for a shuffled split.  [default: the split that"
    " folders or csv files give, else 64/16/20 with 5 classes or more in each part]"
)
BAD_SHOWN = 100  # lines about files that cannot be read
debug = click.option(
    "--debug", is_flag=True, expose_value=False, help="Print the traceback of an error."
)


@click.group("prepare")
def prepare_group() -> None:
    """Turn image data into the file that --data takes.

    Nothing of the data is run or extracted.

    \b
    tinymaml prepare omniglot
    tinymaml prepare miniimagenet --from FOLDER
    tinymaml prepare images --from FOLDER --out mine.npz
    """


@prepare_group.command("omniglot")
@click.option(
    "--from",
    "source",
    type=FOLDER,
    help="Folder of both zips, or of the folders in them; no download.",
)
@click.option(
    "--background", type=click.Choice([*omniglot.BACKGROUNDS]), help=BACKGROUND_HELP
)
@click.option("--out", default="omniglot.npz", show_default=True, type=FILE, help="Output.")
@click.option("--cache", type=NEW_FOLDER, help="Folder for downloads [that of --out].")
@click.option(
    "--url", default=omniglot.URL, show_default=True, help="Web address of the zips."
)
@debug
def omniglot_command(
    source: Path | None, background: str | None, out: Path, cache: Path | None, url: str
) -> None:
    """Turn the two Omniglot zips into one .npz; download them if needed."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url {url!r} does not begin with http:// or https://")
    if source is None and background not in (None, "full"):
        raise UsageError(f"--background {background} needs --from FOLDER")
    check_out(out)
    if source is None:
        source = cache or out.parent
        omniglot.download_all(url, source)
    elif background is None:
        background = omniglot.find_background(source, None)
    arrays, digest = omniglot.prepare(source, background=background)
    omniglot.write(arrays, out)
    rows = [f"{name:<14}{array.shape} {array.dtype}" for name, array in arrays.items()]
    report(out, [*rows, f"sha256 of the drawings: {digest}"])
    if digest != omniglot.KNOWN_DRAWINGS and background in (None, "full"):
        click.echo("Warning: these drawings differ from the known ones", err=True)


@prepare_group.command("miniimagenet")
@click.option("--from", "source", type=OPENED, required=True, help="Folder or tar to read.")
@click.option(
    "--csv", "table", type=NEW_FOLDER, help="Folder of the csv files [that of SOURCE]."
)
@click.option(
    "--out", default="miniimagenet.npz", show_default=True, type=FILE, help="File to write."
)
@click.option("--resize", type=click.Choice(miniimagenet.FILTERS), help=RESIZE_HELP)
@click.option("--sha256", "hashes", multiple=True, metavar="HEX", help=HASHES_HELP)
@click.option("--any-size", is_flag=True, help="Allow any number of classes and images.")
@debug
def miniimagenet_command(
    source: Path,
    table: Path | None,
    out: Path,
    resize: str | None,
    hashes: tuple[str, ...],
    any_size: bool,
) -> None:
    """Turn mini-ImageNet, in any of its usual forms, into one .npz.

    The source is a folder of the images under the names of Ravi & Larochelle's
    csv files, or in train/CLASS/, val/CLASS/ and test/CLASS/; ImageNet's
    training images (folders, tars or the tar of tars); or the folder of the
    shared pickles. It is not downloaded: ImageNet's terms forbid that images
    are passed on.
    """
    hashes = tuple(value.lower() for value in hashes)
    if wrong := [value for value in hashes if not re.fullmatch("[0-9a-f]{64}", value)]:
        raise UsageError(f"--sha256 {wrong[0]!r} is not 64 hexadecimal digits")
    check_out(out)
    lines = miniimagenet.prepare(
        source, out, table=table, resize=resize, hashes=hashes, any_size=any_size
    )
    report(out, lines)


@prepare_group.command("images")
@click.argument("folder", required=False, type=OPENED)
@click.option("--from", "source", type=OPENED, help="Folder of images, or csv file.")
@click.option(
    "--out", default="images.npz", show_default=True, type=FILE, help="File to write."
)
@click.option(
    "--size",
    default=28,
    show_default=True,
    type=click.IntRange(8, 256),
    help="Width and height of the images in pixels: 28 as Omniglot, 84 as mini-ImageNet.",
)
@click.option("--grey", is_flag=True, help="Keep grey values only, not colours.")
@click.option("--split", metavar="TRAIN/VAL/TEST", help=SPLIT_HELP)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**32 - 1),
    help="Seed of the shuffle that splits the classes.",
)
@click.option(
    "--min-images",
    default=2,
    show_default=True,
    type=click.IntRange(1, 10**6),
    help="Leave out classes with fewer images; a task needs its shots and queries.",
)
@debug
def images_command(
    folder: Path | None,
    source: Path | None,
    out: Path,
    size: int,
    grey: bool,
    split: str | None,
    seed: int,
    min_images: int,
) -> None:
    """Turn a folder of images of your own into one .npz.

    \b
    Each sub-folder of images is a class:  CLASS/IMAGE
    Groups of classes, as alphabets:       GROUP/CLASS/IMAGE
    A split that is given:                 train/CLASS/IMAGE, val/..., test/...
    A csv file, or train.csv, val.csv and test.csv, with the columns filename
    and label (or class), and perhaps group and split.

    Images are PNG, JPEG, GIF (first frame), WebP or BMP. They are turned upright as their
    EXIF data say, laid on white where they are transparent, and resized to squares. Files
    that cannot be read are named and left out. A contact sheet, FILE-sheet.png, shows some
    images of each part.

    \b
    tinymaml prepare images --from FOLDER --out mine.npz
    tinymaml train images --data mine.npz --ways 5 --shots 1
    """
    place = folder or source
    if place is None or (folder and source):
        raise UsageError("give one folder or csv file, as FOLDER or as --from FOLDER")
    check_out(out)
    shares = None if split is None else own_images.parse_split(split)
    made = own_images.prepare(place, out, size, grey, shares, seed, min_images)
    report(out, made.lines)
    for line in made.bad[:BAD_SHOWN]:
        click.echo(f"Warning: {line}", err=True)
    if len(made.bad) > BAD_SHOWN:
        click.echo(f"Warning: and {len(made.bad) - BAD_SHOWN} more files", err=True)


def report(out: Path, lines: list[str]) -> None:
    """Print the name of the file that was written, and the lines about it."""
    with naming("standard output"):
        text = laid_out(lines, columns(sys.stdout))
        click.echo(f"{click.format_filename(out)}\n{text}")
