"""`tinymaml prepare miniimagenet`: every layout, and what is wrong with each.

The sets are small ones drawn by miniatures.py. Most tests run the command in this process;
those of memory, disk and signals run it in one of its own.
"""

import gzip
import hashlib
import io
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import miniatures
from miniatures import COLOUR, PLACES, photo, png_header
from places import ROOT, data_folder
from processes import here
from tinymaml.data.miniimagenet import load
from tinymaml.prepare import caches, imagenet, miniimagenet, tables
from tinymaml.prepare import images as whole


SCRIPT = ROOT / "data_scripts" / "miniimagenet.py"
FIRST = "n0000000100000002.jpg"
LAST = {f"{x[-1]}{PLACES[-1]:08}.jpg" for x in miniatures.SPLITS.values()}


def prepare(source, *options, out=None):
    """Run the command here; return its result."""
    out = out or Path(source).parent / "out.npz"
    arguments = ["--from", source, "--out", out, "--any-size", *options]
    return here("prepare", "miniimagenet", *arguments)


def built(source, *options):
    """Return the arrays that the command makes."""
    out = Path(source).parent / "out.npz"
    result = prepare(source, *options)
    assert result.code == 0, result.err
    assert result.err == ""
    with np.load(out, allow_pickle=False) as file:
        return dict(file)


