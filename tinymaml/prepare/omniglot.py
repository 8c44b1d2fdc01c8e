"""The two Omniglot zips, packed or extracted, as the arrays of one .npz; their download.

images        : (1623, 20, 28, 28) uint8, ink 255 on paper 0
names         : (1623,) "Alphabet/characterNN", sorted; row i of images is names[i]
<split>_<part>: rows of names, ascending; lake has train and test (the two archives),
                vinyals and finn have train, val and test (see make_splits); with one of
                Lake's small background sets there is lake only

Drawings: Lake, Salakhutdinov, Tenenbaum 2015, https://github.com/brendenlake/omniglot
"""

import hashlib
import io
import os
import re
import ssl
import stat
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException, IncompleteRead
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image

from tinymaml.prepare.files import failure, naming, note, replacing


class Counts(NamedTuple):
    """The right numbers of characters, drawings of each, and rows per part."""

    background: int = 964  # this and the next two: counted in the archives
    evaluation: int = 659
    drawings: int = 20
    vinyals: tuple[int, int, int] = (1028, 172, 423)  # Snell et al. 2017, code
    finn: tuple[int, int, int] = (1100, 100, 423)  # cbfinn/maml data_generator.py:46-54


OFFICIAL = Counts()
# The background sets by the names of --background. Those of 5 alphabets: the catalogue of
# tensorflow_datasets has 2720 and 3120 drawings; not checked against the files.
BACKGROUNDS = {
    "full": ("images_background", OFFICIAL),
    "small1": ("images_background_small1", OFFICIAL._replace(background=136)),
    "small2": ("images_background_small2", OFFICIAL._replace(background=156)),
}
EVALUATION = "images_evaluation"
URL = "https://github.com/brendenlake/omniglot/raw/master/python"
MD5 = {  # from torchmeta's source; not checked against the files
    "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
}
# What read_drawings returns for the real drawings
KNOWN_DRAWINGS = "08d5e37f3272ec2d604c75b995f9e602c3248315859c7977b703583f68b853bd"
TIMEOUT, TRIES, PAUSE = 30.0, 3, 1.0  # seconds, -, seconds (longer before each try)
ARCHIVE_BYTES = 1 << 25  # four times the larger archive packed without compression
TOTAL_BYTES = 1 << 26  # thirteen times the drawings of the larger archive
DRAWING_BYTES = 1 << 16  # the largest drawing has 522 bytes
MEMBERS = 25_000  # the larger archive has 19 280 drawings in 995 folders
DEPTH = 4  # folders of an extracted archive: its own, perhaps again, ALPHABET, CHARACTER
SIDE, SMALL = 105, 28  # pixels: of a drawing; after resizing, as in cbfinn/maml

# Whole alphabets, and four characters of another; the rest is for training.
VINYALS_VAL = {"Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)"}
VINYALS_TEST = {
    *("Kannada", "Keble", "Malayalam", "Manipuri", "Mongolian", "Oriya", "Sylheti"),
    *("Old_Church_Slavonic_(Cyrillic)", "Syriac_(Serto)", "Tengwar", "Tibetan", "ULOG"),
    *(f"Gurmukhi/character{number}" for number in range(42, 46)),
}

Arrays = dict[str, np.ndarray]
Drawing = tuple["zipfile.ZipFile | Folder", zipfile.ZipInfo]
Catalogue = dict[str, list[Drawing]]  # by character
COMPRESSIONS = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
NETWORK_ERRORS = (  # not those of the disk; ValueError: urllib cannot parse the URL
    *(URLError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError, ValueError),
)


# ----- Download -----


def receive(url: str, part: Path) -> None:
    """Append to `part` the bytes that it lacks of `url`; stop just above ARCHIVE_BYTES."""
    start = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urlopen(request, timeout=TIMEOUT) as response:
        begins = response.headers.get("Content-Range", "")
        with part.open("ab" if begins.startswith(f"bytes {start}-") else "wb") as file:
            while chunk := response.read(1 << 16):
                file.write(chunk)
                if file.tell() > ARCHIVE_BYTES:
                    return
        if response.length:  # read(n) does not raise when the connection breaks
            raise IncompleteRead(b"", response.length)


