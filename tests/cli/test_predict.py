"""`tinymaml predict`: a folder of images of one's own, and a trained run."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from miniatures import photo
from places import ROOT
from processes import here, one_error, tree
from tinymaml import fewshot, loading, study, summary
from tinymaml.cli.predict import kind_of
from tinymaml.errors import UsageError
from tinymaml.experiments import problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.miniimagenet import MiniImageNet
from tinymaml.experiments.omniglot import Omniglot
from tinymaml.experiments.own_images import OwnImages
from tinymaml.experiments.pointnav import PointNav
from tinymaml.experiments.sine import Sine
from tinymaml.fewshot import Episode, apply_alone
from tinymaml.harness import checkpoints, evaluation, loop, runs
from tinymaml.prepare import omniglot, pictures
from trainings import begin


SMALL = {"filters": 3, "ways": 3, "shots": 2, "test_steps": 2, "iterations": 1, "tasks": 2}
ASK = ("predict", "run", "--support", "known", "--query", "new")
TEMPLATE = (ROOT / "tinymaml" / "examples" / "cooling.py").read_text(encoding="utf-8")
NAMES = ("b ä", "日本", "c")  # not in the order of their names


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder, where everything runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of glyphs that was trained a little."""
    path = tmp_path_factory.mktemp("trained") / "run"
    begin(path, Glyphs(**SMALL))
    return path


@pytest.fixture
def run(folder, trained):
    """That run in the folder "run"."""
    shutil.copytree(trained, folder / "run")
    return study.open_run("run")


def save(image, file):
    """Write an image, uint8 (h, w[, 1]) or (h, w, 3)."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.squeeze(image)).save(file)


def write(folder, episode, names, ink=True):
    """Write a task's images into known/CLASS and new/CLASS, as ink on paper or as it is."""
    for place, x, y in zip(("known", "new"), episode[::2], episode[1::2], strict=True):
        for i, (image, label) in enumerate(zip(x[0], y[0], strict=True)):
            drawn = np.rint(255 * (1 - image if ink else image)).astype(np.uint8)
            save(drawn, folder / place / names[label] / f"{i}.png")


def asked(*more):
    """Return the answers as they are in JSON."""
    told = here(*ASK, "--json", *more)
    assert told.code == 0, told
    return json.loads(told.out)


def probabilities(answers, time):
    """Return (queries, ways)."""
    return np.array([[*x[time]["probabilities"].values()] for x in answers["queries"]])


# ----- The numbers -----


def test_the_answers_are_those_of_an_evaluation(run, folder):
    """Rejects another polarity, scale or order of classes than the run's own tasks have,
    queries that see each other, and another adaptation."""
    episode = evaluation.held_out(run.config, "test", range(1))
    names = sorted(NAMES)
    write(folder, episode, names)
    found = asked()
    assert found["support"] == dict.fromkeys(names, 2)
    start = run.config.method.start(run.theta, problem(run.config))
    thetas = evaluation.adapted(run.config, start, episode, 1, 2)
    apply = problem(run.config).model.apply
    for time, theta in (("before", thetas[0]), ("after", thetas[2])):
        logits = apply_alone(apply, theta, episode)[0].astype(float)
        powers = np.exp(logits)
        wanted = powers / powers.sum(-1, keepdims=True)
        np.testing.assert_allclose(probabilities(found, time), wanted, rtol=1e-12)
        right = logits.argmax(-1) == episode.y_query[0]
        mean, half = summary.interval(right)
        measured = found["accuracy"][time]
        assert measured["mean"] == mean
        assert measured["half_width_95"] == (half if half > 0 else None)
        answers = [one[time]["class"] for one in found["queries"]]
        assert answers == [names[i] for i in logits.argmax(-1)]
    assert [x["class"] for x in found["queries"]] == [names[i] for i in episode.y_query[0]]
    for old in ("known", "new"):
        shutil.rmtree(folder / old)
    write(folder, episode, names, ink=False)
    assert probabilities(asked("--invert"), "after").tolist() == (
        probabilities(found, "after").tolist()
    )


