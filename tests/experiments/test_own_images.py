"""The experiment `images`: from a folder to an evaluation, and what does not fit."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from places import fonts
from processes import here
from tinymaml import experiments
from tinymaml.errors import UsageError
from tinymaml.experiments import images, problem
from tinymaml.experiments.own_images import OwnImages, check_net
from tinymaml.fewshot import drawn
from tinymaml.prepare import own_images


QUICK = ["--iterations", "20", "--filters", "8", "--tasks", "8", "--quiet"]
SHORT = ["--no-test", "--test-steps", "3"]
FEW = ["--test-tasks", "60", "--test-steps", "3", "--validate-every", "0"]
COLOURS = {
    f"{g}/{c}": (60 * i + 5 * j) for i, g in enumerate("GH") for j, c in enumerate("abcd")
}


def prepare(folder, *options):
    """Prepare a folder; return the file."""
    out = folder.with_suffix(".npz")
    told = here("prepare", "images", "--from", folder, "--out", out, *options)
    assert told.code == 0, told.err
    return out


def grey(folder, side=16, images=4):
    """Write classes of one grey value each, in two groups; return the folder."""
    for name, value in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(images + (name == "G/a")):
            Image.new("L", (side, side), value).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def path(tmp_path):
    """A prepared file of 8 classes of grey images in 2 groups, all for training."""
    return prepare(grey(tmp_path / "set"), "--grey", "--size", "16", "--split", "1/0/0")


def accuracy(run, *options):
    """Return the mean accuracy after the last step."""
    told = here("evaluate", run, "--json", "--quiet", *options)
    assert told.code == 0, told.err
    return json.loads(told.out)["mean"][-1]


# ----- From a folder to an evaluation -----


def test_digits_in_a_folder(tmp_path):
    """Rejects a step between a folder of images and a trained net that does not fit the
    next: scikit-learn's digits, of which five are held out."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    some = zip(digits.images[:500], digits.target, strict=False)
    for number, (pixels, label) in enumerate(some):
        folder = tmp_path / "digits" / f"the digit {label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype(np.uint8)).save(folder / f"{number}.png")
    data = prepare(tmp_path / "digits", "--grey")
    assert (tmp_path / "digits-sheet.png").is_file()
    run = tmp_path / "run"
    told = here("train", "images", "--data", data, "--out", run, *QUICK, *SHORT)
    assert told.code == 0, told.err
    config = json.loads((run / "config.json").read_text())["options"]
    assert (config["side"], config["channels"], config["validate_every"]) == (28, 1, 0)
    other = prepare(tmp_path / "digits", "--grey", "--seed", "1")
    other = other.rename(tmp_path / "other.npz")
    assert 0.3 < accuracy(run, "--data", other, "--tasks", "60") < 1
    assert not (run / "evaluation.json").exists()
    assert accuracy(run, "--tasks", "60") > 0.3
    coloured = prepare(tmp_path / "digits").rename(tmp_path / "coloured.npz")
    told = here("evaluate", run, "--data", coloured, "--quiet")
    assert told.code == 2
    assert "RGB, not 28 x 28, grey; prepare them with --size 28 --grey" in told.err


def test_characters_of_fonts(tmp_path):
    """Rejects groups, scripts and sizes that only drawn cases have: characters as the
    installed fonts draw them, an alphabet in a group."""
    alphabets = {"Latin": "abcdefgh", "Ελληνικά": "αβγδεζηθ", "Кириллица": "бгджзилф"}
    some = fonts("".join(alphabets.values()))
    if len(some) < 2:
        pytest.skip("no two fonts of TrueType with Greek and Cyrillic are installed")
    for group, letters in alphabets.items():
        for letter in letters:
            folder = tmp_path / "letters" / group / letter
            folder.mkdir(parents=True)
            for number, font in enumerate(some[:8]):
                picture = Image.new("RGBA", (40, 40))
                write = ImageFont.truetype(font, 30)
                ImageDraw.Draw(picture).text((8, 0), letter, "black", write)
                picture.save(folder / f"{number}.webp", lossless=True)
    data = prepare(tmp_path / "letters", "--grey", "--split", "8/0/16", "--seed", "3")
    run = tmp_path / "run"
    told = here(
        *("train", "images", "--data", data, "--out", run, "--ways", "3", *QUICK, *FEW)
    )
    assert told.code == 0, told.err
    assert accuracy(run) > 0.5
    with np.load(data) as file:
        groups = file["groups"][file["test"]]
    largest = max(groups, key=groups.tolist().count)
    assert accuracy(run, "--within", "group") > 0.4
    assert accuracy(run, "--within", largest) > 0.4