def receive_patiently(url: str, part: Path, pause: float) -> None:
    """Call `receive` until it succeeds, at most TRIES times."""
    last: Exception | None = None
    for attempt in range(TRIES):
        time.sleep(pause * attempt)
        try:
            return receive(url, part)
        except HTTPError as error:
            error.close()
            last = error
            if error.code == 416:  # `part` is at least as long as the file
                part.unlink(missing_ok=True)
            elif error.code < 500:
                break
        except NETWORK_ERRORS as error:
            last = error
    advice = f"without a network, put {' and '.join(MD5)} in DIR and use --from DIR"
    raise failure(url, f"{str(last).strip('<>')}; {advice}") from last


def md5_of(data: bytes) -> str:
    """Return the md5 of a file's bytes, which is no protection from an attack."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def download(url: str, path: Path, md5: str, pause: float = PAUSE) -> None:
    """Download the file with this `md5` to `path`, which is replaced only by that file."""
    part = path.with_name(path.name + ".part")
    with naming(part):
        if path.is_file() and md5_of(path.read_bytes()) == md5:
            return
        note(f"downloading {url}")
        receive_patiently(url, part, pause)
        data = part.read_bytes()
        if (got := md5_of(data)) == md5:
            os.replace(part, path)
            return
        part.unlink()
    page = "looks like an HTML page, " if data.lstrip().startswith(b"<") else ""
    raise failure(url, f"{page}{len(data)} bytes, md5 {got}, expected md5 {md5}; removed")


def download_all(url: str, folder: Path) -> None:
    """Download both zips into a folder, which is made if needed."""
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, md5 in MD5.items():
        download(f"{url.rstrip('/')}/{name}", folder / name, md5)


# ----- Archives -----


class Folder:
    """An extracted archive, with those methods of a ZipFile that are used here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.filename = str(path)

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def infolist(self) -> list[zipfile.ZipInfo]:
        """Return the files, as members of an archive; links are not followed."""
        with naming(self.path):
            return [*self._walked(self.path, DEPTH)]

    def open(self, member: zipfile.ZipInfo) -> BinaryIO:
        """Open a file."""
        return (self.path.parent / member.filename).open("rb")

    def _walked(self, folder: Path, depth: int) -> Iterator[zipfile.ZipInfo]:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False) and depth and not is_junk(entry.name):
                yield from self._walked(folder / entry.name, depth - 1)
                continue
            found = entry.stat(follow_symlinks=False)
            name = (folder / entry.name).relative_to(self.path.parent).as_posix()
            member = zipfile.ZipInfo(name)
            member.orig_filename = name
            member.external_attr, member.file_size = found.st_mode << 16, found.st_size
            yield member


def open_archive(folder: Path, name: str) -> zipfile.ZipFile | Folder:
    """Open the zip of that name after a check of its size, else the folder."""
    path = folder / f"{name}.zip"
    if not path.exists() and (folder / name).is_dir():
        return Folder(folder / name)
    with naming(path, "not a readable zip"):
        if not path.is_file():
            needed = f"needed are {' and '.join(MD5)}, or the folders in them"
            raise failure(path, f"no such file; {needed}")
        if path.stat().st_size > ARCHIVE_BYTES:
            raise ValueError(f"more than {ARCHIVE_BYTES} bytes")
        return zipfile.ZipFile(path)


def fault_of(member: zipfile.ZipInfo) -> str:
    """Return what is wrong with a member, whatever its name; "" if nothing is."""
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0: the packer gave none
    faults = {
        "encrypted": member.flag_bits & 1,
        "a link or special file": kind not in (0, stat.S_IFREG, stat.S_IFDIR),
        "too large": member.file_size > DRAWING_BYTES,
        "unknown compression": member.compress_type not in COMPRESSIONS,
    }
    return ", ".join(fault for fault, found in faults.items() if found)


