"""A user's images as one .npz, with a picture to look at.

images         : (all images, SIDE, SIDE[, 3]) uint8, class after class, uncompressed
sizes          : (classes,) number of images of each class
names, groups  : (classes,) the name of each class, sorted, and its group, "" for none
train, val, test: rows of names, ascending
sha256         : hash over each class name, a newline and the bytes of its images
"""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tinymaml.errors import UsageError
from tinymaml.prepare import folders, pictures
from tinymaml.prepare.files import DATA_ERRORS, failure, naming, note, reason, replacing
from tinymaml.prepare.images import SPLITS, Array, save


BYTES = 1 << 34  # of all images
CHUNK = 1 << 20  # bytes
# Tasks of 5 ways are usual: each part has so many classes where there are enough.
USUAL_WAYS = 5
POOL = "; --split 64/16/20 pools the folders and splits the classes anew"
SHEET = "-sheet.png"  # the end of the name of the contact sheet
SHEET_CLASSES, SHEET_IMAGES = 10, 10  # of each split, of each class
SHEET_SIDE, MARGIN, LABEL_WIDTH = 42, 3, 220  # pixels
LABEL_LETTERS = 30

Split = tuple[int, int, int]


class Prepared(NamedTuple):
    """What was written: lines about it, and a line for each file that was left out."""

    lines: list[str]
    bad: list[str]


class Bin(NamedTuple):
    """The images of the classes that are read, in a file without a name."""

    file: BinaryIO
    names: list[str]
    sizes: list[int]

    def images(self, row: int, count: int, image: tuple[int, ...]) -> Array:
        """Return the first images of a class, (count, *image) at most."""
        each = int(np.prod(image))
        self.file.seek(sum(self.sizes[:row]) * each)
        data = self.file.read(min(count, self.sizes[row]) * each)
        return np.frombuffer(data, np.uint8).reshape(-1, *image)

    def parts(self) -> Iterator[bytes]:
        """Yield all images in chunks."""
        self.file.seek(0)
        while chunk := self.file.read(CHUNK):
            yield chunk


def prepare(
    source: Path,
    out: Path,
    side: int = 28,
    grey: bool = False,
    split: Split | None = None,
    seed: int = 0,
    least: int = 2,
) -> Prepared:
    """Write the .npz of a folder or csv file (see `folders`), and a contact sheet.

    side: pixels; images are resized to squares; grey: one channel, else three
    split: shares of train, val and test, by which the classes are shuffled with `seed`;
        None: as the folders or csv files say, else 64/16/20 with 5 classes in each part
        where there are enough
    least: classes with fewer images are left out
    Raises WorldError when no class is left, or the images would take more than 16 GiB.
    """
    note(f"reading {source}")
    found = folders.find(source, split is not None, POOL)
    image = (side, side) if grey else (side, side, 3)
    count = sum(map(len, found.files.values()))
    if (size := count * int(np.prod(image))) > BYTES:
        raise failure(source, f"{count} images take {size} bytes, more than {BYTES}")
    with naming(out.parent), tempfile.TemporaryFile(dir=out.parent) as file:
        kept, digest, small, bad = _read(Bin(file, [], []), found, side, grey, least)
        if len(kept.names) < 2:
            lack = f"{len(kept.names)} classes of {least} images or more"
            raise failure(source, f"{lack}; a task needs two", *bad[:1], *found.remarks[:1])
        rows = _rows(kept.names, found.parts, split, seed)
        arrays = {
            "names": np.array(kept.names),
            "groups": np.array([found.groups[name] for name in kept.names]),
            "sizes": np.array(kept.sizes),
            **rows,
            "sha256": np.array(digest),
        }
        with replacing(out) as target:
            save(target, arrays, (sum(kept.sizes), *image), kept.parts())
        sheet = out.with_name(out.stem + SHEET)
        with replacing(sheet) as target:
            _sheet(kept, rows, image).save(target, "PNG")
    groups = {found.groups[name] for name in kept.names} - {""}
    few, most = min(kept.sizes), max(kept.sizes)
    lines = [
        f"images     {sum(kept.sizes)} of {side} x {side}, {'grey' if grey else 'RGB'}",
        f"classes    {len(kept.names)} of {few} to {most} images",
        *([f"groups     {len(groups)}: --within group"] if groups else []),
        *(_about(part, len(rows[part])) for part in SPLITS),
        f"sha256     {digest}",
        f"look at    {sheet}",
        *found.remarks,
    ]
    if small:
        some = ", ".join(small[:5]) + ", ..." * (len(small) > 5)
        lines.append(f"left out {len(small)} classes of fewer than {least} images: {some}")
    return Prepared(lines, bad)


