"""`tinymaml prepare images`: every layout, format and fault of a user's own images."""

import contextlib
import hashlib
import io
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from miniatures import COLOUR, png_header
from places import ROOT
from processes import here
from tinymaml.data import own_images as prepared
from tinymaml.errors import UsageError, WorldError
from tinymaml.prepare import folders, own_images, pictures, tables
from tinymaml.prepare.files import DATA_ERRORS


SCRIPT = ROOT / "data_scripts" / "images.py"
CLASSES = ["cat", "dog", "größe 7", "ねこ", "a b"]


def image(number, size=(12, 10), mode="RGB"):
    """Return an image of one colour for each number, with a corner that is another."""
    rng = np.random.default_rng(number)
    made = Image.new("RGB", size, tuple(rng.integers(256, size=3).tolist()))
    made.paste((255, 0, 0), (0, 0, 4, 4))
    return made.convert(mode)


def save(path, number=0, mode="RGB", **how):
    """Write an image file; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image(number, mode=mode).save(path, **how)
    return path


def tree(folder, counts, inside="{name}"):
    """Write `counts` images of each class below a folder; return the folder."""
    for row, (name, count) in enumerate(counts.items()):
        for number in range(count):
            save(folder / inside.format(name=name) / f"{number:03}.png", 100 * row + number)
    return folder


def built(source, *options, out=None):
    """Run the command; return the arrays of its file, and what it printed."""
    out = out or source.parent / "out.npz"
    told = here("prepare", "images", "--from", source, "--out", out, *options)
    assert told.code == 0, told.err
    with np.load(out, allow_pickle=False) as file:
        return dict(file), told


def refused(source, *options, code=1):
    """Return the one line with which the command refuses; nothing is written."""
    folder = source.parent
    before = sorted(folder.rglob("*"))
    out = folder / "out.npz"
    told = here("prepare", "images", "--from", source, "--out", out, *options)
    assert (told.code, told.out) == (code, ""), told
    errors = [line for line in told.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, told.err
    assert code == 2 or told.err.count("\n") == 1, told.err
    assert sorted(folder.rglob("*")) == before
    return errors[0]


# ----- Layouts -----


def test_each_sub_folder_is_a_class(tmp_path):
    """Rejects classes that are cut to one size or mixed, a name that is spoilt, and images
    in another order than that of their names."""
    counts = dict(zip(CLASSES, (2, 3, 5, 2, 4), strict=True))
    found, told = built(tree(tmp_path / "my set", counts))
    assert found["names"].tolist() == sorted(CLASSES)
    assert found["sizes"].tolist() == [counts[name] for name in sorted(CLASSES)]
    assert found["groups"].tolist() == [""] * 5
    assert found["images"].shape == (16, 28, 28, 3)
    digest, first = hashlib.sha256(), 0
    for name in sorted(CLASSES):
        for number in range(counts[name]):
            expected = image(100 * CLASSES.index(name) + number).resize((28, 28), 1)
            np.testing.assert_array_equal(found["images"][first + number], expected)
        pixels = found["images"][first : first + counts[name]]
        digest.update(name.encode() + b"\n" + pixels.tobytes())
        first += counts[name]
    assert str(found["sha256"]) == digest.hexdigest()
    assert f"sha256     {digest.hexdigest()}\n" in told.out
    assert "classes    5 of 2 to 5 images\n" in told.out
    assert told.err == ""


GROUPED = {f"{group}/{name}": 2 for group in ("Greek", "Latin A") for name in ("a", "b")}


def test_the_folder_above_a_class_is_its_group(tmp_path):
    """Rejects two classes of one name that become one, and groups that are lost."""
    found, told = built(tree(tmp_path / "set", GROUPED))
    assert found["names"].tolist() == [*GROUPED]
    assert found["groups"].tolist() == ["Greek", "Greek", "Latin A", "Latin A"]
    assert "groups     2: --within group\n" in told.out


@pytest.mark.parametrize("inside", ["set", "x/y"])
def test_a_folder_around_all_is_no_group(tmp_path, inside):
    """Rejects an archive's own folder that is taken for a group."""
    tree(tmp_path / "top" / inside, {"a": 2, "b": 2})
    found, _ = built(tmp_path / "top")
    assert found["names"].tolist() == ["a", "b"]
    assert found["groups"].tolist() == ["", ""]