def is_junk(name: str) -> bool:
    """Return whether a desktop added this member to an archive: it holds no drawing."""
    words = name.rstrip("/").split("/")
    return "__MACOSX" in words or words[-1].startswith(("._", ".DS_Store"))


def members_of(archive: zipfile.ZipFile | Folder) -> list[zipfile.ZipInfo]:
    """Return the members but those that a desktop added; refuse too many or too large."""
    every = archive.infolist()
    members = [member for member in every if not is_junk(member.orig_filename)]
    size = sum(member.file_size for member in members)
    if len(members) > MEMBERS or len(every) > 3 * MEMBERS or size > TOTAL_BYTES:
        limits = f"limits {MEMBERS} and {TOTAL_BYTES}"
        raise failure(archive.filename, f"{len(every)} members, {size} bytes; {limits}")
    return members


def find_drawings(
    archive: zipfile.ZipFile | Folder, top: str
) -> dict[str, dict[int, Drawing]]:
    """Return {character: {number: drawing}}; refuse all other members but folders.

    top: the archive's folder, which may be missing or doubled
    """
    found: dict[str, dict[int, Drawing]] = {}
    seen = set()
    character = r"([A-Za-z_()-]+/character[0-9]{2})"
    drawing = re.compile(rf"(?:{top}/){{0,2}}{character}/[0-9]{{4}}_([0-9]{{2}})\.png")
    folder = re.compile(rf"(?:{top}/){{0,2}}([A-Za-z_()-]+/|{character}/)?")
    for member in members_of(archive):
        # zipfile cuts `filename` at a NUL; `orig_filename` is the name in the archive.
        name = member.orig_filename
        match = drawing.fullmatch(name)
        fault = fault_of(member)
        if not match and not folder.fullmatch(name):
            fault = f"expected {top}/<Alphabet>/characterNN/NNNN_NN.png"
        key = match.groups() if match else name
        if fault or key in seen:
            raise failure(archive.filename, f"{name!r:.99}", fault or "duplicate")
        seen.add(key)
        if match:
            found.setdefault(match[1], {})[int(match[2])] = archive, member
    return found


def catalogue(
    archive: zipfile.ZipFile | Folder, top: str, characters: int, drawings: int
) -> Catalogue:
    """Return the drawings of each character, checked as far as no pixel is needed."""
    found = find_drawings(archive, top)
    for name, numbered in found.items():
        if sorted(numbered) != list(range(1, drawings + 1)):
            fault = f"{len(numbered)} drawings, expected numbers 1 to {drawings}"
            raise failure(archive.filename, repr(name), fault)
    if len(found) != characters:
        raise failure(archive.filename, f"{len(found)} characters, expected {characters}")
    return {x: [numbered[i] for i in sorted(numbered)] for x, numbered in found.items()}


# ----- Drawings -----


def decode(archive: zipfile.ZipFile | Folder, member: zipfile.ZipInfo) -> Image.Image:
    """Return one drawing as a mode-"L" image of 105 x 105 pixels, paper 255."""
    with naming(f"{archive.filename}: {member.filename!r}", "not a readable PNG"):
        with archive.open(member) as file:
            data = file.read(DRAWING_BYTES + 1)
        if len(data) > DRAWING_BYTES:
            raise ValueError("too large")
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.size != (SIDE, SIDE) or image.mode not in ("1", "L"):
                found = f"{image.size} pixels of mode {image.mode!r}"
                raise ValueError(f"{found}, expected {(SIDE, SIDE)} of '1' or 'L'")
            return image.convert("L")


def shrink(image: Image.Image) -> np.ndarray:
    """Return (28, 28) uint8 with ink 255 and paper 0, from a mode-"L" image."""
    # Pillow would ignore the filter in mode "1" and take the nearest neighbour.
    small = image.resize((SMALL, SMALL), Image.Resampling.LANCZOS)
    return 255 - np.asarray(small)