def test_a_query_is_judged_alone(run, folder):
    """Rejects an answer that depends on the queries beside it."""
    write(folder, evaluation.held_out(run.config, "test", range(1)), NAMES)
    file, _ = (folder / "new" / NAMES[1]).glob("*.png")
    told = here(*ASK[:-1], file, "--json")
    alone = json.loads(told.out)["queries"]
    among = [x for x in asked()["queries"] if x["file"].endswith(f"{NAMES[1]}/{file.name}")]
    assert [x["after"] for x in alone] == [x["after"] for x in among]
    assert alone[0]["class"] is None


@pytest.mark.data
def test_omniglot_s_own_files_are_what_its_net_was_trained_on(folder, omniglot_zips):
    """Rejects a real PNG of a character that becomes other pixels than in the prepared
    file: paper as ink, another filter, or another size."""
    with omniglot.open_archive(omniglot_zips, omniglot.EVALUATION) as archive:
        members = [x for x in archive.infolist() if x.filename.endswith(".png")][::2000]
        for member in members:
            prepared = omniglot.shrink(omniglot.decode(archive, member))
            (folder / "one.png").write_bytes(archive.read(member))
            same_pixels(folder / "one.png", prepared)


def test_a_drawing_of_one_bit_is_what_omniglot_s_net_was_trained_on(folder):
    """Rejects the same where there is no real Omniglot."""
    mask = np.random.default_rng(0).random((15, 15)) < 0.8  # paper is white
    save(np.kron(mask, np.ones((7, 7), bool)), folder / "one.png")
    with Image.open("one.png") as image:
        assert (image.mode, image.size) == ("1", (105, 105))
        same_pixels(folder / "one.png", omniglot.shrink(image.convert("L")))


def same_pixels(file, prepared):
    """Assert that a file gives Omniglot's net the prepared pixels (28, 28)."""
    kind = kind_of(Omniglot())
    drawn = fewshot.pixels(prepared[None], "float32")
    np.testing.assert_array_equal(kind.inputs([kind.read(file)], "float32"), drawn)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (Glyphs(), (28, 1, True)),
        (Omniglot(), (28, 1, True)),
        (MiniImageNet(), (84, 3, False)),
        (OwnImages(side=16, channels=3), (16, 3, False)),
        (OwnImages(side=20, channels=1), (20, 1, False)),
    ],
)
def test_every_run_has_the_images_of_its_training(config, kind):
    """Rejects photographs that are inverted, and another size or number of colours."""
    assert kind_of(config) == kind


def test_photographs_of_unequal_numbers_and_more_classes_than_trained(folder):
    """Rejects labels that follow the first class's size, a head without a word about it,
    and colours in another order."""
    config = OwnImages(side=16, channels=3, net="dense", **SMALL, norm_eps=0.1)
    w = loop.initial_state(config).theta
    runs.begin(folder, config)
    checkpoints.export(folder, config, checkpoints.Kept(3, w, np.nan), {})
    sizes = {"n1": 1, "n2": 3, "n3": 2, "n4": 1}
    for name, size in sizes.items():
        for i in range(size):
            file = folder / "known" / "around" / name / f"{i}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            photo(name, i).save(file, quality=95)
    (folder / "new").mkdir()
    photo("n2", 5).save("new/x.jpg")
    photo("n4", 5, mode="CMYK").save("new/y.jpg")
    told = here("predict", ".", "--support", "known", "--query", "new", "--json")
    assert told.code == 0, told
    found = json.loads(told.out)
    assert found["support"] == sizes
    assert found["head"] == (
        "4-way tasks, trained for 3 ways: output 4 begins as the mean of the first 3"
    )
    assert found["accuracy"] is None
    files = [
        x for name in sizes for x in sorted((folder / "known/around" / name).iterdir())
    ]
    x = np.stack([pictures.read(file, 16, grey=False) for file in files]) / np.float32(255)
    labels = np.arange(4).repeat([*sizes.values()])
    net = study.open_run(".").adapt(x, labels)
    query = pictures.read(folder / "new" / "x.jpg", 16, grey=False)[None] / np.float32(255)
    logits = net(query)[0].astype(float)
    powers = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(probabilities(found, "after")[0], powers, rtol=1e-4)