def _about(part: str, classes: int) -> str:
    """Return a line about a part: how many ways a task can have."""
    line = f"{part:<10} {classes} classes"
    if part == "val" and not classes:
        return f"{line}: train with --validate-every 0"
    return f"{line}: tasks have at most {classes} ways" if classes < USUAL_WAYS else line


def _read(
    kept: Bin, found: folders.Images, side: int, grey: bool, least: int
) -> tuple[Bin, str, list[str], list[str]]:
    """Read all images; return the bin, its hash, and what was left out.

    Returns the names of classes with fewer than `least` images, and a line for each file
    that cannot be read.
    """
    digest, small, bad = hashlib.sha256(), [], []
    for done, name in enumerate(sorted(found.files), 1):
        files = found.files[name]
        note(f"{name}: {len(files)} images, class {done} of {len(found.files)}")
        images = []
        for file in files:
            try:
                images.append(pictures.read(file, side, grey))
            except DATA_ERRORS as error:
                why = " ".join(reason(error).split())
                bad.append(f"{str(file)!r}: not a readable image: {why}")
        if len(images) < max(least, 1):
            small.append(name)
            continue
        data = np.stack(images).tobytes()
        digest.update(name.encode() + b"\n")
        digest.update(data)
        kept.file.write(data)
        kept.names.append(name)
        kept.sizes.append(len(images))
    return kept, digest.hexdigest(), small, bad


# ----- The split -----


def _rows(
    names: list[str], given: dict[str, str], split: Split | None, seed: int
) -> dict[str, Array]:
    """Return the rows of each part: as given, else shuffled."""
    if given:
        parts = [given[name] for name in names]
        return {part: np.flatnonzero(np.equal(parts, part)) for part in SPLITS}
    ends = np.cumsum(counts(len(names), split))[:-1]
    order = np.random.default_rng(seed).permutation(len(names))
    shuffled = zip(SPLITS, np.split(order, ends), strict=True)
    return {part: np.sort(rows) for part, rows in shuffled}


def counts(classes: int, split: Split | None) -> tuple[int, int, int]:
    """Return the numbers of classes in train, val and test.

    split: shares; None: 64/16/20, mini-ImageNet's, and 5 classes or more in each part.
        With fewer than 15 classes there is no val; with fewer than 10 half are for test.
    """
    if split:
        ends = np.rint(np.cumsum(split) * classes / sum(split)).astype(int)
        train, val, test = np.diff(ends, prepend=0).tolist()
        return train, val, test
    _, val, test = (share / sum(SPLITS.values()) for share in SPLITS.values())
    if classes >= 3 * USUAL_WAYS:
        held_out = [max(USUAL_WAYS, round(share * classes)) for share in (val, test)]
    else:
        held_out = [0, min(USUAL_WAYS, classes // 2)]
    return classes - sum(held_out), held_out[0], held_out[1]


def parse_split(text: str) -> Split:
    """Return the shares in a text like 64/16/20. Raises UsageError for another."""
    words = text.split("/")
    if len(words) != 3 or not all(
        x.isascii() and x.isdigit() and len(x) < 7 for x in words
    ):
        raise UsageError(f"--split {text!r:.99} is not like 64/16/20")
    train, val, test = map(int, words)
    if not train + val + test:
        raise UsageError(f"--split {text!r} leaves no classes")
    return train, val, test


# ----- The contact sheet -----


def _sheet(kept: Bin, rows: dict[str, Array], image: tuple[int, ...]) -> Image.Image:
    """Draw some images of some classes of every part, a class in a line."""
    shown = []
    for part, members in rows.items():
        some = np.linspace(0, len(members) - 1, min(len(members), SHEET_CLASSES))
        shown += [(part, int(members[i])) for i in np.rint(some).astype(int)]
    step = SHEET_SIDE + MARGIN
    size = LABEL_WIDTH + SHEET_IMAGES * step, len(shown) * step + MARGIN
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for line, (part, row) in enumerate(shown):
        y = MARGIN + line * step
        _label(draw, y, f"{part}: {kept.names[row]}")
        for column, one in enumerate(kept.images(row, SHEET_IMAGES, image)):
            small = Image.fromarray(one).convert("RGB").resize((SHEET_SIDE, SHEET_SIDE))
            sheet.paste(small, (LABEL_WIDTH + column * step, y))
    return sheet


def _label(draw: ImageDraw.ImageDraw, y: int, text: str) -> None:
    if len(text) > LABEL_LETTERS:
        text = text[: LABEL_LETTERS - 3] + "..."
    place = MARGIN, y + SHEET_SIDE // 3
    try:
        draw.text(place, text, "black", ImageFont.load_default(13))
    except (UnicodeError, ImportError, OSError):  # Pillow without FreeType
        draw.text(place, ascii(text)[1:-1], "black")
