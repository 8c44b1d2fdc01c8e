"""`tinymaml prepare`: image data from their usual archives to one .npz file."""

import re
import sys
from pathlib import Path

import click

from tinymaml.cli.terminal import columns
from tinymaml.errors import UsageError
from tinymaml.prepare import miniimagenet, omniglot
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
HASHES_HELP = (
    "Allowed sha256 of a pickle, checked before it is read; give one for each pickle."
)
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
    """


@prepare_group.command("omniglot")
@click.option("--from", "source", type=FOLDER, help="Folder of both zips; no download.")
@click.option("--out", default="omniglot.npz", show_default=True, type=FILE, help="Output.")
@click.option("--cache", type=NEW_FOLDER, help="Folder for downloads [that of --out].")
@click.option(
    "--url", default=omniglot.URL, show_default=True, help="Web address of the zips."
)
@debug
def omniglot_command(source: Path | None, out: Path, cache: Path | None, url: str) -> None:
    """Turn the two Omniglot zips into one .npz; download them if needed."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url {url!r} does not begin with http:// or https://")
    check_out(out)
    if source is None:
        source = cache or out.parent
        omniglot.download_all(url, source)
    arrays, digest = omniglot.prepare(source)
    omniglot.write(arrays, out)
    rows = [f"{name:<14}{array.shape} {array.dtype}" for name, array in arrays.items()]
    report(out, [*rows, f"sha256 of the drawings: {digest}"])
    if digest != omniglot.KNOWN_DRAWINGS:
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
    csv files, ImageNet's training images (folders, tars or the tar of tars), or
    the folder of the shared pickles. It is not downloaded: ImageNet's terms
    forbid that images are passed on.
    """
    hashes = tuple(value.lower() for value in hashes)
    if wrong := [value for value in hashes if not re.fullmatch("[0-9a-f]{64}", value)]:
        raise UsageError(f"--sha256 {wrong[0]!r} is not 64 hexadecimal digits")
    check_out(out)
    lines = miniimagenet.prepare(
        source, out, table=table, resize=resize, hashes=hashes, any_size=any_size
    )
    report(out, lines)


def report(out: Path, lines: list[str]) -> None:
    """Print the name of the file that was written, and the lines about it."""
    with naming("standard output"):
        text = laid_out(lines, columns(sys.stdout))
        click.echo(f"{click.format_filename(out)}\n{text}")