def test_a_sum_over_shots_is_divided_by_the_shots_of_the_support_set():
    """Rejects steps that grow with the number of support images, unlike `evaluate`'s."""
    config = Glyphs(**SMALL, inner_loss="sum_over_shots", norm_eps=0.1)
    run = study.Run(config, loop.initial_state(config).theta, 0)
    other = config.with_changes({"shots": 4})
    x = np.random.default_rng(0).random((1, 12, 28, 28, 1), np.float32)
    y = np.arange(3).repeat(4)[None]
    episode = Episode(x, y, x, y)
    start = config.method.start(run.theta, problem(config))
    theta = evaluation.adapted(other, start, episode, 1, 2)[-1][0]
    assert run.adapt(x[0], y[0]).theta.tolist() == theta.tolist()


# ----- Forms -----


def test_all_forms_have_the_same_answers(run, folder):
    """Rejects a table, a CSV or a file that differs from the JSON, and an empty sheet."""
    names = [*NAMES]
    write(folder, evaluation.held_out(run.config, "test", range(1)), names)
    found = asked("--steps", "5")
    files = ("--json", "a.json", "--csv", "a.csv", "--out", "a.png")
    told = here(*ASK, "--steps", 5, *files)
    assert told.code == 0, told
    assert told.out.splitlines()[-3:] == ["a.json", "a.csv", "a.png"]
    assert json.loads((folder / "a.json").read_text(encoding="utf-8")) == found
    text = (folder / "a.csv").read_text(encoding="utf-8")
    assert here(*ASK, "--steps", 5, "--csv").out == text
    rows = [*csv.DictReader(io.StringIO(text))]
    assert len(rows) == len(found["queries"]) == 6
    lines = told.out.splitlines()
    assert lines[0] == "run: 6 images, 3 classes of 2 support images each, 5 steps"
    assert lines[1] == "3 classes, as in training: the head is as it was"
    for row, one, line in zip(rows, found["queries"], lines[3:9], strict=True):
        assert (row["file"], row["class"]) == (one["file"], one["class"])
        for time in ("before", "after"):
            p = one[time]["probabilities"]
            assert row[time] == one[time]["class"] == max(p, key=p.get)
            assert float(row[f"{time}_probability"]) == max(p.values())
            assert f"{100 * max(p.values()):.1f} %" in line
        assert line.endswith("wrong") == (one["after"]["class"] != one["class"])
    right = sum(one["after"]["class"] == one["class"] for one in found["queries"])
    assert lines[9].startswith("accuracy: before ")
    assert lines[9].endswith(f" ({right} of 6)")
    with Image.open("a.png") as sheet:
        assert len(sheet.convert("L").getcolors()) > 50


def test_the_same_image_twice_and_dark_paper_are_noted(run, folder):
    """Rejects an accuracy on the support images themselves, or on inverted ones, in
    silence."""
    write(folder, evaluation.held_out(run.config, "test", range(1)), NAMES)
    told = here("predict", "run", "--support", "known", "--query", "known")
    assert "note: queries that are in the support set too: 6" in told.err.splitlines()
    assert "seem" not in told.err
    told = here(*ASK)
    assert told.err == ""
    for file in [*(folder / "known").rglob("*.png")]:
        with Image.open(file) as image:
            save(255 - np.asarray(image), file)
    told = here(*ASK)
    lead = "note: known: the images seem to be light ink on dark paper, unlike those of"
    assert told.err == f"{lead} glyphs; add --invert\n"
    assert here(*ASK, "--invert").err == ""
    for file in [*(folder / "known").rglob("*.png")]:
        with Image.open(file) as image:
            save(255 - np.asarray(image), file)
    assert here(*ASK, "--invert").err == f"{lead} glyphs; leave out --invert\n"


def test_a_query_that_cannot_be_read_is_named_and_left_out(run, folder):
    """Rejects answers that are lost for one bad file, and a file left out in silence."""
    write(folder, evaluation.held_out(run.config, "test", range(1)), NAMES)
    (folder / "new" / "c" / "bad.png").write_bytes(b"no image")
    (folder / "new" / "c" / "notes.txt").write_text("x")
    told = here(*ASK)
    assert told.code == 0
    assert told.err.splitlines() == [
        "note: new: left out 1 files that are no images (.txt)",
        "Warning: left out 'new/c/bad.png': not a readable image: another format",
    ]
    assert told.out.startswith("run: 6 images,")