SPLITS = {"train/a": 2, "Train/b": 2, "valid/c": 3, "test/d": 2}


@pytest.mark.parametrize("group", ["", "G/"])
def test_folders_of_splits_are_the_split(tmp_path, group):
    """Rejects a split that is given and then drawn, and one that is read as a group."""
    counts = {name.replace("/", f"/{group}"): n for name, n in SPLITS.items()}
    found, _ = built(tree(tmp_path / "set", counts))
    assert found["names"].tolist() == [f"{group}{name}" for name in "abcd"]
    assert found["groups"].tolist() == [group.rstrip("/")] * 4
    parts = {part: found[part].tolist() for part in ("train", "val", "test")}
    assert parts == {"train": [0, 1], "val": [2], "test": [3]}
    pooled, _ = built(tmp_path / "set", "--split", "25/25/50")
    assert [len(pooled[part]) for part in parts] == [1, 1, 2]


def test_a_class_in_two_splits_is_refused_or_pooled(tmp_path):
    """Rejects test classes that were trained on: train/cat and test/cat are common."""
    counts = {"train/a": 2, "train/b": 2, "test/a": 3, "test/b": 2}
    source = tree(tmp_path / "set", counts)
    told = refused(source)
    assert "class 'a' is in train and test; --split 64/16/20 pools" in told
    found, _ = built(source, "--split", "50/0/50")
    assert found["sizes"].tolist() == [5, 4]
    assert sorted([*found["train"], *found["test"]]) == [0, 1]


