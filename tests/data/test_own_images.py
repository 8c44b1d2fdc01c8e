"""The file of a user's own images: it is read back, and damage is one line."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from processes import here
from tinymaml.data import own_images
from tinymaml.errors import UsageError, WorldError
from tinymaml.prepare import own_images as preparation


COUNTS = {"G/a": 2, "G/b": 4, "H/c": 3, "H/d": 2}


@pytest.fixture
def path(tmp_path):
    """A prepared file of grey images; image i of class row r has the value 60 r + i."""
    for row, (name, count) in enumerate(COUNTS.items()):
        folder = tmp_path / "set" / name
        folder.mkdir(parents=True)
        for number in range(count):
            Image.new("L", (9, 9), 60 * row + number).save(folder / f"{number}.png")
    out = tmp_path / "out.npz"
    preparation.prepare(tmp_path / "set", out, 9, grey=True, split=(2, 1, 1))
    return out


def changed(path, **arrays):
    """Return a copy of the file with other arrays, or without those that are None."""
    with np.load(path) as file:
        kept = {**dict(file), **arrays}
    to = path.with_name("changed.npz")
    np.savez(to, **{name: x for name, x in kept.items() if x is not None})
    return to


def test_the_classes_are_those_that_were_prepared(path):
    """Rejects images of the next class, and a part of other rows."""
    images, classes = own_images.load(path, 9, 1)
    assert [one.shape for one in images] == [(n, 9, 9) for n in COUNTS.values()]
    for row, one in enumerate(images):
        values = one.reshape(len(one), -1)
        expected = 60 * row + np.arange(len(one))
        np.testing.assert_array_equal(values.min(axis=1), expected)
        np.testing.assert_array_equal(values.max(axis=1), expected)
    assert {part: len(rows) for part, rows in classes.items()} == {
        **{"train": 2, "val": 1, "test": 1}
    }
    assert own_images.groups(path) == ["G", "G", "H", "H"]
    assert own_images.size(path) == (9, 1)
    assert own_images.has_validation(path)


def test_images_stay_in_the_file(path):
    """Rejects a reader that copies all images into memory."""
    images, _ = own_images.load(path, 9, 1)
    for one in images:
        assert isinstance(one.base, np.ndarray)
        assert not one.flags.writeable
        assert not one.flags.owndata


def test_parts_without_classes_are_left_out(path):
    """Rejects an empty part that passes for one with classes."""
    found = changed(path, train=np.arange(4), val=np.arange(0), test=np.arange(0))
    assert own_images.load(found, 9, 1)[1].keys() == {"train"}
    assert not own_images.has_validation(found)


def test_another_size_is_refused_with_what_to_do(path):
    """Rejects images that are cropped or fail deep in a net."""
    told = (
        "holds images of 9 x 9 pixels, grey, not 28 x 28, RGB; prepare them with --size 28"
    )
    with pytest.raises(UsageError, match=f"{told}$"):
        own_images.load(path, 28, 3)
    with pytest.raises(UsageError, match=r"prepare them with --size 28 --grey$"):
        own_images.load(path, 28, 1)


WRONG = {
    "no sizes": {"sizes": np.array([2, 4, 3])},
    "too many": {"sizes": np.array([2, 4, 3, 3])},
    "an empty class": {"sizes": np.array([2, 4, 5, 0])},
    "negative": {"sizes": np.array([-2, 8, 3, 2])},
    "huge": {"sizes": np.array([2**62, 2**62, 2**62, 2**62 + 11], np.int64)},
    "floats": {"sizes": np.array([2.0, 4, 3, 2])},
    "table": {"sizes": np.array([[2, 4, 3, 2]])},
    "none": {"sizes": np.zeros(0, int)},
    "objects": {"sizes": np.array([2, 4, 3, None])},
    "no train": {"train": None},
    "a class twice": {"train": np.array([0, 1, 2, 3])},
    "a row beyond": {"train": np.array([0, 7])},
    "floats of rows": {"train": np.array([0.0, 1.0])},
    "no images": {"images": None},
    "signed images": {"images": np.zeros((11, 9, 9), np.int8)},
    "flat images": {"images": np.zeros((11, 81), np.uint8)},
    "four channels": {"images": np.zeros((11, 9, 9, 4), np.uint8)},
    "oblong": {"images": np.zeros((11, 9, 8), np.uint8)},
    "fortran": {"images": np.zeros((11, 9, 9), np.uint8, "F")},
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arrays_are_refused(path, case):
    """Rejects a reader that trusts sizes, rows or shapes: it would read other memory."""
    with pytest.raises(WorldError, match=r"changed\.npz") as told:
        own_images.load(changed(path, **WRONG[case]), 9, 1)
    assert "\n" not in str(told.value)


def test_damaged_bytes_are_refused_or_harmless(path):
    """Rejects any other exception, and images of another shape, from a damaged file."""
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        spoilt = bytearray(data)
        for place in rng.integers(len(data), size=rng.integers(1, 4)):
            spoilt[place] = rng.integers(256)
        cut = len(spoilt) if rng.random() < 0.9 else int(rng.integers(len(spoilt)))
        path.write_bytes(spoilt[:cut])
        try:
            images, classes = own_images.load(path, 9, 1)
            own_images.groups(path)
        except (WorldError, UsageError):
            continue
        assert all(one.shape[1:] == (9, 9) for one in images)
        assert sum(map(len, classes.values())) == len(images)


@pytest.mark.parametrize("data", [b"", b"<html>", b"PK"])
def test_another_file_is_one_line(tmp_path, data):
    """Rejects a traceback, and a line that does not say how to make the file."""
    (tmp_path / "x.npz").write_bytes(data)
    told = here("train", "images", "--data", tmp_path / "x.npz", "--out", tmp_path / "run")
    assert (told.code, told.out) == (1, "")
    assert (
        "x.npz' is damaged or not ours; make it with: tinymaml prepare images" in told.err
    )
    assert not (tmp_path / "run").exists()


def test_compressed_images_are_refused(path):
    """Rejects a member that cannot be mapped, as a packer's own."""
    packed = path.with_name("packed.npz")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w") as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member), zipfile.ZIP_DEFLATED)
    with pytest.raises(WorldError, match=r"packed\.npz"):
        own_images.load(packed, 9, 1)