# ----- What is wrong -----


def one_class(folder):
    for name in NAMES[1:]:
        shutil.rmtree(folder / "known" / name)


def no_images(folder):
    for file in (folder / "known").rglob("*.png"):
        file.unlink()


def loose(folder):
    no_images(folder)
    save(np.zeros((9, 9), np.uint8), folder / "known" / "1.png")


def empty_class(folder):
    (folder / "known" / "empty").mkdir()


def bad_support(folder):
    (folder / "known" / "c" / "bad.png").write_bytes(b"no image")


def empty_query(folder):
    shutil.rmtree(folder / "new")
    (folder / "new").mkdir()


def bad_query(folder):
    empty_query(folder)
    (folder / "new" / "bad.png").write_bytes(b"no image")


def other_class(folder):
    save(np.zeros((9, 9), np.uint8), folder / "new" / "d" / "1.png")


def test_no_folder_for_the_results_is_found_before_the_work(run, folder):
    """Rejects answers that are computed and then cannot be written."""
    write(folder, evaluation.held_out(run.config, "test", range(1)), NAMES)
    told = here(*ASK, "--csv", "no/a.csv")
    assert (told.code, told.out) == (1, "")
    assert one_error(told) == "Error: no: no such folder"


WRONG = {
    one_class: "known: 'b ä': a task needs two classes",
    no_images: "known/b ä: no images",
    loose: "known: images without the sub-folder of a class",
    empty_class: "known/empty: no images",
    bad_support: "known: 'known/c/bad.png': not a readable image: another format",
    empty_query: "new: no images (.png",
    bad_query: "'new/bad.png': not a readable image: another format",
    other_class: "new/d: 'd' is no class of the support set (b ä, c, 日本)",
}


@pytest.mark.parametrize("change", WRONG, ids=lambda x: x.__name__)
def test_a_wrong_folder_is_one_line(run, folder, change):
    """Rejects a traceback, a class that is missing in silence, and files left behind."""
    write(folder, evaluation.held_out(run.config, "test", range(1)), NAMES)
    change(folder)
    before = tree(folder)
    told = here(*ASK, "--json", "a.json", "--out", "a.png")
    assert (told.code, told.out) == (1, "")
    assert one_error(told).startswith(f"Error: {WRONG[change]}")
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--out", "a.jpg"], "--out 'a.jpg' is not the name of a .png file"),
        (["--json", "a.csv"], "--json 'a.csv' is not the name of a .json file"),
        (["--json", "--csv"], "--json and --csv cannot both be printed; name a file"),
        (["--out", "new/c/4.png"], "--out 'new/c/4.png' is one of the images to read"),
    ],
)
def test_a_wrong_option_is_refused_before_the_work(run, folder, words, line):
    """Rejects a picture of another kind than its name says, and a lost image."""
    write(folder, evaluation.held_out(run.config, "test", range(1)), NAMES)
    assert (folder / "new" / "c" / "4.png").exists()
    before = tree(folder)
    told = here(*ASK, *words)
    assert (told.code, one_error(told)) == (2, f"Error: {line}")
    assert tree(folder) == before


@pytest.mark.parametrize("config", [Sine(hidden=(3,)), PointNav(hidden=(3,))])
def test_a_run_that_classifies_no_images_is_refused(folder, config):
    """Rejects images for a regression or for a policy."""
    begin(folder / "run", config.with_changes({"iterations": 0}))
    for name in ("known/a/1.png", "known/b/1.png", "new/1.png"):
        save(np.zeros((9, 9), np.uint8), folder / name)
    told = here(*ASK)
    line = f"Error: a run of {config.name} does not classify images"
    assert (told.code, one_error(told)) == (2, line)


OWN = """
import numpy as np
from tinymaml.experiments import images
from tinymaml.experiments.common import configuration
from tinymaml.experiments.images import Images

@configuration
class Mine(Images):
    "Noise."

CONFIG = Mine

def draw():
    noise = np.random.default_rng(0).integers(0, 256, (15, 4, 28, 28), np.uint8)
    rows = np.arange(15).reshape(3, 5)
    return noise, dict(zip(("train", "val", "test"), rows))

def setup(config):
    found = images.from_data(config, (28, 28, 1), draw, rotate=False)
    return found._replace(score_alone=None)  # an own score; a net with batch norm still
"""