def test_a_run_goes_on_with_the_same_bytes(tmp_path, path):
    """Rejects a run whose size of images is asked for again, or is lost."""
    how = ["--ways", "2", "--filters", "2", "--tasks", "2", "--no-test", "--quiet"]
    begin = ("train", "images", "--data", path, *how)
    commands = (
        (*begin, "--out", tmp_path / "a", "--iterations", "4"),
        (*begin, "--out", tmp_path / "b", "--iterations", "2"),
        ("train", "--resume", tmp_path / "b", "--iterations", "4", "--quiet"),
        (*begin, "--out", tmp_path / "c", "--iterations", "4", "--workers", "2"),
    )
    for command in commands:
        told = here(*command)
        assert told.code == 0, told.err
    thetas = []
    for run in ("a", "b", "c"):
        with np.load(tmp_path / run / "checkpoint.npz") as file:
            thetas.append(file["theta"])
    np.testing.assert_array_equal(thetas[0], thetas[1])
    np.testing.assert_array_equal(thetas[0], thetas[2])


def test_a_run_is_read_without_its_data(tmp_path, path):
    """Rejects a net whose size nobody knows once the data have gone: the run keeps it."""
    config = OwnImages(data=str(path), ways=3)
    assert (config.side, config.channels, config.validate_every) == (16, 1, 0)
    path.unlink()
    again = OwnImages.restored(config.values())
    assert problem(again).model.shapes == problem(config).model.shapes
    assert OwnImages(data=str(path), ways=3, side=16, channels=1).side == 16


def test_validation_stays_where_there_are_classes(tmp_path):
    """Rejects validation that is dropped for all, and a wish that is overridden."""
    data = prepare(grey(tmp_path / "set"), "--grey", "--split", "1/1/1")
    assert OwnImages(data=str(data)).validate_every == 250
    none = prepare(grey(tmp_path / "two"), "--grey", "--split", "1/0/1")
    assert OwnImages(data=str(none)).validate_every == 0
    assert OwnImages(data=str(none), validate_every=3).validate_every == 3
    told = here("train", "images", "--data", none, "--ways", "2", "--validate-every", "3")
    assert told.code == 2
    assert "no validation classes; add --validate-every 0" in told.err


# ----- Tasks -----


def test_tasks_have_their_classes_whole(path):
    """Rejects images of the next class, and pixels in another scale or shape."""
    family = problem(OwnImages(data=str(path), ways=8, shots=2, queries=2))
    episode = drawn(family, 0, "train", 0, range(1))
    assert episode.x_support.shape == (1, 16, 16, 16, 1)
    values = np.rint(255 * episode.x_support[0]).astype(int).reshape(8, 2, -1)
    assert sorted(values[:, 0, 0]) == sorted(COLOURS.values())
    for shown in (values, np.rint(255 * episode.x_query[0]).reshape(8, 2, -1)):
        assert (shown == values[:, :1, :1]).all()


def test_classes_too_small_for_a_task_are_told(path):
    """Rejects a task with an image in support and query, and a failure in the middle of a
    training, when the small class is drawn."""
    family = problem(OwnImages(data=str(path), ways=2, shots=3, queries=2))
    with pytest.raises(UsageError, match="3 shots and 2 queries asked for, a class has 4"):
        drawn(family, 0, "train", 0, range(1))


def groups_of(config, tasks=40):
    """Return the set of groups of each task."""
    pixels = drawn(problem(config), 0, "train", 0, range(tasks)).x_support
    values = np.rint(255 * pixels[..., 0, 0, 0]).astype(int)
    return [{"H" if value >= 60 else "G" for value in task} for task in values]


def test_tasks_within_a_group(path):
    """Rejects classes of two alphabets in one task, one alphabet for all tasks, and a group
    by name that is not the one that is asked for."""
    given = {"data": str(path), "ways": 3}
    assert {"G", "H"} in groups_of(OwnImages(**given))
    found = groups_of(OwnImages(**given, within="group"))
    assert all(len(groups) == 1 for groups in found)
    assert 10 <= sum(groups == {"G"} for groups in found) <= 30
    assert all(groups == {"H"} for groups in groups_of(OwnImages(**given, within="H")))


def test_groups_too_small_for_a_task_are_not_drawn():
    """Rejects a group with fewer classes than ways, and a limit that is off by one."""
    rows, groups = np.arange(2, 9), ["x", "x", "a", "b", "b", "", "c", "c", "c"]
    found = images.within(rows, groups, "group", 2)
    assert [group.tolist() for group in found] == [[3, 4], [6, 7, 8]]
    assert [x.tolist() for x in images.within(rows, groups, "c", 3)] == [[6, 7, 8]]
    for wanted, ways, told in (
        ("group", 4, "4 ways asked for, a group has 3 classes at most"),
        ("a", 2, "2 ways asked for, a group has 1 classes at most"),
        ("x", 2, "--within 'x': no such group; there are a, b, c"),
    ):
        with pytest.raises(ValueError, match=told):
            images.within(rows, groups, wanted, ways)
    with pytest.raises(ValueError, match="the classes have no groups"):
        images.within(rows, [""] * 9, "group", 2)


def test_wrong_groups_are_one_line(path):
    """Rejects a traceback, and a message that does not name the groups there are."""
    how = ["--data", path, "--ways", "3", "--validate-every", "0", "--no-test"]
    told = here("train", "images", *how, "--within", "Z")
    assert (told.code, told.out) == (2, "")
    assert "split 'train': --within 'Z': no such group; there are G, H" in told.err


