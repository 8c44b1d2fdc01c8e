"""Where the image files of mini-ImageNet lie: in folders, or in the tars of ILSVRC 2012.

The csv files of Ravi & Larochelle (twitter-research/meta-learning-lstm) name an image by
its class and a number: n0153282900000005.jpg. These are the names in their own archive of
images. ImageNet's names differ, n01532829_28.JPEG, and the authors did not publish the
mapping. Tools that start from ImageNet take the number as a position, counted from 1,
among the files of the class, sorted by the number in ImageNet's name: yaoyao-liu/
mini-imagenet-tools (mini_imagenet_generator.py, process_original_files), after
gitabcworld/FewShotLearning (utils/create_miniImagenet.py), whose author asks in a comment
whether this is the order. This file does the same. The mapping is not verified against
the authors' images (icoz69/CEC-CVPR2021#18 doubts it), and a class that lacks a file
shifts all that follow.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from tinymaml.prepare.files import failure, naming, refuse


MEMBERS = 10_000  # of one tar; the largest class has 1300 images, and there are 1000
# The types of extended headers (pax and long names), and their largest size in bytes; a
# path has at most 4096.
EXTENDED, EXTENDED_BYTES = b"xgXLK", 1 << 16
PADDING = 1 << 20  # bytes of zeros that end a tar; most end with 10,240 or less
# The folders where images lie under their csv names.
LAYOUTS = "", "images", "{label}", "images/{label}", "{split}/{label}"


class Place(NamedTuple):
    """An image file, or the part of a tar that is one; `name` is for messages."""

    path: Path
    start: int
    size: int
    name: str


Table = dict[str, list[str]]  # class label -> the file names of its images in a csv file
Places = dict[str, list[Place]]
Numbered = dict[int, Place]  # by the number in ImageNet's name


def find(source: Path, table: Table, splits: dict[str, str]) -> tuple[Places, bool]:
    """Return the place of every image of `table`, and whether ImageNet's order was used.

    source: the tar of tars, or a folder with one of these: the images under their csv
        names, directly or in images/, CLASS/, images/CLASS/ or SPLIT/CLASS/; the tars of
        the classes; the folders of the classes
    splits: class label -> train, val or test
    Raises WorldError, which names the first images that are missing.
    """
    if source.is_file():
        classes = _tar_of_tars(source, table)
    elif places := _by_name(source, table, splits):
        return places, False
    elif any((source / f"{label}.tar").is_file() for label in table):
        classes = {label: _tar(source / f"{label}.tar", label) for label in table}
    elif any((source / label).is_dir() for label in table):
        classes = {label: _folder(source / label, label) for label in table}
    else:
        label, names = next(iter(table.items()))
        raise failure(
            source,
            f"no {names[0]}, here or in {label}/, images/ or {splits[label]}/{label}/;"
            f" no {label}/{label}_N.JPEG, no {label}.tar and no pickles either",
        )
    refuse(source, [f"no images of {label}" for label in table if not classes.get(label)])
    places, wrong = {}, []
    for label, names in table.items():
        found = _by_position(label, classes[label])
        count = len(classes[label])
        bare = [name.rpartition("/")[2] for name in names]  # of CLASS/IMAGE
        wrong += [f"no {x}: {label} has {count} images" for x in bare if x not in found]
        places[label] = [found[name] for name in bare if name in found]
    refuse(source, wrong)
    return places, True


# ----- By the names in the csv files -----


def _by_name(source: Path, table: Table, splits: dict[str, str]) -> Places | None:
    """Return the places; None when no layout has the first image of any class."""
    for layout in LAYOUTS:
        folders = {x: source / layout.format(label=x, split=splits[x]) for x in table}
        if any((folders[x] / names[0]).is_file() for x, names in table.items()):
            break
    else:
        return None
    places, wrong = {}, []
    for label, names in table.items():
        found = [_file(folders[label] / name) for name in names]
        wrong += [f"no {name}" for name, x in zip(names, found, strict=True) if x is None]
        places[label] = [place for place in found if place]
    refuse(source, wrong)
    return places


def _file(path: Path) -> Place | None:
    """Return the place of a regular file; None when there is none."""
    with naming(path):
        return Place(path, 0, path.stat().st_size, str(path)) if path.is_file() else None


# ----- By ImageNet's names -----


def _by_position(label: str, files: Numbered) -> dict[str, Place]:
    """Return {csv name: place}: position i, from 1, in the order of ImageNet's numbers."""
    return {
        f"{label}{position:08}.{extension}": files[number]
        for position, number in enumerate(sorted(files), 1)
        for extension in ("jpg", "jpeg")
    }


