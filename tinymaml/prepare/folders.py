"""Where a user's images lie, and the class, group and split of each.

In a folder, without a csv file:

    CLASS/IMAGE             GROUP/CLASS/IMAGE
    SPLIT/CLASS/IMAGE       SPLIT/GROUP/CLASS/IMAGE         SPLIT: train, val or test

With a csv file, or with train.csv, val.csv and test.csv: the columns filename and label,
and perhaps group and split. A file lies where its name says, below the csv file's folder,
or there in images/, LABEL/, images/LABEL/ or SPLIT/LABEL/.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tinymaml.prepare import tables
from tinymaml.prepare.files import failure, naming, refuse
from tinymaml.prepare.images import SPLITS
from tinymaml.prepare.pictures import ENDINGS
from tinymaml.prepare.tables import Row


DEPTH = 5  # folders above an image: one around all, SPLIT, GROUP of two, CLASS
ENTRIES = 1 << 21  # in all folders
CSV = ".csv"
JUNK = "__macosx", "thumbs.db", "desktop.ini"  # and all that begins with a dot
# The names of a split's folder or csv file.
NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# The most special first: 001.png may be the name of an image in every class.
LAYOUTS = "", "{split}/{label}", "images/{label}", "{label}", "images"


class Images(NamedTuple):
    """The files of each class.

    files: class name -> its files; a class in a group has the name GROUP/CLASS
    groups: class name -> group, "" for none
    parts: class name -> its split, as it is given; {} when none is
    remarks: lines about what was left out
    """

    files: dict[str, list[Path]]
    groups: dict[str, str]
    parts: dict[str, str]
    remarks: list[str]


class Place(NamedTuple):
    """One image: its file, class, group and split; "" for no group or split."""

    file: Path
    name: str
    group: str
    split: str


def find(source: Path, pooled: bool = False, advice: str = "") -> Images:
    """Return the images in a folder, or those that a csv file names.

    pooled: leave out of account the splits that are given
    advice: for the message about a class in two splits
    Raises WorldError when there are no classes, or a class is in two splits.
    """
    remarks: list[str] = []
    with naming(source):
        if source.is_file():
            if source.suffix.lower() != CSV:
                raise failure(source, "neither a folder nor a .csv; unpack an archive")
            places = [*_of_csv(source, tables.read(source), "")]
        elif found := _tables(source, remarks):
            places = [x for file, rows, part in found for x in _of_csv(file, rows, part)]
        else:
            places = _of_folders(source, remarks)
    if not places:
        raise failure(source, f"no images ({' '.join(ENDINGS)}) in sub-folders", *remarks)
    files: dict[str, list[Path]] = {}
    groups: dict[str, str] = {}
    parts: dict[str, str] = {}
    for place in places:
        if not place.name.isprintable():
            raise failure(source, f"the name {place.name!a:.99} cannot be printed")
        files.setdefault(place.name, []).append(place.file)
        groups[place.name] = place.group
        if parts.setdefault(place.name, place.split) != place.split and not pooled:
            two = [x for x in SPLITS if x in (parts[place.name], place.split)]
            both = " and ".join(two) if len(two) > 1 else f"{two[0]} and in no split"
            raise failure(source, f"class {place.name!r} is in {both}{advice}")
    given = any(parts.values()) and not pooled
    if given and (bare := [name for name, part in parts.items() if not part]):
        raise failure(source, f"class {bare[0]!r} has no split, and others have one")
    return Images(files, groups, parts if given else {}, remarks)


# ----- Folders -----


def below(folder: Path, remarks: list[str]) -> dict[tuple[str, ...], list[Path]]:
    """Return the images in sub-folders, by the names of the folders down to them.

    Images directly in a folder without others are those of (). remarks: gains lines about
    files that are left out
    """
    others: list[Path] = []
    found = dict(sorted(_walked(folder, (), others, [0])))
    inner = {path[:i] for path in found for i in range(len(path))}
    for path in [path for path in found if path in inner]:
        where = "/".join(path) or str(folder)
        remarks.append(f"left out {len(found[path])} images beside folders, in {where!r}")
        del found[path]
    if others:
        kinds = sorted({file.suffix.lower() or file.name for file in others})
        some = ", ".join(kinds[:5]) + ", ..." * (len(kinds) > 5)
        remarks.append(f"left out {len(others)} files that are no images ({some})")
    return found


def unwrapped(
    found: dict[tuple[str, ...], list[Path]],
) -> dict[tuple[str, ...], list[Path]]:
    """Return images by folders, as `below` does, without a folder around all."""
    while len({path[:1] for path in found}) == 1 and all(len(path) > 1 for path in found):
        found = {path[1:]: files for path, files in found.items()}
    return found


def _of_folders(folder: Path, remarks: list[str]) -> list[Place]:
    """Return the images in sub-folders. remarks: gains lines about other files."""
    found = below(folder, remarks)
    if () in found:
        one = f"{len(found[()])} images lie in it directly"
        raise failure(folder, f"{one}; each class needs a sub-folder, or use a csv file")
    found = unwrapped(found)
    splits = {path[0] for path in found if path[0].lower() in NAMES}
    if len({NAMES[name.lower()] for name in splits}) > 1:
        if beside := sorted({path[0] for path in found} - splits):
            both = " and ".join(sorted(splits))
            raise failure(folder, f"{beside[0]!r} lies beside the splits {both}")
        if flat := [path for path in found if len(path) == 1]:
            raise failure(folder / flat[0][0], "images without the folder of a class")
    else:
        splits = set()
    return [
        Place(file, "/".join(inside), "/".join(inside[:-1]), part)
        for path, files in found.items()
        for inside, part in [
            (path[1:], NAMES[path[0].lower()]) if path[0] in splits else (path, "")
        ]
        for file in files
    ]


def _walked(
    folder: Path, path: tuple[str, ...], others: list[Path], count: list[int]
) -> Iterator[tuple[tuple[str, ...], list[Path]]]:
    """Yield (path, image files) of each folder that has any. others: gains other files."""
    files, folders = [], []
    with naming(folder), os.scandir(folder) as entries:
        for entry in entries:
            if (count := _counted(folder, count)) and is_junk(entry.name):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif Path(entry.name).suffix.lower() in ENDINGS:
                files.append(Path(entry.path))
            elif entry.name.lower().rpartition(".")[1:] != (".", CSV[1:]):
                others.append(Path(entry.path))
    if files:
        yield path, sorted(files)
    if folders and len(path) == DEPTH:
        raise failure(folder, f"more than {DEPTH} folders deep")
    for name in sorted(folders):
        yield from _walked(folder / name, (*path, name), others, count)


def _counted(folder: Path, count: list[int]) -> list[int]:
    count[0] += 1
    if count[0] > ENTRIES:
        raise failure(folder, f"more than {ENTRIES} files")
    return count


def is_junk(name: str) -> bool:
    """Return whether a desktop made this file or folder."""
    return name.startswith(".") or name.lower() in JUNK


# ----- Csv files -----


def _tables(folder: Path, remarks: list[str]) -> list[tuple[Path, list[Row], str]] | None:
    """Return the csv files of a folder, each with its rows and split; None for none.

    One csv file that names no images is left out: the sub-folders then are the classes.
    """
    files = [
        folder / name
        for name in sorted(os.listdir(folder))
        if name.lower().endswith(CSV) and not is_junk(name) and (folder / name).is_file()
    ]
    split = {file: NAMES[x] for file in files if (x := file.stem.lower()) in NAMES}
    if "train" in split.values() and len({*split.values()}) > 1:
        if len({*split.values()}) < len(split):
            raise failure(folder, "two csv files of one split")
        return [(file, tables.read(file), part) for file, part in split.items()]
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise failure(folder, f"several csv files: {names}; give one as --from FILE.csv")
    for file in files:
        with naming(file), file.open("rb") as opened:
            head = opened.readline(tables.CSV_BYTES).decode("utf-8-sig", "replace")
        columns = tables.columns_of([word.strip() for word in head.split(",")])
        if {"filename", "label"} <= {*columns}:
            return [(file, tables.read(file), "")]
        remarks.append(f"left out {file.name!r}: no columns filename and label")
    return None


def _of_csv(file: Path, rows: list[Row], part: str) -> Iterator[Place]:
    """Yield the images of one csv file. part: the split of all, "" for the rows' own."""
    folder, seen, wrong = file.parent, set(), []
    for row in rows:
        split = part or NAMES.get(row.split.lower(), row.split)
        if split and split not in SPLITS:
            wrong.append(f"line {row.line}: {row.split!r:.99} is not train, val or test")
            continue
        places = [
            folder / layout.format(label=row.label, split=split) / row.filename
            for layout in LAYOUTS
        ]
        place = next((x for x in places if x.is_file()), places[0])
        if place in seen:
            wrong.append(f"line {row.line}: {row.filename!r:.99} is there twice")
        seen.add(place)
        name = f"{row.group}/{row.label}" if row.group else row.label
        yield Place(place, name, row.group, split)
    refuse(file, wrong)