FIXED = """
import numpy as np
from tinymaml import fewshot, losses, models
from tinymaml.experiments.common import FewShot, configuration
from tinymaml.fewshot import Problem, as_task, each

@configuration
class Fixed(FewShot):
    "Three classes, always."
    score = losses.ACCURACY

CONFIG = Fixed

def setup(config):
    net = models.mlp((64, 4, 3), models.ACTIVATIONS["relu"], draw=None)
    model = models.flat_images(net)
    def draw(split, rng):
        images = rng.integers(0, 256, (3, 2, 8, 8), np.uint8)
        return fewshot.sample(rng, images, np.arange(3), 3, 1, 1)
    return Problem(
        model, config.alpha, config, each(draw),
        task=lambda e: as_task(e, model.apply, losses.cross_entropy),
        score=lambda theta, e: losses.accuracy(model.apply(theta, e.x_query), e.y_query),
    )
"""


def test_an_own_experiment_on_images(folder):
    """Rejects a user's experiment that cannot be used, and a query that is normalised
    with itself only: all its activations would be 0."""
    (folder / "mine.py").write_text(OWN)
    untrained = SMALL | {"iterations": 0}
    config = study.options("mine.py", **untrained)
    begin(folder / "run", config)
    write(folder, evaluation.held_out(config, "test", range(1)), sorted(NAMES), ink=False)
    run = study.open_run("run")
    begin(folder / "package", Glyphs(**untrained))
    assert study.open_run("package").theta.tolist() == run.theta.tolist()
    told = here("predict", "package", *ASK[2:], "--invert", "--json")
    assert asked()["queries"] == json.loads(told.out)["queries"]
    (folder / "mine.py").write_text(OWN + "# more")
    loading._loaded.cache_clear()
    assert here(*ASK).err == (
        "note: the file of mine.py has changed since the run was begun\n"
    )


def test_an_own_experiment_without_ways_has_as_many_classes_as_outputs(folder):
    """Rejects an answer that is no class, and one class of three that cannot be given."""
    (folder / "fixed.py").write_text(FIXED)
    begin(folder / "run", study.options("fixed.py", iterations=0))
    for number, name in enumerate("abcd"):
        save(np.full((9, 9), 50 * number, np.uint8), folder / "known" / name / "1.png")
        save(np.full((9, 9), 50 * number, np.uint8), folder / "new" / f"{name}.png")
    told = here(*ASK)
    assert told.code == 1
    assert "a label of 3 classes is 0 to 2" in one_error(told)
    shutil.rmtree(folder / "known" / "d")
    assert here(*ASK).code == 0
    shutil.rmtree(folder / "known" / "c")
    told = here(*ASK)
    assert told.code == 2
    assert "has no option --ways: it has 3 classes, and 'known' 2" in one_error(told)


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("points.py", TEMPLATE, "has no square images of 1 or 3 channels"),
        (
            "large.py",
            OWN.replace(
                "score_alone=None", "sample=lambda a, b, c: larger(found.sample(a, b, c))"
            )
            + "larger = lambda e: e._replace(x_support=9 * e.x_support)",
            r"are not in \[0, 1\]",
        ),
    ],
)
def test_an_own_experiment_on_something_else_is_refused(folder, file, text, line):
    """Rejects images for a net of points, and images in another range than they have."""
    (folder / file).write_text(text)
    with pytest.raises(UsageError, match=line):
        kind_of(study.options(file))


def test_an_algorithm_for_one_number_of_ways_says_so(folder):
    """Rejects a head of another size than the maps that the algorithm learns for it."""
    begin(folder / "run", Glyphs(**SMALL | {"iterations": 0}, algorithm="t-net"))
    for name in ("known/a/1.png", "known/b/1.png", "new/1.png"):
        save(np.full((9, 9), 255, np.uint8), folder / name)
    told = here(*ASK)
    assert told.code == 2
    assert "is for 3 ways only" in one_error(told)