def tree(folder):
    """Return {path: bytes} of all that is in a folder."""
    return {
        str(path.relative_to(folder)): path.is_file() and path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def assert_refused(source, *words, options=(), code=1):
    """The command says in one line what is wrong, and leaves no trace."""
    folder = Path(source).parent
    before = tree(folder)
    result = prepare(source, *options)
    assert result.code == code, result
    assert result.out == ""
    errors = [line for line in result.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.err
    assert code == 2 or result.err.count("\n") == 1, result.err
    for word in words:
        assert word in errors[0]
    assert tree(folder) == before


def processed(label, place, resize=Image.Resampling.LANCZOS):
    """Return what should become of an image."""
    file = io.BytesIO(miniatures.encoded(photo(label, place)))
    return np.asarray(Image.open(file).resize((84, 84), resize))


# ----- Image files -----


PLAIN = {
    "here": "",
    "in images": "images",
    "by class": "{label}",
    "by class in images": "images/{label}",
    "as maml sorts them": "{split}/{label}",
}


@pytest.mark.parametrize("inside", PLAIN.values(), ids=PLAIN)
def test_images_by_their_csv_names(tmp_path, inside):
    """Rejects images of another class or in another order, and rows of another split."""
    arrays = built(miniatures.plain(tmp_path / "set", inside=inside))
    assert arrays["names"].tolist() == ["n00000001", "n00000002", "n00000003", "n00000004"]
    assert arrays["train"].tolist() == [0, 2]
    assert arrays["val"].tolist() == [3]
    assert arrays["test"].tolist() == [1]
    assert arrays["images"].shape == (4, 3, 84, 84, 3)
    assert arrays["images"].dtype == np.uint8
    for row, label in enumerate(arrays["names"]):
        for column, place in enumerate(PLACES):
            found = arrays["images"][row, column]
            np.testing.assert_array_equal(found, processed(label, place))


IMAGENET = [miniatures.class_folders, miniatures.class_tars, miniatures.tar_of_tars]


@pytest.mark.parametrize("layout", IMAGENET)
def test_csv_numbers_are_places_in_imagenets_order(tmp_path, layout):
    """Rejects the order of the names as text (100 before 26), of the members of a tar,
    and counting from 0."""
    arrays = built(layout(tmp_path / "set"))
    for row, label in enumerate(arrays["names"]):
        for column, place in enumerate(PLACES):
            found = arrays["images"][row, column]
            np.testing.assert_array_equal(found, processed(label, place))


def test_every_layout_of_imagenet_gives_the_same_bytes(tmp_path):
    """Rejects a layout read its own way, and bytes that depend on the clock."""
    digests = set()
    for layout in IMAGENET:
        assert prepare(layout(tmp_path / layout.__name__)).code == 0
    for folder in sorted(tmp_path.glob("*/out.npz")) or [tmp_path / "out.npz"]:
        digests.add(hashlib.sha256(folder.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_tar_members_may_lie_in_a_folder(tmp_path):
    """Rejects a reader of one way to pack: ./ and CLASS/ in front are how tar does it."""
    folder = miniatures.class_tars(tmp_path / "set")
    expected = built(folder)["images"]
    for label, front in (("n00000001", "./"), ("n00000002", "n00000002/")):
        images = miniatures.image_names(label)
        moved = {front + name: data for name, data in images.items()}
        (folder / f"{label}.tar").write_bytes(miniatures.class_tar(label, moved))
    np.testing.assert_array_equal(built(folder)["images"], expected)


def test_it_says_what_it_made_and_what_it_does_not_know(tmp_path):
    """Rejects a mapping that is taken for a fact."""
    told = prepare(miniatures.class_folders(tmp_path / "set")).out
    assert "images    (4, 3, 84, 84, 3) uint8\n" in told
    assert "not verified" in told
    assert "not verified" not in prepare(miniatures.plain(tmp_path / "plain")).out
    with np.load(tmp_path / "out.npz") as file:
        digest = hashlib.sha256()
        for name, images in zip(file["names"], file["images"], strict=True):
            digest.update(f"{name}\n".encode() + images.tobytes())
    assert (
        f"sha256 of the images: {digest.hexdigest()}\n" in prepare(tmp_path / "plain").out
    )


def test_images_are_stored_as_they_are(tmp_path):
    """Rejects a compressed member, which cannot be mapped."""
    built(miniatures.plain(tmp_path / "set"))
    with zipfile.ZipFile(tmp_path / "out.npz") as archive:
        assert {m.compress_type for m in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.testzip() is None
        assert {m.date_time for m in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("name", ["lanczos", "bilinear", "box"])
def test_resize_is_what_was_asked_for(tmp_path, name):
    """Rejects an option that is read but not used, and another default than Finn's."""
    folder = miniatures.plain(tmp_path / "set")
    found = built(folder, "--resize", name)["images"][0, 0]
    kind = {"lanczos": 1, "bilinear": 2, "box": 4}[name]  # as Pillow numbers them
    np.testing.assert_array_equal(found, processed("n00000001", PLACES[0], kind))
    same = np.array_equal(found, built(folder)["images"][0, 0])
    assert same == (name == "lanczos")


MODES = ["L JPEG", "CMYK JPEG", "L PNG", "P PNG", "RGBA PNG", "1 PNG"]


@pytest.mark.parametrize("drawn", MODES)
def test_other_modes_become_rgb(tmp_path, drawn):
    """Rejects a grey image refused or left with one channel, and a PNG named .jpg:
    ImageNet has all of these."""
    folder = miniatures.plain(tmp_path / "set")
    mode, kind = drawn.split()
    data = miniatures.encoded(photo("n00000001", 2, mode=mode), kind)
    (folder / FIRST).write_bytes(data)
    expected = Image.open(io.BytesIO(data)).convert("RGB").resize((84, 84), 1)
    np.testing.assert_array_equal(built(folder)["images"][0, 0], np.asarray(expected))


def test_images_of_the_right_size_are_left_alone(tmp_path):
    """Rejects a resize that blurs what has 84 x 84 pixels already."""
    folder = miniatures.plain(tmp_path / "set")
    data = miniatures.encoded(photo("n00000001", 2, (84, 84)), "PNG")
    (folder / FIRST).write_bytes(data)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(built(folder)["images"][0, 0], expected)


def test_odd_exif_data_are_no_fault(tmp_path):
    """Rejects Pillow's warnings taken for errors: images of ImageNet have such data."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x1a\0\x05\0\0\0\x01\xff\xff\xff\xf0"
    folder = miniatures.plain(tmp_path / "set")
    data = miniatures.encoded(photo("n00000001", 2), exif=exif)
    (folder / FIRST).write_bytes(data)
    built(folder)


# ----- The csv files -----


def test_csv_files_may_lie_elsewhere(tmp_path):
    """Rejects an option that is read but not used."""
    folder = miniatures.plain(tmp_path / "set")
    (tmp_path / "csv").mkdir()
    for split in miniatures.SPLITS:
        (folder / f"{split}.csv").rename(tmp_path / "csv" / f"{split}.csv")
    assert_refused(folder, "train.csv: no such file", "--csv")
    built(folder, "--csv", tmp_path / "csv")


def test_blank_last_lines_are_no_images(tmp_path):
    """Rejects a csv that an editor has ended with a blank line."""
    folder = miniatures.plain(tmp_path / "set")
    for split, end in zip(miniatures.SPLITS, ("\n", "\r\n", "\n\n"), strict=True):
        with (folder / f"{split}.csv").open("a", newline="") as file:
            file.write(end)
    built(folder)


@pytest.mark.data
def test_real_csv_files_are_the_published_split():
    """Rejects a reader of drawn csv files only."""
    folder = data_folder() and data_folder() / "miniimagenet"
    if not folder or not folder.is_dir():
        pytest.skip("no real csv files: set TINYMAML_DATA to a folder with miniimagenet/")
    table, splits = miniimagenet.read_table(folder)
    assert {s: [*splits.values()].count(s) for s in whole.SPLITS} == whole.SPLITS
    assert {len(names) for names in table.values()} == {whole.IMAGES}
    assert table["n01532829"][0] == "n0153282900000005.jpg"


# ----- As people have them -----


def rewritten(folder, change, head="filename,label"):
    """Rewrite the csv files line by line; return the folder."""
    for split in miniatures.SPLITS:
        path = folder / f"{split}.csv"
        _, *lines = path.read_text().splitlines()
        text = [head, *(change(*line.split(",")) for line in lines)]
        ends = "" if text[1].endswith("\n") else "\n"
        path.write_bytes("".join(line + ends for line in text).encode())
    return folder


def by_class_names(folder):
    """CLASS/IMAGE in the csv files, and blanks in the names."""
    for label in miniatures.labels():
        for file in sorted((folder / label).iterdir()):
            file.rename(file.with_name(f"a {file.name}"))
    return rewritten(folder, lambda name, label: f"{label}/a {name},{label}")


def without_csv(folder):
    """SPLIT/CLASS/IMAGE."""
    for split in miniatures.SPLITS:
        (folder / f"{split}.csv").unlink()
    return folder


def with_junk(folder):
    """Add to the tars what a Mac adds."""
    for label in miniatures.labels():
        entries = {}
        for name, data in miniatures.image_names(label).items():
            entries |= {f"./._{name}": b"\0\5\26\7" * 50, name: data}
        entries |= {"._.DS_Store": b"x", ".DS_Store": b"x"}
        (folder / f"{label}.tar").write_bytes(miniatures.class_tar(label, entries))
    return folder


AS_THEY_ARE = {
    "published split": lambda folder: rewritten(
        miniatures.plain(folder),
        lambda name, label: f"{name},{label}\r\n",
        "filename,class\r\n",
    ),
    "blanks": lambda folder: rewritten(
        miniatures.plain(folder),
        lambda name, label: f" {name}, {label} ",
        " filename, label",
    ),
    "blank ends": lambda folder: rewritten(
        miniatures.plain(folder),
        lambda name, label: f"{name},{label}" + "\n  \n,\n" * (name in LAST),
        "filename,label",
    ),
    "class in the name": lambda folder: by_class_names(
        miniatures.plain(folder, inside="{label}")
    ),
    "no csv": lambda folder: without_csv(
        miniatures.plain(folder, inside="{split}/{label}")
    ),
    "ImageNet by class names": lambda folder: rewritten(
        miniatures.class_folders(folder), lambda name, label: f"{label}/{name},{label}"
    ),
    "tars by a Mac": lambda folder: with_junk(miniatures.class_tars(folder)),
}


@pytest.mark.parametrize("case", AS_THEY_ARE)
def test_sets_as_people_have_them(tmp_path, case):
    """Rejects a reader of one spelling of the csv files, of their own names only, of csv
    files only, and of tars that no Mac has packed."""
    expected = built(miniatures.plain(tmp_path / "plain"))
    arrays = built(AS_THEY_ARE[case](tmp_path / "set"))
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array)


LAYOUTS_OF_UNEQUAL = {
    "csv": lambda folder: miniatures.plain(folder),
    "no csv": lambda folder: without_csv(
        miniatures.plain(folder, inside="{split}/{label}")
    ),
}


@pytest.mark.parametrize("case", LAYOUTS_OF_UNEQUAL)
def test_classes_may_be_of_unequal_sizes(tmp_path, case):
    """Rejects classes that are cut or refused, and images that go to the next class."""
    folder = LAYOUTS_OF_UNEQUAL[case](tmp_path / "set")
    if case == "csv":
        lines = (folder / "val.csv").read_text().splitlines()
        (folder / "val.csv").write_text("\n".join(lines[:2]) + "\n")
    else:
        for place in PLACES[1:]:
            (folder / "val" / "n00000004" / f"n00000004{place:08}.jpg").unlink()
    arrays = built(folder)
    assert arrays["sizes"].tolist() == [3, 3, 3, 1]
    assert arrays["images"].shape == (10, 84, 84, 3)
    for column, place in enumerate(PLACES):
        found = arrays["images"][6 + column]
        np.testing.assert_array_equal(found, processed("n00000003", place))
    np.testing.assert_array_equal(arrays["images"][9], processed("n00000004", PLACES[0]))
    images, classes = load(tmp_path / "out.npz")
    assert [len(one) for one in images] == [3, 3, 3, 1]
    assert classes["val"].tolist() == [3]
    arguments = ["--from", str(folder), "--out", str(tmp_path / "two.npz")]
    told = here("prepare", "miniimagenet", *arguments)
    assert told.code == 1
    assert "n00000004 has 1" in told.err
    assert "--any-size" in told.err
    few = ["--ways", "2", "--iterations", "1", "--tasks", "1", "--no-test"]
    few += [
        "--queries",
        "2",
        "--validate-every",
        "0",
        "--filters",
        "2",
        "--inner-steps",
        "1",
        "--quiet",
    ]
    run = tmp_path / "run"
    told = here("train", "miniimagenet", "--data", tmp_path / "out.npz", "--out", run, *few)
    assert told.code == 0, told.err


def test_splits_without_csv_must_be_whole(tmp_path):
    """Rejects a set without test classes, and one class in two folders."""
    folder = AS_THEY_ARE["no csv"](tmp_path / "set")
    (folder / "test" / "n00000002").rename(folder / "val" / "n00000009")
    assert_refused(folder, "no classes in test/")
    shutil.rmtree(folder)
    folder = AS_THEY_ARE["no csv"](tmp_path / "two")
    (folder / "test" / "n00000002").rename(folder / "test" / "n00000004")
    assert_refused(folder, "class 'n00000004' is in")


CSV = {
    "html": (b"<html>", "first line"),
    "empty": (b"", "not a readable csv file"),
    "head": (b"filename,label\n", "no images"),
    "other head": (b"label,filename\nn1.jpg,n1\n", "first line"),
    "bytes": (b"filename,label\n\xff\xfe,n1\n", "utf-8"),
    "nul": (b"filename,label\n\0,n1\n", "train.csv"),
    "blank lines": (b"filename,label\n\n\n", "no images"),
    "blank line": (b"filename,label\n\na.jpg,n1\n", "line 2"),
    "one column": (b"filename,label\na.jpg\n", "line 2"),
    "three columns": (b"filename,label\na.jpg,n1,2\n", "line 2"),
    "up": (b"filename,label\n../a.jpg,n1\n", "line 2"),
    "hidden": (b"filename,label\n..,n1\n", "line 2"),
    "absolute": (b"filename,label\n/etc/passwd,n1\n", "line 2"),
    "label up": (b"filename,label\na.jpg,../n1\n", "line 2"),
    "label in val": (b"filename,label\na.jpg,n00000004\n", "train.csv too"),
    "twice": (b"filename,label\na.jpg,n1\na.jpg,n1\n", "twice"),
    "in val": (b"filename,label\nn0000000400000002.jpg,n1\n", "twice"),
    "class up": (b"filename,class\n../n1/a.jpg,n1\n", "line 2"),
    "many lines": (b"filename,label\n" + b"/,/\n" * 9, "line 6 and 4 more"),
    "one line": (b"filename,label\n" + b"a" * 200_000 + b",n1\n", "train.csv"),
}


@pytest.mark.parametrize("case", CSV)
def test_wrong_csv_files_are_refused(tmp_path, case):
    """Rejects names that lead out of the folder, and tables that cannot be a split."""
    folder = miniatures.plain(tmp_path / "set")
    (folder / "train.csv").write_bytes(CSV[case][0])
    assert_refused(folder, CSV[case][1])


def test_large_csv_is_refused(tmp_path, monkeypatch):
    """Rejects a table that is read whatever its size."""
    monkeypatch.setattr(tables, "CSV_BYTES", 20)
    assert_refused(miniatures.plain(tmp_path / "set"), "train.csv", "more than 20 bytes")


# ----- Sizes -----


def test_other_sizes_are_refused_unless_allowed(tmp_path):
    """Rejects half a mini-ImageNet that passes for a whole one."""
    folder = miniatures.plain(tmp_path / "set")
    arguments = ["--from", str(folder), "--out", str(tmp_path / "out.npz")]
    result = here("prepare", "miniimagenet", *arguments)
    assert result.code == 1
    told = "2 train, 1 val, 1 test classes of 3 images; mini-ImageNet has 64 train, 16 val"
    assert told in result.err
    assert "--any-size" in result.err
    assert not (tmp_path / "out.npz").exists()


def test_swapped_pickles_are_seen(tmp_path, monkeypatch):
    """Rejects a count of all classes together: renmengye's script once wrote the test
    classes into val, and those of val into test."""
    monkeypatch.setitem(whole.SPLITS, "train", 2)
    monkeypatch.setitem(whole.SPLITS, "val", 1)
    monkeypatch.setitem(whole.SPLITS, "test", 2)
    monkeypatch.setattr(whole, "IMAGES", 3)
    splits = {**miniatures.SPLITS, "test": ["n00000002", "n00000005"]}
    folder = miniatures.caches(tmp_path / "set", splits=splits)
    arguments = ["--from", str(folder), "--out", str(tmp_path / "out.npz")]
    assert here("prepare", "miniimagenet", *arguments).code == 0
    val, test = (folder / miniatures.CACHES[split] for split in ("val", "test"))
    val.rename(folder / "x")
    test.rename(val)
    (folder / "x").rename(test)
    result = here("prepare", "miniimagenet", *arguments)
    assert result.code == 1
    assert "2 train, 2 val, 1 test classes of 3 images" in result.err


# ----- Missing and damaged images -----


def test_missing_images_are_named(tmp_path):
    """Rejects a list of 60,000, and a first image that stands for all."""
    folder = miniatures.plain(tmp_path / "set", inside="{label}")
    for label in ("n00000003", "n00000002"):
        for place in PLACES:
            (folder / label / f"{label}{place:08}.jpg").unlink()
    words = "no n0000000300000002.jpg; no n0000000300000005.jpg; no n0000000300000007.jpg"
    assert_refused(folder, words, "and 1 more")


def test_nothing_there_is_told_with_what_could_be(tmp_path):
    """Rejects a message that does not say which layouts there are."""
    folder = miniatures.write_csv(tmp_path / "set")
    words = "n0000000300000002.jpg", "images/", "train/n00000003/", "n00000003_N.JPEG"
    assert_refused(folder, *words, "n00000003.tar", "pickles")


@pytest.mark.parametrize("layout", IMAGENET)
def test_number_beyond_the_class_is_named(tmp_path, layout):
    """Rejects an IndexError, and a number 0 that takes the last image."""
    source = layout(tmp_path / "set")
    folder = tmp_path / "set"
    miniatures.write_csv(folder, places=[0, 5, 8])
    words = "no n0000000300000000.jpg: n00000003 has 7 images; no n0000000300000008.jpg"
    assert_refused(source, words)


def test_other_names_do_not_fit_imagenets_order(tmp_path):
    """Rejects a csv of other names, from which a number cannot be had."""
    folder = miniatures.class_folders(tmp_path / "set")
    (folder / "val.csv").write_text(
        "filename,label\na.jpg,n00000004\nb.jpg,n00000004\n"
        "n0000000100000001.jpg,n00000004\n"
    )
    assert_refused(folder, "no a.jpg", "no b.jpg", "no n0000000100000001.jpg")


@pytest.mark.parametrize("layout", IMAGENET)
def test_missing_class_is_named(tmp_path, layout):
    """Rejects 600 missing images in the place of one missing class."""
    splits = {**miniatures.SPLITS, "test": ["n00000009"]}
    source = layout(tmp_path / "set")
    miniatures.write_csv(tmp_path / "set", splits)
    assert_refused(source, "no images of n00000009")


def test_stray_files_do_not_count(tmp_path):
    """Rejects a count that a thumbnail or a folder shifts."""
    folder = miniatures.class_folders(tmp_path / "set")
    expected = built(folder)["images"]
    for label in miniatures.labels():
        (folder / label / ".DS_Store").write_bytes(b"x")
        (folder / label / f"{label}_1.txt").write_bytes(b"x")
        (folder / label / f"{label}_2.JPEG").mkdir()
    np.testing.assert_array_equal(built(folder)["images"], expected)


def test_two_images_with_one_number_are_refused(tmp_path):
    """Rejects a class in which one image stands in for another."""
    folder = miniatures.class_folders(tmp_path / "set")
    (folder / "n00000001" / "n00000001_026.JPEG").write_bytes(b"x")
    assert_refused(folder, "the number 26 is there twice")


JPEG = miniatures.encoded(photo("n00000001", 2))
BAD_IMAGES = {
    "empty": (b"", "readable JPEG or PNG: another format"),
    "html": (b"<!DOCTYPE html>", "readable JPEG or PNG: another format"),
    "truncated": (JPEG[:-200], "truncated"),
    "head only": (JPEG[:400], ""),
    "gif": (
        miniatures.encoded(photo("n00000001", 2), "GIF"),
        "readable JPEG or PNG: another format",
    ),
    "tiff": (
        miniatures.encoded(photo("n00000001", 2), "TIFF"),
        "readable JPEG or PNG: another format",
    ),
    "eps": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "readable JPEG or PNG: another format",
    ),
    "truncated png": (miniatures.encoded(photo("n00000001", 2), "PNG")[:-50], ""),
    "bomb": (
        png_header(60_000, 60_000, COLOUR),
        "decompression bomb",
    ),
    "bomb that warns": (
        png_header(10_000, 9_000, COLOUR),
        "90000000 pixels",
    ),
    "small bomb": (
        png_header(9_000, 9_000, COLOUR),
        "9000 x 9000 pixels",
    ),
    "wide": (png_header(65_536, 1, COLOUR), "65536 x 1 pixels"),
    "high": (png_header(1, 1 << 26, COLOUR), "1 x 67108864 pixels"),
    "16 bits": (miniatures.encoded(Image.new("I;16", (90, 90)), "PNG"), "mode I;16"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_image_is_named(tmp_path, case):
    """Rejects a traceback, a bomb that is unpacked, and formats nobody asked for."""
    data, told = BAD_IMAGES[case]
    folder = miniatures.plain(tmp_path / "set")
    (folder / FIRST).write_bytes(data)
    assert_refused(folder, f"n00000001: {folder / FIRST}: ", told)


def test_blank_errors_are_named_by_their_kind(tmp_path, monkeypatch):
    """Rejects a line that ends where the reason should be."""

    def fill(*_):
        raise MemoryError

    monkeypatch.setattr(miniimagenet, "decode", fill)
    folder = miniatures.plain(tmp_path / "set")
    assert_refused(folder, f"{folder / FIRST}: not a readable JPEG or PNG: MemoryError")


def test_bad_image_in_a_tar_is_named(tmp_path):
    """Rejects a message that names the tar alone."""
    folder = miniatures.class_tars(tmp_path / "set")
    images = {**miniatures.image_names("n00000001"), "n00000001_6.JPEG": JPEG[:-99]}
    tar = folder / "n00000001.tar"
    tar.write_bytes(miniatures.class_tar("n00000001", images))
    assert_refused(folder, f"{tar}: 'n00000001_6.JPEG'", "truncated")


def test_bad_images_are_named_together(tmp_path):
    """Rejects a run for each of them."""
    folder = miniatures.plain(tmp_path / "set")
    for place in PLACES:
        (folder / f"n00000002{place:08}.jpg").write_bytes(b"x")
    names = [f"n00000002{place:08}.jpg" for place in PLACES]
    assert_refused(folder, *names)


def test_large_image_file_is_refused(tmp_path, monkeypatch):
    """Rejects a file that is read whatever its size."""
    monkeypatch.setattr(miniimagenet, "IMAGE_BYTES", 99)
    assert_refused(miniatures.plain(tmp_path / "set"), FIRST, "more than 99 bytes")


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_no_file_is_missing(tmp_path, kind):
    """Rejects a read that waits for ever, and a traceback."""
    folder = miniatures.plain(tmp_path / "set")
    (folder / FIRST).unlink()
    (folder / FIRST).mkdir() if kind == "folder" else os.mkfifo(folder / FIRST)
    result = prepare(folder)
    assert result.code == 1
    assert f"no {FIRST}" in result.err


# ----- Tars -----


def with_members(folder, *members):
    """Write n00000001.tar with more members in front; return the set's folder."""
    images = miniatures.image_names("n00000001")
    with tarfile.open(folder / "n00000001.tar", "w") as tar:
        for name, data, changes in members:
            miniatures.add(tar, name, data, **changes)
        for name, data in images.items():
            miniatures.add(tar, name, data)
    return folder


GOOD = "n00000001_9.JPEG"
MEMBERS = {
    "up": (("../n00000001_9.JPEG", b"x", {}), "expected n00000001_N.JPEG"),
    "absolute": (("/etc/n00000001_9.JPEG", b"x", {}), "expected"),
    "other class": (("n00000002_9.JPEG", b"x", {}), "expected"),
    "other name": (("README", b"x", {}), "expected"),
    "line break": (("n00000001\n_9.JPEG", b"x", {}), "expected"),
    "digits": (("n00000001_\u0663.JPEG", b"x", {}), "expected"),
    "symlink": (
        (GOOD, b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
        "a link",
    ),
    "hard link": ((GOOD, b"", {"type": tarfile.LNKTYPE, "linkname": "x"}), "a link"),
    "device": ((GOOD, b"", {"type": tarfile.CHRTYPE}), "special file"),
    "fifo": ((GOOD, b"", {"type": tarfile.FIFOTYPE}), "special file"),
    "same": (("n00000001_003.JPEG", b"x", {}), "the number 3 is there twice"),
}


@pytest.mark.parametrize("case", MEMBERS)
def test_odd_members_of_a_tar_are_refused(tmp_path, case):
    """Rejects tar-slip, links, devices and members that nobody can place."""
    member, told = MEMBERS[case]
    folder = with_members(miniatures.class_tars(tmp_path / "set"), member)
    assert_refused(folder, "n00000001.tar", told)


def test_sparse_member_is_refused(tmp_path):
    """Rejects a member whose bytes are not those in the archive."""
    folder = with_members(
        miniatures.class_tars(tmp_path / "set"),
        (
            GOOD,
            b"x" * 10,
            {"pax_headers": {"GNU.sparse.map": "0,10", "GNU.sparse.size": "99"}},
        ),
    )
    assert_refused(folder, "n00000001.tar", "special file")


def test_negative_size_does_not_loop(tmp_path):
    """Rejects a walk that goes back for ever (CVE-2025-8194)."""
    folder = with_members(miniatures.class_tars(tmp_path / "set"), (GOOD, b"", {}))
    tar = folder / "n00000001.tar"
    data = bytearray(tar.read_bytes())
    data[124:136] = b"\xff" * 10 + struct.pack(">h", -1024)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    tar.write_bytes(data)
    assert_refused(folder, "n00000001.tar")


def test_members_are_counted(tmp_path, monkeypatch):
    """Rejects a tar that never ends."""
    monkeypatch.setattr(imagenet, "MEMBERS", 5)
    assert_refused(miniatures.class_tars(tmp_path / "set"), "more than 5 members")


def test_long_headers_are_refused(tmp_path):
    """Rejects a walk that reads whatever a header says that there is more of it."""
    folder = miniatures.class_tars(tmp_path / "set")
    comment = {"pax_headers": {"comment": "x" * (1 << 16)}}
    with_members(folder, ("n00000001", b"", {"type": tarfile.DIRTYPE, **comment}))
    assert_refused(folder, "n00000001.tar", "not a readable tar: a header of 65")


def test_headers_for_all_are_not_kept_for_each(tmp_path):
    """Rejects a walk that keeps every member, and with each the header for all: these
    500 would take 75 MB."""
    tar = io.BytesIO()
    common = {f"{number:04}": "" for number in range(4_000)}
    with tarfile.open(fileobj=tar, mode="w", pax_headers=common) as file:
        for number in range(500):
            miniatures.add(file, str(number), type=tarfile.DIRTYPE)
    tar.seek(0)
    tracemalloc.start()
    assert list(imagenet._members(tar, "tar")) == []
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def last_header(data):
    """Return where the last member of a tar begins."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getmembers()[-1].offset


def at_last(data, header):
    """Return a tar with its last header replaced."""
    place = last_header(data)
    return data[:place] + header + data[place + 512 :]


def with_record(data, record):
    """Return a tar with a pax record for the last member, as it is given."""
    info, place = tarfile.TarInfo("x"), last_header(data)
    info.type, info.size = tarfile.XHDTYPE, len(record)
    header = info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0")
    return data[:place] + header + data[place:]


def without_end(data):
    """Return a tar up to the end of its last member's blocks."""
    data = data.rstrip(b"\0")
    return data + bytes(-len(data) % 512)


DAMAGE = {
    "empty": lambda data: b"",
    "html": lambda data: b"<html>" * 200,
    "truncated head": lambda data: data[:600],
    "truncated": lambda data: data[: len(data) // 2 + 100],
    "compressed": gzip.compress,
    "checksum": lambda data: data[:3] + b"x" + data[4:],
    "last checksum": lambda data: at_last(data, b"x" * 512),
    "hole": lambda data: at_last(data, bytes(512)),
    "cut at a header": lambda data: data[: last_header(data)],
    "cut in a header": lambda data: data[: last_header(data) + 99],
    "no end": without_end,
    "more after the end": lambda data: data + data,
    "padding": lambda data: data + bytes(imagenet.PADDING),
    "pax record": lambda data: with_record(data, b"0 path=x\n"),
    "pax size": lambda data: with_record(data, b"10 size=x\n"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_tars_are_refused(tmp_path, case):
    """Rejects a traceback, a compressed tar, which may be a bomb, and half a class: the csv
    numbers would then mean other images."""
    folder = miniatures.class_tars(tmp_path / "set")
    tar = folder / "n00000001.tar"
    tar.write_bytes(DAMAGE[case](tar.read_bytes()))
    assert_refused(folder, f"{tar}: not a readable tar")


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_tars_in_the_tar_are_refused(tmp_path, case):
    """Rejects what the one above does, one level down."""
    path = miniatures.tar_of_tars(tmp_path / "set")
    with tarfile.open(path, "w") as tar:
        for label in miniatures.labels():
            data = miniatures.class_tar(label)
            miniatures.add(
                tar, f"{label}.tar", DAMAGE[case](data) if label == "n00000001" else data
            )
    assert_refused(path, f"{path}: 'n00000001.tar': not a readable tar")


OUTER = {
    "not a tar": (("n00000001.txt", b"x", {}), "CLASS.tar"),
    "up": (("../n00000009.tar", b"x", {}), "CLASS.tar"),
    "twice": (("n00000001.tar", b"x", {}), "CLASS.tar"),
    "link": (("n00000009.tar", b"", {"type": tarfile.SYMTYPE, "linkname": "x"}), "a link"),
}


@pytest.mark.parametrize("case", OUTER)
def test_odd_members_of_the_tar_of_tars_are_refused(tmp_path, case):
    """Rejects a class that is there twice, and whatever is no class."""
    member, told = OUTER[case]
    path = miniatures.tar_of_tars(tmp_path / "set")
    with tarfile.open(path, "a") as tar:
        miniatures.add(tar, *member[:2], **member[2])
    assert_refused(path, told)


@pytest.mark.parametrize("name", [FIRST, "x.pkl", "mini-imagenet.tar.gz"])
def test_file_that_is_no_tar_is_refused(tmp_path, name):
    """Rejects a guess at what a single file may be, and a search for its csv files."""
    (tmp_path / "set").mkdir()
    file = tmp_path / "set" / name
    file.write_bytes(b"x")
    words = "neither a folder nor a .tar", "the folder of the pickles", "unpack"
    assert_refused(file, f"{file}: ", *words)


# ----- Pickles -----


FORMS = {"caches": miniatures.caches, "categories": miniatures.categories}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5, "python 2"])
@pytest.mark.parametrize("form", FORMS)
def test_pickles_give_their_images(tmp_path, form, protocol):
    """Rejects images of another class, in another order or of another split."""
    arrays = built(FORMS[form](tmp_path / "set", protocol))
    assert arrays["names"].tolist() == miniatures.labels()
    for seed, (split, names) in enumerate(miniatures.SPLITS.items()):
        pixels = miniatures.small_images(len(names) * miniatures.IMAGES, seed)
        for i, name in enumerate(names):
            row = miniatures.labels().index(name)
            assert row in arrays[split]
            np.testing.assert_array_equal(arrays["images"][row], pixels[i :: len(names)])


def test_pickles_need_no_room_for_temporaries(tmp_path, monkeypatch):
    """Rejects images that are moved to TMPDIR, which may have less room than the output."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    built(miniatures.caches(tmp_path / "set", 2))


def test_learn2learns_name_of_val_is_known(tmp_path):
    """Rejects a set that is called incomplete because its pickle is of "validation"."""
    folder = miniatures.caches(tmp_path / "set")
    (folder / miniatures.CACHES["val"]).rename(
        folder / "mini-imagenet-cache-validation.pkl"
    )
    built(folder)


def test_hashes_are_told_and_looked_at_first(tmp_path):
    """Rejects a hash that is looked at after the reading, or not at all."""
    folder = miniatures.caches(tmp_path / "set")
    files = [folder / name for name in miniatures.CACHES.values()]
    right = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    wanted = [word for digest in right for word in ("--sha256", digest.upper())]
    result = prepare(folder, *wanted)
    assert result.code == 0
    for file, digest in zip(files, right, strict=True):
        assert f"sha256 of {file.name}: {digest}\n" in result.out
    (tmp_path / "out.npz").unlink()
    for file in files:
        data = file.read_bytes()
        file.write_bytes(b"\x80\x04junk")  # it would be refused for this otherwise
        got = hashlib.sha256(b"\x80\x04junk").hexdigest()
        assert_refused(folder, f"{file}: its sha256 is {got}", options=wanted)
        file.write_bytes(data)


def test_incomplete_pickles_are_named(tmp_path):
    """Rejects a KeyError, and a search for images where pickles lie."""
    folder = miniatures.caches(tmp_path / "set")
    (folder / miniatures.CACHES["test"]).unlink()
    assert_refused(folder, "no mini-imagenet-cache-test.pkl beside")


def test_two_pickles_of_a_split_are_refused(tmp_path):
    """Rejects a silent choice between two files."""
    folder = miniatures.caches(tmp_path / "set")
    miniatures.categories(folder)
    assert_refused(folder, "keep one of them")


def test_class_in_two_pickles_is_refused(tmp_path):
    """Rejects test classes that were trained on."""
    splits = {**miniatures.SPLITS, "test": ["n00000003"]}
    folder = miniatures.caches(tmp_path / "set", splits=splits)
    assert_refused(folder, "'n00000003' is in another split too")


def test_class_name_that_is_none_is_refused(tmp_path):
    """Rejects names that would break a line or a path."""
    splits = {**miniatures.SPLITS, "test": ["../n\n1"]}
    folder = miniatures.caches(tmp_path / "set", splits=splits)
    assert_refused(folder, "no class label")


@pytest.mark.parametrize(
    "data", [b"", b"<!DOCTYPE html>", b"\x80\x04\x95", b"\x80\x02cos\n"]
)
def test_damaged_pickle_is_named(tmp_path, data):
    """Rejects a traceback, and a line that does not name the file."""
    folder = miniatures.caches(tmp_path / "set")
    (folder / miniatures.CACHES["val"]).write_bytes(data)
    assert_refused(
        folder, miniatures.CACHES["val"], "not a readable pickle of mini-ImageNet"
    )


def test_large_pickle_is_refused(tmp_path, monkeypatch):
    """Rejects a file that is hashed and read whatever its size."""
    monkeypatch.setattr(caches, "PICKLE_BYTES", 99)
    assert_refused(miniatures.caches(tmp_path / "set"), "train.pkl", "more than 99 bytes")


# ----- Wrong options -----


DIGEST = "0" * 64
USAGE = {
    "out": (miniatures.plain, ["--out", "x.txt"], "does not name an .npz"),
    "sha256 short": (miniatures.caches, ["--sha256", "abc"], "64 hexadecimal digits"),
    "sha256 of images": (miniatures.plain, ["--sha256", DIGEST], "is for pickles"),
    "csv with pickles": (miniatures.caches, ["--csv", "."], "not for pickles"),
    "resize pickles": (miniatures.caches, ["--resize", "box"], "not for pickles"),
    "resize": (miniatures.plain, ["--resize", "best"], "'lanczos'"),
    "extra": (miniatures.plain, ["x"], "unexpected extra argument"),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_options_exit_2(tmp_path, case):
    """Rejects an option that is silently left out of account."""
    layout, options, told = USAGE[case]
    assert_refused(layout(tmp_path / "set"), told, options=options, code=2)


def test_missing_source_exits_2(tmp_path):
    """Rejects a traceback."""
    assert_refused(tmp_path / "none", "does not exist", code=2)


# ----- A process of its own: memory, disk, signals -----


def run(*arguments, **options):
    """Run the script; return the finished process."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--any-size", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


# (ru_maxrss would have the parent's memory in it.)
PEAK = """
import sys
from tinymaml.__main__ import main
sys.argv[1:1] = ["prepare", "miniimagenet"]
try:
    main()
finally:
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(line.split()[1], file=sys.stderr)
"""


def peak(folder):
    """Return the largest memory, in MiB, that the command needs for a set."""
    arguments = ["--any-size", "--from", folder, "--out", folder.parent / "out.npz"]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stderr) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
@pytest.mark.parametrize("protocol", [2, 4])
def test_memory_does_not_grow_with_the_set(tmp_path, protocol):
    """Rejects a preparation that holds the images while it reads or writes: 50 MB more of
    them may cost the 13 MB of a class, and some slack."""
    needed = []
    for images in (2, 600):
        folder = tmp_path / str(images)
        folder.mkdir()
        for split, names in miniatures.SPLITS.items():
            rows = np.arange(images * len(names)).reshape(-1, images).tolist()
            content = {
                "image_data": np.zeros((images * len(names), 84, 84, 3), np.uint8),
                "class_dict": dict(zip(names, rows, strict=True)),
            }
            with open(folder / miniatures.CACHES[split], "wb") as file:
                pickle.dump(content, file, protocol)
        needed.append(peak(folder))
    assert (tmp_path / "out.npz").stat().st_size > 50e6
    assert needed[1] < needed[0] + 30


def test_full_disk_is_one_line(tmp_path):
    """Rejects a traceback, and a torn file left behind."""
    resource = pytest.importorskip("resource", reason="POSIX only")
    folder = miniatures.plain(tmp_path / "set")
    before = tree(tmp_path)
    limits = resource.RLIMIT_FSIZE, (50_000, 50_000)
    done = run(
        *("--from", folder, "--out", tmp_path / "out.npz"),
        preexec_fn=lambda: resource.setrlimit(*limits),
    )
    assert done.returncode == 1
    assert done.stderr == f"Error: {tmp_path / 'out.npz'}: File too large\n"
    assert tree(tmp_path) == before


def test_interrupt_leaves_the_old_file(tmp_path, monkeypatch):
    """Rejects half a file in the place of a whole one, and a stray temporary."""
    folder = miniatures.plain(tmp_path / "set")
    (tmp_path / "out.npz").write_bytes(b"old")
    before = tree(tmp_path)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(miniimagenet, "decode", interrupt)
    result = prepare(folder)
    assert (result.code, result.err.strip()) == (130, "")
    assert tree(tmp_path) == before


def test_the_script_is_the_command(tmp_path):
    """Rejects a script that loses its options, or the traceback for --debug."""
    folder = miniatures.plain(tmp_path / "set")
    done = run("--from", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("miniimagenet.npz\n")
    assert (tmp_path / "miniimagenet.npz").is_file()
    debug = run("--from", tmp_path, "--debug", cwd=tmp_path)
    assert debug.returncode == 1
    assert "Traceback" in debug.stderr