def _add(files: Numbered, label: str, name: str, place: Place) -> bool:
    """Add a place by the number in `name`; return whether this is an ImageNet name."""
    match = re.fullmatch(rf"{re.escape(label)}_([0-9]{{1,9}})\.jpe?g", name, re.IGNORECASE)
    if match and int(match[1]) in files:
        raise failure(place.name, f"the number {int(match[1])} is there twice")
    if match:
        files[int(match[1])] = place
    return bool(match)


def _folder(folder: Path, label: str) -> Numbered:
    """Return the images in a class's folder; other files do not count."""
    files: Numbered = {}
    with naming(folder):
        for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
            if place := _file(folder / name):
                _add(files, label, name, place)
    return files


def _tar(path: Path, label: str) -> Numbered:
    if not path.is_file():
        return {}
    with naming(path), path.open("rb") as file:
        return _images_of(file, Place(path, 0, 0, str(path)), label)


def _tar_of_tars(path: Path, table: Table) -> dict[str, Numbered]:
    """Return the images of the classes in `table`; other classes are skipped."""
    classes: dict[str, Numbered] = {}
    with naming(path), path.open("rb") as file:
        for tar, member in _members(file, str(path)):
            name = f"{path}: {member.name!r:.99}"
            label = member.name.removeprefix("./").removesuffix(".tar")
            if not member.name.endswith(".tar") or "/" in label or label in classes:
                raise failure(name, "expected one CLASS.tar each; unpack other archives")
            # A view of the file: nothing is unpacked.
            if label in table and (inner := tar.extractfile(member)):
                place = Place(path, member.offset_data, member.size, name)
                classes[label] = _images_of(inner, place, label)
    return classes


def _images_of(file: IO[bytes], tar: Place, label: str) -> Numbered:
    """Return the images of a class's tar, which lies at `tar` and is read from `file`."""
    files: Numbered = {}
    for _, member in _members(file, tar.name):
        name = f"{tar.name}: {member.name!r:.99}"
        place = Place(tar.path, tar.start + member.offset_data, member.size, name)
        image = member.name.removeprefix("./").removeprefix(f"{label}/")
        if not _add(files, label, image, place):
            raise failure(name, f"expected {label}_N.JPEG")
    return files


def _is_junk(name: str) -> bool:
    """Return whether a member is what a Mac adds to a tar: ._NAME and .DS_Store."""
    return name.rpartition("/")[2].startswith(("._", ".DS_Store"))


class _Header(tarfile.TarInfo):
    """A header of a tar; tarfile would read an extended one whatever its size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        header = super().frombuf(buf, encoding, errors)
        if header.type in EXTENDED and header.size > EXTENDED_BYTES:
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header


def _members(
    file: IO[bytes], name: str
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield an uncompressed tar with each of its regular files; folders are left out.

    Refuses links, special files, and too many members; `name` is for messages.
    """
    with (
        naming(name, "not a readable tar"),
        tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as tar,
    ):
        for count, member in enumerate(iter(tar.next, None)):
            # Each has a copy of a global header. The attribute is missing in typeshed.
            tar.members.clear()  # type: ignore[attr-defined]
            if count == MEMBERS:
                raise failure(name, f"more than {MEMBERS} members")
            if member.isdir() or _is_junk(member.name):
                continue
            if not member.isreg() or member.issparse() or member.size < 0:
                raise failure(name, f"{member.name!r:.99}", "a link or special file")
            yield tar, member
        # tarfile ends its walk at any block that is no header, as at the zeros of the end.
        file.seek(tar.offset)
        end = file.read(PADDING + 1)
        if not tarfile.BLOCKSIZE <= len(end) <= PADDING or any(end):
            raise tarfile.ReadError(f"damaged or cut off at byte {tar.offset}")