def write_csv(path, rows, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{row}{end}" for row in rows).encode())


def test_a_csv_file_names_images_classes_groups_and_splits(tmp_path):
    """Rejects columns in one order only, blanks that are kept, and images that lie where
    only some csv files say."""
    source = tmp_path / "set"
    tree(source, {"a": 2, "images": 2, "images/b": 2, "train/x y": 2})
    rows = [
        *("split, Label,group , number,File", "train, a ,G1, 7, a/000.png"),
        *("train,a,G1,7,001.png", "valid,q,G2,7,000.png", "valid,q,G2,7,001.png"),
        *("test,b,G2,7,001.png", "test,b,G2,7,images/b/000.png"),
        *("train,x y,G1,7,000.png", "train,x y,G1,7,001.png", "", "  "),
    ]
    write_csv(source / "labels.csv", rows, "\r\n")
    for place in (source, source / "labels.csv"):
        found, _ = built(place, out=tmp_path / "out.npz")
        names = ["G1/a", "G1/x y", "G2/b", "G2/q"]
        assert found["names"].tolist() == names
        assert found["groups"].tolist() == ["G1", "G1", "G2", "G2"]
        assert found["sizes"].tolist() == [2, 2, 2, 2]
        parts = [found[part].tolist() for part in ("train", "val", "test")]
        assert parts == [[0, 1], [3], [2]]
        first = [found["images"][2 * row] for row in range(4)]
        expected = (0, 300, 201, 100)
        for pixels, number in zip(first, expected, strict=True):
            np.testing.assert_array_equal(pixels, image(number).resize((28, 28), 1))


def test_csv_files_of_the_splits(tmp_path):
    """Rejects a reader of one csv file, and missing files that are not named."""
    source = tree(tmp_path / "set", {"images": 6})
    for row, part in enumerate(("train", "val", "test")):
        names = [f"{2 * row + i:03}.png" for i in range(2)]
        lines = ["filename,class", *(f"{name},{part} class" for name in names), "no.png,x"]
        write_csv(source / f"{part}.csv", lines[: 4 if part == "test" else 3])
    found, told = built(source)
    assert found["names"].tolist() == ["test class", "train class", "val class"]
    assert [found[part].tolist() for part in ("train", "val", "test")] == [[1], [2], [0]]
    assert "no.png': not a readable image: No such file or directory\n" in told.err


WRONG_CSV = {
    "../a/000.png,x": "not a file name and a label in line 2",
    "/etc/passwd,x": "not a file name and a label in line 2",
    "a/000.png,../x": "not a file name and a label in line 2",
    "a/000.png,x\n\nb/000.png,x": "line 3",
    "a/000.png,x\na/000.png,y": "line 3: 'a/000.png' is there twice",
    "a/000.png": "line 2",
    "": "no images",
}


@pytest.mark.parametrize("rows", WRONG_CSV)
def test_wrong_csv_files_are_refused(tmp_path, rows):
    """Rejects names that lead out of the folder, and one image in two classes."""
    source = tree(tmp_path / "set", {"a": 2, "b": 2})
    write_csv(source / "x.csv", ["filename,label", *rows.split("\n")])
    assert WRONG_CSV[rows] in refused(source)


def test_other_csv_files_are_left_out_or_named(tmp_path):
    """Rejects notes beside the folders that stop it, and a guess among several tables."""
    source = tree(tmp_path / "set", {"a": 2, "b": 2})
    write_csv(source / "notes.csv", ["day,weather", "1,fine"])
    _, told = built(source)
    assert "left out 'notes.csv': no columns filename and label\n" in told.out
    write_csv(source / "more.csv", ["filename,label", "a/000.png,x"])
    told = refused(source)
    assert "several csv files: more.csv, notes.csv; give one as --from FILE.csv" in told
    write_csv(source / "more.csv", ["filename,label,split", "a/000.png,x,holdout"])
    assert "line 2: 'holdout' is not train, val or test" in refused(source / "more.csv")
    write_csv(
        source / "more.csv", ["filename,label,split", "a/000.png,x,", "b/000.png,y,val"]
    )
    assert "class 'x' has no split" in refused(source / "more.csv")


def test_what_is_no_class_is_named(tmp_path):
    """Rejects files that are silently lost, and junk of a desktop that is named."""
    source = tree(tmp_path / "set", {"a": 2, "b": 2, "b/c": 2, "b/d": 3})
    save(source / "cover.png")
    for name in ("a/Thumbs.db", "a/.DS_Store", "._a/000.png", "__MACOSX/a/000.png"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"x")
    for name in ("a/README", "a/photo.HEIC", "b/c/scan.tif"):
        (source / name).write_bytes(b"x")
    found, told = built(source)
    assert found["names"].tolist() == ["a", "b/c", "b/d"]
    assert "left out 2 images beside folders, in 'b'\n" in told.out
    assert f"left out 1 images beside folders, in '{source}'\n" in told.out
    assert "left out 3 files that are no images (.heic, .tif, README)\n" in told.out
    assert told.err == ""


LAYOUTS = {
    "empty": ([], "no images (.png .jpg"),
    "flat": (["0.png", "1.png"], "2 images lie in it directly; each class needs"),
    "flat splits": (["train/0.png", "test/0.png"], "images without the folder of a class"),
    "beside splits": (["train/a/0.png", "test/b/0.png", "c/0.png"], "'c' lies beside"),
    "deep": (["1/2/3/4/5/6/0.png"], "more than 5 folders deep"),
    "one class": (
        ["a/0.png", "a/1.png"],
        "1 classes of 2 images or more; a task needs two",
    ),
    "one image": (["a/0.png", "b/1.png"], "0 classes of 2 images or more"),
    "no name": (["a\nb/0.png", "c/1.png"], r"'a\nb' cannot be printed"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_other_layouts_are_refused(tmp_path, case):
    """Rejects a traceback, and classes that nobody meant."""
    (tmp_path / "set").mkdir()
    for name in LAYOUTS[case][0]:
        save(tmp_path / "set" / name)
    assert LAYOUTS[case][1] in refused(tmp_path / "set")


def test_links_are_followed_but_not_for_ever(tmp_path):
    """Rejects class folders that are links being lost, and a loop of links."""
    tree(tmp_path / "elsewhere", {"a": 2})
    source = tree(tmp_path / "set", {"b": 2})
    (source / "a").symlink_to(tmp_path / "elsewhere" / "a")
    assert built(source)[0]["names"].tolist() == ["a", "b"]
    (source / "b" / "up").symlink_to(source)
    assert "more than 5 folders deep" in refused(source)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_what_is_no_file_is_not_read(tmp_path):
    """Rejects a reader that waits at a pipe for ever."""
    source = tree(tmp_path / "set", {"a": 2, "b": 2})
    os.mkfifo(source / "a" / "9.png")
    found, told = built(source)
    assert found["sizes"].tolist() == [2, 2]
    assert "9.png': not a readable image: not a regular file\n" in told.err


def test_files_and_images_have_a_largest_number(tmp_path, monkeypatch):
    """Rejects a walk through a whole disk, and a file that would fill it."""
    source = tree(tmp_path / "set", {"a": 3, "b": 2})
    monkeypatch.setattr(own_images, "BYTES", 5 * 28 * 28 * 3 - 1)
    assert "5 images take 11760 bytes, more than 11759" in refused(source)
    monkeypatch.setattr(folders, "ENTRIES", 6)
    assert "more than 6 files" in refused(source)
    monkeypatch.setattr(tables, "CSV_BYTES", 6)
    write_csv(source / "x.csv", ["filename,label", "a/000.png,x"])
    assert "more than 6 bytes" in refused(source / "x.csv")


@given(st.binary(max_size=80), st.sampled_from([b"", b"filename,label\n"]))
def test_any_csv_is_read_or_refused(tmp_path_factory, data, head):
    """Rejects an exception of another kind, and a name that leads out of the folder."""
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes(head + data)
    try:
        rows = tables.read(path)
    except WorldError:
        return
    for row in rows:
        for name in (row.filename, row.label):
            assert (path.parent / name).resolve().is_relative_to(path.parent.resolve())
            assert not name.startswith("/")


# ----- Formats -----


def rgba():
    """Return an image whose right half is transparent, over black."""
    made = image(3).convert("RGBA")
    made.paste((0, 0, 0, 0), (6, 0, 12, 10))
    return made


def on_white(made):
    """Return a transparent image on white, computed by hand."""
    pixels = np.asarray(made).astype(float)
    alpha = pixels[..., 3:] / 255
    return np.rint(alpha * pixels[..., :3] + (1 - alpha) * 255)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "BMP", "JPEG"])
def test_every_format_is_read(tmp_path, kind):
    """Rejects a format that is refused, whatever the file is called."""
    how = {"lossless": True} if kind == "WEBP" else {}
    file = save(tmp_path / "x.png", 5, format=kind, **how)
    expected = np.asarray(image(5)).astype(int)
    found = pictures.read(file, 12, grey=False)
    small = np.asarray(image(5).resize((12, 12), Image.Resampling.LANCZOS)).astype(int)
    assert found.shape == (12, 12, 3)
    assert expected.shape == (10, 12, 3)
    assert kind == "JPEG" or np.abs(found - small).max() <= 3
    assert np.abs(found - small).mean() < 15


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_is_read(tmp_path, mode):
    """Rejects a mode that is refused, and sixteen bits that are clipped at eight."""
    kind = "JPEG" if mode == "CMYK" else "PNG"
    if mode == "I;16":
        values = np.linspace(0, 65535, 144).reshape(12, 12).astype(np.uint16)
        Image.fromarray(values).save(tmp_path / "x.png")
        expected = np.rint(values / 257)[..., None]
    else:
        made = image(5, (12, 12)).convert(mode)
        made.save(tmp_path / "x.png", kind, **({"quality": 100} if mode == "CMYK" else {}))
        expected = np.asarray(made.convert("RGB")).astype(int)
    found = pictures.read(tmp_path / "x.png", 12, grey=False)
    assert found.dtype == np.uint8
    assert np.abs(found - expected).mean() < (8 if mode == "CMYK" else 0.51)
    grey = pictures.read(tmp_path / "x.png", 12, grey=True)
    np.testing.assert_array_equal(grey, Image.fromarray(found).convert("L"))


@pytest.mark.parametrize("kind", ["RGBA PNG", "LA PNG", "P PNG", "RGBA GIF", "RGBA WEBP"])
def test_transparent_images_lie_on_white(tmp_path, kind):
    """Rejects what is hidden under the transparency: black, in most files."""
    mode, kind = kind.split()
    made = rgba().resize((12, 12))
    if mode == "P":
        made = made.quantize(8)
        assert made.has_transparency_data
    elif mode == "LA":
        made = made.convert("LA")
    file = tmp_path / "x"
    made.save(file, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    found = pictures.read(file, 12, grey=False)
    with Image.open(file) as again:
        expected = on_white(again.convert("RGBA"))
    assert np.abs(found - expected).max() <= 1
    assert found[:, 8:].min() == 255


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "RGBA PNG", "I;16 PNG"])
def test_exif_orientation_is_applied(tmp_path, turn, kind):
    """Rejects photographs that lie on their side, and a turn the other way."""
    *mode, kind = kind.split()
    plain = np.add.outer(10 * np.arange(16), 4 * np.arange(16)).astype(np.uint8)
    made = Image.fromarray(plain).convert("RGBA" if mode == ["RGBA"] else "RGB")
    if mode == ["I;16"]:
        made = Image.fromarray(plain.astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = turn
    how = {"quality": 100} if kind == "JPEG" else {}
    made.save(tmp_path / "x", kind, exif=exif, **how)
    found = pictures.read(tmp_path / "x", 16, grey=True).astype(int)
    plain = plain.astype(int)
    turned = {
        **{1: plain, 2: plain[:, ::-1], 3: plain[::-1, ::-1], 4: plain[::-1]},
        **{5: plain.T, 6: plain.T[:, ::-1], 7: plain.T[::-1, ::-1], 8: plain.T[::-1]},
    }
    off = {name: np.abs(found - one).mean() for name, one in turned.items()}
    assert off.pop(turn) < 2
    assert min(off.values()) > 10


def test_the_first_frame_of_an_animation_is_taken(tmp_path):
    """Rejects the last frame, or a refusal."""
    for kind in ("GIF", "WEBP", "PNG"):
        file = tmp_path / f"x.{kind.lower()}"
        frames = [image(number) for number in (7, 8, 9)]
        how = {"lossless": True} if kind == "WEBP" else {}
        frames[0].save(file, kind, save_all=True, append_images=frames[1:], **how)
        found = pictures.read(file, 12, grey=False).astype(int)
        assert np.abs(found - np.asarray(image(7).resize((12, 12), 1))).max() <= 3


def test_odd_exif_data_are_no_fault(tmp_path):
    """Rejects an image that is lost for what only its orientation needs."""
    for exif in (
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\5\0\0\0\1\xff\xff\xff\xf0",
        b"x",
    ):
        image(3).save(tmp_path / "x.jpg", exif=exif, quality=100)
        found = pictures.read(tmp_path / "x.jpg", 12, grey=False)
        assert (
            np.abs(found - np.asarray(image(3).resize((12, 12), 1)).astype(int)).mean() < 9
        )


def test_sizes_and_colours_are_as_asked(tmp_path):
    """Rejects options that are read but not used."""
    source = tree(tmp_path / "set", {"a": 2, "b": 2})
    assert built(source, "--size", "84")[0]["images"].shape == (4, 84, 84, 3)
    found = built(source, "--size", "8", "--grey")[0]["images"]
    assert found.shape == (4, 8, 8)
    expected = ImageOps.grayscale(image(101)).resize((8, 8), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(found[3], expected)


# ----- Bad files -----


def bad_files(folder):
    """Write a file of each kind of fault; return their names."""
    good = save(folder / "good.png").read_bytes()
    (folder / "good.png").unlink()
    jpeg = io.BytesIO()
    image(1, (99, 99)).save(jpeg, "JPEG")
    tiff = io.BytesIO()
    image(1).save(tiff, "TIFF")
    files = {
        "empty.png": b"",
        "text.jpg": b"no image",
        "cut.png": good[: len(good) // 2],
        "cut.jpg": jpeg.getvalue()[:500],
        "tiff.png": tiff.getvalue(),
        "large.png": png_header(60_000, 60_000, COLOUR),
        "long.png": png_header(70_000, 2, COLOUR),
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "html.gif": b"<html>",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "gone.webp").symlink_to(folder / "nowhere")
    (folder / "folder.bmp").mkdir()
    return [*files, "gone.webp"]


def test_every_bad_file_is_named_and_left_out(tmp_path):
    """Rejects a set that is lost for one bad file, one that is lost in silence, a bomb that
    is unpacked, and a reader that starts Ghostscript."""
    source = tree(tmp_path / "set", {"a": 3, "b": 2})
    names = bad_files(source / "a")
    found, told = built(source)
    assert found["sizes"].tolist() == [3, 2]
    lines = told.err.splitlines()
    assert len(lines) == len(names)
    for name in names:
        one = [line for line in lines if name in line]
        assert len(one) == 1, name
        assert one[0].startswith(f"Warning: '{source}/a/{name}': not a readable image: ")
    again = here("prepare", "images", source, "--out", tmp_path / "again.npz")
    assert again.err == told.err  # no address of an object in memory


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_spoilt_images_are_read_or_refused(tmp_path, kind):
    """Rejects an exception of another kind, with which one bad file ends all, and an image
    of another shape."""
    file = io.BytesIO()
    made = image(3) if kind == "JPEG" else rgba()
    made.save(file, kind)
    data, rng = file.getvalue(), np.random.default_rng(0)
    for _ in range(150):
        spoilt = bytearray(data)
        for place in rng.integers(len(data), size=rng.integers(1, 5)):
            spoilt[place] = rng.integers(256)
        cut = len(spoilt) if rng.random() < 0.8 else int(rng.integers(len(spoilt)))
        (tmp_path / "x").write_bytes(spoilt[:cut])
        with contextlib.suppress(*DATA_ERRORS):
            assert pictures.read(tmp_path / "x", 8, grey=False).shape == (8, 8, 3)


def test_many_bad_files_do_not_fill_the_screen(tmp_path):
    """Rejects a thousand lines, and a count that is off by one."""
    source = tree(tmp_path / "set", {"a": 2, "b": 2})
    for number in range(101):
        (source / "a" / f"bad {number}.png").write_bytes(b"x")
    lines = built(source)[1].err.splitlines()
    assert len(lines) == 101
    assert lines[-1] == "Warning: and 1 more files"
    (source / "a" / "bad 0.png").unlink()
    assert len(built(source)[1].err.splitlines()) == 100


def test_large_files_are_not_read(tmp_path, monkeypatch):
    """Rejects a file that is read whatever its size."""
    source = tree(tmp_path / "set", {"a": 2, "b": 2, "c": 2})
    monkeypatch.setattr(pictures, "IMAGE_BYTES", 400)
    (source / "b" / "000.png").write_bytes(
        (source / "b" / "000.png").read_bytes() + b"x" * 400
    )
    found, told = built(source)
    assert found["names"].tolist() == ["a", "c"]
    assert "b/000.png': not a readable image: more than 400 bytes\n" in told.err
    monkeypatch.setattr(pictures, "PIXELS", 119)
    assert "12 x 10 pixels" in refused(source)


def test_small_classes_are_left_out_and_named(tmp_path):
    """Rejects a class that is lost in silence, a limit that is off by one, and a count
    before bad files are left out."""
    source = tree(tmp_path / "set", {"a": 5, "b": 4, "c": 5, "d": 1, "e": 5})
    (source / "a" / "004.png").write_bytes(b"x")
    found, told = built(source, "--min-images", "5")
    assert found["names"].tolist() == ["c", "e"]
    assert found["sizes"].tolist() == [5, 5]
    assert "left out 3 classes of fewer than 5 images: a, b, d\n" in told.out
    for row, name in enumerate(("c", "e")):
        expected = image({"c": 200, "e": 400}[name]).resize((28, 28), 1)
        np.testing.assert_array_equal(found["images"][5 * row], expected)


# ----- The split -----


@given(
    st.integers(2, 300),
    st.none() | st.tuples(*[st.integers(0, 100)] * 3).filter(any),
    st.integers(0, 9),
)
def test_a_drawn_split_is_a_partition(classes, split, seed):
    """Rejects a class in two parts or in none, shares that are off by more than a class,
    and parts too small for 5 ways where they need not be."""
    names = [f"{number:03}" for number in range(classes)]
    rows = own_images._rows(names, {}, split, seed)
    every = np.concatenate([*rows.values()])
    assert sorted(every.tolist()) == list(range(classes))
    assert all((np.diff(part) > 0).all() for part in rows.values())
    sizes = [len(part) for part in rows.values()]
    assert sizes == [*own_images.counts(classes, split)]
    if split:
        shares = np.array(split) * classes / sum(split)
        assert np.abs(shares - sizes).max() <= 1
    else:
        least = {0: 1, 1: 5, 2: 5}[min(2, classes // 5 - 1) if classes >= 10 else 0]
        assert sizes[0] >= least
        assert sizes[2] >= least
        assert (sizes[1] >= 5) == (classes >= 15)
        assert sizes[1] >= 5 or sizes[1] == 0


def test_the_usual_split_of_some_numbers():
    """Rejects other shares than 64/16/20 of many classes."""
    assert own_images.counts(100, None) == (64, 16, 20)
    assert own_images.counts(10, None) == (5, 0, 5)
    assert own_images.counts(2, None) == (1, 0, 1)
    assert own_images.counts(15, None) == (5, 5, 5)
    assert own_images.counts(10, (50, 25, 25)) == (5, 3, 2)
    assert own_images.counts(3, (0, 0, 1)) == (0, 0, 3)


def test_the_seed_shuffles_the_classes(tmp_path):
    """Rejects a split in the order of the names, another one each time, and a seed that is
    read but not used."""
    source = tree(tmp_path / "set", {f"{i:02}": 2 for i in range(20)})
    splits = []
    for seed in ("0", "0", "1"):
        found, told = built(source, "--seed", seed)
        splits.append([found[part].tolist() for part in ("train", "val", "test")])
    assert splits[0] == splits[1] != splits[2]
    assert [*map(len, splits[0])] == [10, 5, 5]
    assert splits[0][0] != list(range(10))
    assert "train      10 classes\n" in told.out


def test_it_says_what_the_split_allows(tmp_path):
    """Rejects a user who learns only in training that there are too few classes."""
    source = tree(tmp_path / "set", {"a": 2, "b": 2, "c": 2})
    told = built(source)[1].out
    assert "train      2 classes: tasks have at most 2 ways\n" in told
    assert "val        0 classes: train with --validate-every 0\n" in told


# ----- The command -----


USAGE = {
    "none": ([], "give one folder or csv file"),
    "two": (["set", "--from", "set"], "give one folder or csv file"),
    "out": (["set", "--out", "x.txt"], "does not name an .npz"),
    "split": (["set", "--split", "64/36"], "'64/36' is not like 64/16/20"),
    "split text": (["set", "--split", "a/b/c"], "is not like 64/16/20"),
    "split sign": (["set", "--split", "1/-1/1"], "is not like 64/16/20"),
    "split none": (["set", "--split", "0/0/0"], "leaves no classes"),
    "size": (["set", "--size", "7"], "7 is not in the range"),
    "large": (["set", "--size", "257"], "257 is not in the range"),
    "least": (["set", "--min-images", "0"], "0 is not in the range"),
    "missing": (["nothing"], "does not exist"),
}


@pytest.mark.parametrize("case", USAGE)
def test_wrong_options_exit_2(tmp_path, monkeypatch, case):
    """Rejects an option that is silently left out of account."""
    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "set", {"a": 2, "b": 2})
    told = here("prepare", "images", *USAGE[case][0])
    assert (told.code, told.out) == (2, "")
    assert USAGE[case][1] in told.err
    assert [file.name for file in tmp_path.iterdir()] == ["set"]


def test_archives_are_to_be_unpacked(tmp_path):
    """Rejects a traceback for a zip."""
    (tmp_path / "set.zip").write_bytes(b"PK")
    assert "neither a folder nor a .csv; unpack" in refused(tmp_path / "set.zip")


def test_a_sheet_lies_beside_the_file(tmp_path):
    """Rejects a picture without some part, and one that replaces a user's."""
    source = tree(tmp_path / "set", {f"{i:02} ねこ": 12 for i in range(16)})
    save(tmp_path / "out.png", 1)
    before = (tmp_path / "out.png").read_bytes()
    found, told = built(source)
    assert f"look at    {tmp_path / 'out-sheet.png'}\n" in told.out
    assert (tmp_path / "out.png").read_bytes() == before
    with Image.open(tmp_path / "out-sheet.png") as sheet:
        pixels = np.asarray(sheet).astype(int)
    step = own_images.SHEET_SIDE + own_images.MARGIN
    rows = [*found["train"][:10], *found["val"], *found["test"]]
    assert pixels.shape[0] == len(rows) * step + own_images.MARGIN
    for line, row in enumerate(rows):
        y = own_images.MARGIN + line * step + 30
        assert (pixels[y - 30 : y, : own_images.LABEL_WIDTH] < 99).any()  # its name
        for column in (0, 9):
            at = pixels[y, own_images.LABEL_WIDTH + column * step + 30]
            wanted = image(100 * row + column).getpixel((9, 8))
            assert np.abs(at - wanted).max() <= 2
    assert sorted(x.name for x in tmp_path.iterdir()) == [
        *("out-sheet.png", "out.npz", "out.png", "set")
    ]


def test_the_file_does_not_depend_on_the_clock(tmp_path):
    """Rejects bytes that change from one preparation to the next."""
    source = tree(tmp_path / "set", {"a": 2, "b": 3})
    built(source)
    first = (tmp_path / "out.npz").read_bytes()
    os.utime(source / "a" / "000.png", (1, 1))
    built(source)
    assert (tmp_path / "out.npz").read_bytes() == first


def test_an_interrupt_leaves_the_old_file(tmp_path, monkeypatch):
    """Rejects half a file in the place of a whole one, and a stray temporary."""
    source = tree(tmp_path / "set", {"a": 2, "b": 3})
    (tmp_path / "out.npz").write_bytes(b"old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pictures, "read", interrupt)
    told = here("prepare", "images", source, "--out", tmp_path / "out.npz")
    assert told.code == 130
    assert (tmp_path / "out.npz").read_bytes() == b"old"
    assert sorted(x.name for x in tmp_path.iterdir()) == ["out.npz", "set"]


def test_progress_is_for_terminals(tmp_path, monkeypatch, capsys):
    """Rejects a preparation of an hour that says nothing, and lines in a log."""
    source = tree(tmp_path / "set", {"a": 2, "b": 3})
    own_images.prepare(source, tmp_path / "out.npz")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    own_images.prepare(source, tmp_path / "out.npz")
    assert "b: 3 images, class 2 of 2\n" in capsys.readouterr().err


def test_the_script_is_the_command(tmp_path):
    """Rejects a script that loses its folder, its options or its progress."""
    tree(tmp_path / "set", {"a": 2, "b": 3})
    words = [sys.executable, SCRIPT, "set", "--out", "mine.npz", "--size", "16", "--grey"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("mine.npz\nimages     5 of 16 x 16, grey\n")
    assert prepared.size(tmp_path / "mine.npz") == (16, 1)


def test_split_is_parsed_in_python_too():
    """Rejects another error from Python than from the command line."""
    assert own_images.parse_split("80/0/20") == (80, 0, 20)
    with pytest.raises(UsageError, match="is not like"):
        own_images.parse_split("1/2/3/4")