def test_an_evaluation_within_a_group_is_not_that_of_the_run(tmp_path):
    """Rejects other tasks whose result replaces the one after training, and an option that
    is read but not used."""
    data = prepare(grey(tmp_path / "set"), "--grey", "--size", "16", "--split", "1/0/1")
    run, small = tmp_path / "run", ["--filters", "2", "--tasks", "2", "--quiet"]
    how = ["--data", data, "--out", run, "--ways", "2", "--iterations", "2"]
    assert here("train", "images", *how, *small, *FEW).code == 0
    before = (run / "evaluation.json").read_bytes()
    results = []
    for options in ([], ["--within", "any"], ["--within", "group"]):
        told = here("evaluate", run, "--json", "--quiet", *options)
        assert told.code == 0, told.err
        results.append(json.loads(told.out)["tasks_sha256"])
    assert results[0] == results[1] != results[2]
    assert (run / "evaluation.json").read_bytes() == before
    told = here("evaluate", "kept:omniglot-5w1s", "--within", "Z", "--data", data)
    assert told.code == 1
    sine = here(
        "train", "sine", "--iterations", "0", "--out", tmp_path / "sine", "--no-test"
    )
    assert sine.code == 0
    told = here("evaluate", tmp_path / "sine", "--within", "group")
    assert told.code == 2
    assert "sine has no --within" in told.err


def test_another_file_of_data_has_no_place_in_the_run(tmp_path, path):
    """Rejects the result of other images as that of the run, and a file that has moved
    without one."""
    run = tmp_path / "run"
    how = ["--ways", "2", "--filters", "2", "--tasks", "2", "--no-test", "--quiet"]
    how += ["--test-tasks", "4", "--test-steps", "1", "--iterations", "1"]
    data = prepare(tmp_path / "set", "--grey", "--size", "16", "--split", "1/0/1")
    assert here("train", "images", "--data", data, "--out", run, *how).code == 0
    other = tmp_path / "other.npz"
    other.write_bytes(data.read_bytes())
    assert here("evaluate", run, "--data", other, "--quiet").code == 0
    assert not (run / "evaluation.json").exists()
    data.unlink()
    assert here("evaluate", run, "--data", other, "--quiet").code == 0
    assert (run / "evaluation.json").exists()


# ----- What does not fit -----


NETS = {
    ("pooled", (15, 15, 1)): "15 x 15 pixels, and its 4 pools need 16 x 16 or more",
    ("dense", (84, 84, 3)): "84 x 84 pixels, 21168 inputs, more than 10000",
    ("dense", (101, 101, 1)): "10201 inputs, more than 10000",
}


@pytest.mark.parametrize(("net", "image"), NETS)
def test_a_net_that_does_not_fit_is_refused(net, image):
    """Rejects a traceback of a net, and millions of weights in a first layer."""
    with pytest.raises(UsageError, match=NETS[net, image]) as told:
        check_net(net, image)
    assert "prepare the images with --size 28" in str(told.value)


@pytest.mark.parametrize("net", ["conv", "pooled", "dense"])
@pytest.mark.parametrize("side", [8, 16, 28, 84, 100])
def test_every_other_net_is_made(tmp_path, net, side):
    """Rejects a limit that is off by one, and a net that fails after the check."""
    config = OwnImages(side=side, channels=1, data="none.npz", net=net, filters=4)
    if net == "pooled" and side < 16:
        with pytest.raises(UsageError, match="--net pooled"):
            problem(config)
    else:
        family = problem(config)
        theta = family.model.init(np.random.default_rng(0))
        assert family.model.apply(theta, np.zeros((2, side, side, 1))).shape == (2, 5)


def test_small_images_are_one_line_on_the_command_line(tmp_path):
    """Rejects a check that only Python has."""
    data = prepare(grey(tmp_path / "set"), "--grey", "--size", "8", "--split", "1/0/0")
    told = here(
        "train", "images", "--data", data, "--net", "pooled", "--out", tmp_path / "r"
    )
    assert (told.code, told.out) == (2, "")
    assert "--net pooled: the images have 8 x 8 pixels" in told.err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("size", ["16", "40"])
def test_a_check_takes_the_data_or_glyphs(tmp_path, size):
    """Rejects a check that asks for a file, or measures 84 x 84 pixels."""
    data = prepare(grey(tmp_path / "set", images=5), "--size", size, "--split", "1/0/0")
    stand_in = experiments.stand_in(OwnImages(data=str(data), ways=2, filters=2))
    shape = drawn(stand_in, 0, "train", 0, range(1)).x_support.shape
    assert shape == (1, 2, 16, 16, 3)
    family = experiments.stand_in(OwnImages())
    assert drawn(family, 0, "train", 0, range(1)).x_support.shape == (1, 5, 28, 28, 1)


def test_the_split_is_drawn_once():
    """Rejects another split by the same seed in another version: old files would differ."""
    rows = own_images._rows([f"{i}" for i in range(10)], {}, (5, 2, 3), 0)
    assert {part: x.tolist() for part, x in rows.items()} == {
        **{"train": [2, 3, 4, 6, 7], "val": [5, 9], "test": [0, 1, 8]}
    }