def read_drawings(characters: Catalogue, drawings: int) -> tuple[np.ndarray, str]:
    """Return the images, (C, drawings, 28, 28), and the hash of the original drawings.

    The hash is a sha256 over each name, a newline and the pixels of its drawings before
    they are resized: one byte per pixel, ink 0 and paper 255.
    """
    images = np.zeros((len(characters), drawings, SMALL, SMALL), np.uint8)
    digest = hashlib.sha256()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow only warns of a 90-megapixel bomb
        for row, (name, members) in enumerate(characters.items()):
            digest.update(name.encode() + b"\n")
            for column, (archive, member) in enumerate(members):
                image = decode(archive, member)
                digest.update(image.tobytes())
                images[row, column] = shrink(image)
    return images, digest.hexdigest()


# ----- Splits and output -----


def make_splits(names: list[str], lake: list[int], counts: Counts) -> Arrays:
    """Return the rows of the sorted `names` in each part: 0 train, 1 val, 2 test."""
    places = [{name, name.split("/")[0]} for name in names]
    vinyals = [2 * bool(at & VINYALS_TEST) + bool(at & VINYALS_VAL) for at in places]
    if (sizes := tuple(map(vinyals.count, range(3)))) != counts.vinyals:
        has = f"{sizes} characters in the Vinyals split, expected {counts.vinyals}"
        raise failure("these are not Omniglot's alphabets", has)
    # The official code shuffles the order of os.listdir with random.seed(1). Its split
    # depends on the file system and cannot be reproduced; this one has its sizes.
    finn = np.empty(len(names), int)
    shuffled = np.random.default_rng(1).permutation(len(names))
    finn[shuffled] = np.repeat(range(3), counts.finn)
    return rows_of({"lake": lake, "vinyals": vinyals, "finn": finn})


def rows_of(splits: Mapping[str, Sequence[int] | np.ndarray]) -> Arrays:
    """Return the rows of each split's parts: 0 train, 1 val, 2 test."""
    return {
        f"{split}_{part}": np.flatnonzero(np.equal(parts, number))
        for split, parts in splits.items()
        for number, part in enumerate(("train", "val", "test"))
        if (split, part) != ("lake", "val")
    }


def find_background(folder: Path, asked: str | None) -> str:
    """Return the background set that is asked for, else the one that is there."""
    there = [
        kind
        for kind, (name, _) in BACKGROUNDS.items()
        if (folder / f"{name}.zip").exists() or (folder / name).is_dir()
    ]
    if asked or "full" in there or not there:
        return asked or "full"
    if len(there) > 1:
        raise failure(folder, f"{' and '.join(there)}: choose one by --background")
    return there[0]


def prepare(
    folder: Path, counts: Counts | None = None, *, background: str | None = None
) -> tuple[Arrays, str]:
    """Return the arrays to save and the hash of the drawings in `folder`'s archives.

    background: a name in BACKGROUNDS; None: the set that is there, the full one first
    """
    note(f"reading {folder}")
    background = find_background(folder, background)
    top, official = BACKGROUNDS[background]
    counts = counts or official
    with open_archive(folder, top) as a, open_archive(folder, EVALUATION) as b:
        train = catalogue(a, top, counts.background, counts.drawings)
        test = catalogue(b, EVALUATION, counts.evaluation, counts.drawings)
        if both := sorted(train.keys() & test.keys()):
            raise failure(folder, f"{both[0]!r} is in both archives")
        found = dict(sorted({**train, **test}.items()))
        lake = [0 if name in train else 2 for name in found]
        if background == "full":
            splits = make_splits([*found], lake, counts)
        else:
            splits = rows_of({"lake": lake})
        images, digest = read_drawings(found, counts.drawings)
    return {"images": images, "names": np.array([*found]), **splits}, digest


def write(arrays: dict[str, Any], path: Path) -> None:
    """Save `arrays` at `path`, which holds the old file or the whole new one."""
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)
