"""Pictures: which there are, that they are valid PNG, what they are made from, and what
is said when they fail."""

import json
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image

from folders import HALF, evaluated, folder
from processes import here, one_error, tree
from tinymaml import plots
from tinymaml.cli.main import check_pictures
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments import glyphs, problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.locomotion import Locomotion
from tinymaml.experiments.miniimagenet import MiniImageNet
from tinymaml.experiments.omniglot import Omniglot
from tinymaml.experiments.pointnav import PointNav
from tinymaml.experiments.sine import Sine
from tinymaml.harness import checkpoints, results, runs
from tinymaml.plots import figures, groups
from tinymaml.report import names, tables
from tinymaml.speed.workers import Here


SMALL = Sine(
    hidden=(8,),
    dtype="float64",
    inner_steps=1,
    test_tasks=5,
    test_steps=3,
    validation_tasks=4,
)
LEARNED = [{"iteration": i, "loss": 2 - i / 100} for i in range(1, 30)]
PRETRAINED = SMALL.with_changes({"algorithm": "pretrained"})


def pixels(file):
    with Image.open(file, formats=("PNG",)) as picture:
        picture.load()
        return np.asarray(picture.convert("RGB")).reshape(-1, 3)


# ----- Which there are -----


def test_pictures_of_sine(tmp_path):
    """Rejects an empty canvas, a cut file, a file it does not name, and pictures of two
    runs in the folder of one of them."""
    first = evaluated(folder(tmp_path / "a", SMALL, LEARNED))
    second = evaluated(folder(tmp_path / "b", PRETRAINED, LEARNED))
    drawn = plots.draw([first, second])
    both = tmp_path / "a+b"
    assert drawn == [both / name for name in ("curve.png", "steps.png", "fit.png")]
    for file in drawn:
        seen = pixels(file)
        white = (seen == 255).all(axis=1).mean()
        assert 0.3 < white < 0.995  # bands of five tasks are wide
        assert len(np.unique(seen, axis=0)) > 50  # coloured lines with smooth edges
    assert not [*first.glob("*.png"), *second.glob("*.png")]
    assert "matplotlib.pyplot" not in sys.modules  # whose figures are global


def test_pictures_of_images(tmp_path, monkeypatch):
    """Rejects a fit of curves to a run of images."""
    monkeypatch.setattr(glyphs, "CLASSES", {"train": 5, "val": 5, "test": 5})
    problem.cache_clear()
    config = Glyphs(filters=2, test_tasks=2, test_steps=1)
    path = evaluated(folder(tmp_path / "a", config, LEARNED))
    drawn = [picture.name for picture in plots.draw([path])]
    problem.cache_clear()
    assert drawn == ["curve.png", "steps.png", "sheet.png"]
    assert len(np.unique(pixels(path / "sheet.png"), axis=0)) > 50


def test_pictures_of_navigation(tmp_path):
    """Rejects a run beside the first that is not drawn."""
    told = [r | {"return_before": -9.0, "return_after": -1.0} for r in LEARNED]
    small = {"horizon": 4, "hidden": (3,), "test_tasks": 4, "test_trajectories": 2}
    config = PointNav(**small, test_steps=3)
    other = config.with_changes({"seed": 1, "alpha": 0.2})
    first = evaluated(folder(tmp_path / "a", config, told))
    second = evaluated(folder(tmp_path / "b", other, told))
    alone = evaluated(folder(tmp_path / "c", config, told))
    plots.draw([alone])
    drawn = [picture.name for picture in plots.draw([first, second])]
    assert drawn == ["curve.png", "steps.png", "walks.png", "walks.gif"]
    with (
        Image.open(tmp_path / "a+b/walks.gif") as both,
        Image.open(alone / "walks.gif") as one,
    ):
        assert both.size[0] == one.size[0]
        assert both.size[1] > 1.7 * one.size[1]


def test_what_was_not_trained_has_no_learning_curve(tmp_path):
    """Rejects an empty picture for random initial values, and none of the others."""
    config = SMALL.with_changes({"algorithm": "random"})
    random = evaluated(folder(tmp_path / "a", config))
    assert [file.name for file in plots.draw([random])] == ["steps.png", "fit.png"]
    assert not (random / "curve.png").exists()


def test_the_command_draws_runs_and_names_the_files(tmp_path, monkeypatch):
    """Rejects a task that is not the one asked for, and a folder of seeds as no run."""
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "many/seed-0", SMALL, LEARNED, means=[1.0, 0.5])
    folder(tmp_path / "many/seed-1", SMALL.with_changes({"seed": 1}), LEARNED, [1.0, 0.4])
    told = here("plot", "many")
    assert told.code == 0, told
    assert told.out.split() == [f"many/{name}.png" for name in ("curve", "steps", "fit")]
    first = pixels(tmp_path / "many/fit.png")
    assert here("plot", "many", "--task", "7").code == 0
    assert (pixels(tmp_path / "many/fit.png") != first).any()


def test_pictures_of_several_runs_leave_those_of_each(tmp_path, monkeypatch):
    """Rejects `plot a b` that overwrites a's own pictures, or those of `plot a c`."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("runs/a", 0), ("runs/b", 1), ("runs/c", 2), ("more/b", 3)):
        config = SMALL.with_changes({"seed": seed})
        folder(tmp_path / name, config, LEARNED, means=[1.0, 0.5])
    names = ["curve.png", "steps.png", "fit.png"]
    assert here("plot", "runs/a").out.split() == [f"runs/a/{name}" for name in names]
    before = tree(tmp_path)
    for other, place in (("runs/b", "a+b"), ("runs/c", "a+c"), ("more/b", "runs-a+more-b")):
        told = here("plot", "runs/a", other)
        assert told.out.split() == [f"runs/{place}/{name}" for name in names], told
    assert here("plot", "runs/a", "runs/./a/").out.split()[0] == "runs/a/curve.png"
    after = tree(tmp_path)
    assert {name: after[name] for name in before} == before
    told = here("plot", "runs/a", "runs/b", "--out", "new/pictures")
    assert told.out.split() == [f"new/pictures/{name}" for name in names]
    assert here("plot", "runs/a", "--out", "new").out.split()[0] == "new/curve.png"
    before = tree(tmp_path)
    for words in (("runs/b", "--out", "new"), ("runs/a", "runs/b", "--out", "runs/a")):
        told = here("plot", *words)
        line = (
            f"Error: '{words[-1]}/curve.png' is a picture of other runs: name a new folder"
        )
        assert (told.code, one_error(told)) == (2, f"{line} with --out")
    assert tree(tmp_path) == before
    check_pictures(tmp_path / "new", [tmp_path / "runs/a"])  # the same may be drawn again
    check_pictures(tmp_path / "runs/a", [tmp_path / "runs/a"])


def test_a_folder_of_pictures_that_cannot_be(tmp_path, monkeypatch):
    """Rejects pictures in a run that happens to have the name, in a file, in the current
    folder for an empty name, and a name of thousands of characters."""
    monkeypatch.chdir(tmp_path)
    names = [f"run-{number}" for number in range(30)]
    for number, name in enumerate([*names, "run-0+run-1"]):
        folder(tmp_path / name, SMALL.with_changes({"seed": number}), LEARNED, [1.0])
    (tmp_path / "file").write_text("")
    before = tree(tmp_path)
    for wrong, words in (
        (("run-0", "run-1"), "is a run: name another folder with --out"),
        (names, "name the folder of their pictures with --out"),
        (("run-0", "--out", "file"), "is a file"),
        (("run-0", "--out", ""), "must not be empty"),
    ):
        told = here("plot", *wrong)
        assert told.code == 2
        assert words in one_error(told)
    assert tree(tmp_path) == before
    assert here("plot", *names, "--out", "all").code == 0


def test_each_picture_is_announced_before_it_is_drawn(tmp_path):
    """Rejects progress that names what is done already, or nothing."""
    path, seen = folder(tmp_path / "a", SMALL, LEARNED, [1.0, 0.5]), []
    plots.draw([path], note=lambda name: seen.append((name, len([*path.glob("*.png")]))))
    assert seen == [("curve.png", 0), ("steps.png", 1), ("fits", 2)]


def test_what_has_nothing_to_draw_gets_no_folder(tmp_path):
    """Rejects an empty folder for pictures that there are none of."""
    for number, name in enumerate("ab"):
        folder(tmp_path / name, SMALL.with_changes({"seed": number}))
    assert plots.draw([tmp_path / "a", tmp_path / "b"]) == []
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


# ----- What they are made from -----


def read(path):
    """What is known of how a run does; None where it was not evaluated."""
    (group,) = groups.read([path])
    (run,) = group.runs
    return groups.judged(run, fallback=False)


def pictures_of(path, capsys):
    """The names of the pictures of a run and what is on stderr; nothing else may change."""
    before = tree(path)
    drawn = [file.name for file in plots.draw([path])]
    after = tree(path)
    assert {name: after[name] for name in before} == before
    assert {*after} - {*before} == {*drawn}
    return drawn, capsys.readouterr().err


def test_a_run_that_was_not_evaluated_has_its_learning_curve_only(tmp_path, capsys):
    """Rejects plotting that evaluates, that writes an evaluation, that fails, and that
    leaves pictures out without naming the command that is missing."""
    path = folder(tmp_path / "a", SMALL, LEARNED)
    drawn, err = pictures_of(path, capsys)
    assert drawn == ["curve.png"]
    (line,) = err.splitlines()
    assert f"tinymaml evaluate {path}" in line
    (path / "curve.png").unlink()
    evaluated(path)
    assert pictures_of(path, capsys) == (["curve.png", "steps.png", "fit.png"], "")


def test_every_run_without_an_evaluation_is_named(tmp_path, capsys):
    """Rejects a picture of the others as if it were of all, and one line for two runs."""
    plain = folder(tmp_path / "a", SMALL, LEARNED, means=[1.0, 0.5])
    lacking = [
        folder(tmp_path / "many" / f"seed-{seed}", PRETRAINED.with_changes({"seed": seed}))
        for seed in (0, 1)
    ]
    drawn = plots.draw([plain, tmp_path / "many"])
    assert [file.name for file in drawn] == ["curve.png"]
    lines = capsys.readouterr().err.splitlines()
    for path, line in zip(lacking, lines, strict=True):
        assert f"tinymaml evaluate {path}" in line


def test_the_evaluation_is_that_of_the_command(tmp_path, monkeypatch):
    """Rejects other numbers than `tinymaml evaluate RUN` finds, a theta that is not the
    run's, and a step size of the training where one was tuned."""
    monkeypatch.chdir(tmp_path)
    path = folder(tmp_path / "a", PRETRAINED)
    kept = checkpoints.load(path, PRETRAINED)
    wanted = results.judge(PRETRAINED, kept, "test", 5, 3, [3], Here())
    assert here("evaluate", "a").code == 0
    written = runs.unsealed(path / runs.EVALUATION)
    assert written == json.loads(tables.as_json([wanted]))
    one, (mean, half) = read(path), results.over_tasks(wanted.scores)
    assert one.found.mean.tolist() == mean.tolist()
    assert one.found.half.tolist() == half.tolist()
    assert (one.found.tasks, one.config) == (5, wanted.config)
    assert one.theta.tobytes() == kept.theta.tobytes()
    assert one.config.alpha != PRETRAINED.alpha


def test_an_evaluation_that_is_there_is_used_as_it_is(tmp_path):
    """Rejects other numbers than the file's, and the step size of the training for the
    one that was tuned."""
    path = folder(tmp_path / "a", PRETRAINED, means=[3.5, None], alpha=0.125)
    one = read(path)
    assert one.found.mean[0] == 3.5
    assert np.isnan(one.found.mean[1])
    assert one.found.half.tolist() == [HALF, HALF]
    assert (one.found.tasks, one.config.alpha) == (600, 0.125)


@pytest.mark.parametrize(
    "told",
    [
        {"iterations": [7]},
        {"iterations": [0, 0]},
        {"iterations": None},
        {"mean": "x"},
        {"mean": {}},
        {"mean": 3.0},
        {"mean": 3.0, "half_width_95": 1.0},
        {"mean": [99.0, 98.0]},
        {"mean": [], "half_width_95": []},
        {"tasks": None},
        {"tasks": 0},
        {"alpha": []},
        {"alpha": -5},
        {"alpha": float("inf")},
        {"alpha": 10**400},
    ],
)
def test_an_evaluation_of_another_theta_counts_as_none(tmp_path, capsys, told):
    """Rejects numbers of a theta that the run no longer has, a traceback, intervals that
    are not one each, steps uphill, and a file that plotting overwrites."""
    path = folder(tmp_path / "a", SMALL, LEARNED, means=[99.0], **told)
    assert read(path) is None
    drawn, err = pictures_of(path, capsys)
    assert drawn == ["curve.png"]
    assert f"tinymaml evaluate {path}" in err
    assert read(evaluated(path)).found.tasks == 5


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"x"', "\ud800", pytest.param("[" * 10**5, id="deep")]
)
def test_a_damaged_evaluation_counts_as_none(tmp_path, capsys, text):
    """Rejects a traceback for a file that can be made again."""
    path = folder(tmp_path / "a", SMALL, LEARNED)
    (path / runs.EVALUATION).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert pictures_of(path, capsys)[0] == ["curve.png"]
    assert read(evaluated(path)).found.tasks == 5


# ----- What runs are called -----

CALLED = {
    "algorithms": (
        [SMALL, SMALL.with_changes({"algorithm": "fomaml", "inner_steps": 5}), PRETRAINED],
        ["MAML, 1 inner step", "first-order MAML, 5 inner steps", "pretrained"],
        "Sine, 10 shots",
    ),
    "shots": (
        [SMALL, PRETRAINED.with_changes({"shots": 5})],
        ["MAML, 1 inner step, 10 shots", "pretrained, 5 shots"],
        "Sine",
    ),
    "options": (
        [
            SMALL,
            SMALL.with_changes({"alpha": 0.5, "test_tasks": 9}),
            PRETRAINED.restored(PRETRAINED.values() | {"alpha": 0.7}),  # as it was tuned
        ],
        [
            "MAML, 1 inner step, alpha 0.01, test-tasks 5",
            "MAML, 1 inner step, alpha 0.5, test-tasks 9",
            "pretrained",
        ],
        "Sine, 10 shots",
    ),
    "memory": (
        [SMALL, SMALL.with_changes({"algorithm": "maml-low-memory"})],
        [
            "MAML, 1 inner step, algorithm maml",
            "MAML, 1 inner step, algorithm maml-low-memory",
        ],
        "Sine, 10 shots",
    ),
    "context": (
        [SMALL.with_changes({"algorithm": "context", "context": 20})],
        ["context vector of 20"],
        "Sine, 10 shots",
    ),
    "ways": (
        [Glyphs(), Glyphs(ways=20, shots=5)],
        ["MAML, 1 inner step, 5-way 1-shot", "MAML, 1 inner step, 20-way 5-shot"],
        "Glyphs",
    ),
    "images": ([Omniglot(ways=20)], ["MAML, 1 inner step"], "Omniglot, 20-way 1-shot"),
    "photographs": (
        [MiniImageNet()],
        ["MAML, 5 inner steps"],
        "Images, 5-way 1-shot",  # no file says that they are mini-ImageNet's
    ),
    "navigation": (
        [
            PointNav(),
            PointNav(algorithm="e-maml", surrogate="naive"),
            PointNav(algorithm="oracle"),
        ],
        ["MAML, 1 inner step", "E-MAML, 1 inner step", "oracle"],
        "2D navigation",
    ),
    "bodies": (
        [Locomotion(), Locomotion(task="ant-vel")],
        ["MAML, 1 inner step, cheetah-dir", "MAML, 1 inner step, ant-vel"],
        "Locomotion",
    ),
    "body": (
        [Locomotion(task="ant-vel"), Locomotion(task="ant-vel", algorithm="oracle")],
        ["MAML, 1 inner step", "oracle"],
        "Locomotion, ant-vel",
    ),
}


@pytest.mark.parametrize("case", CALLED)
def test_runs_are_called_by_what_sets_them_apart(case):
    """Rejects two runs of one name, steps that a baseline has not, and a title that is
    true of some of the runs only."""
    configs, labels, title = CALLED[case]
    assert names.labels(configs) == labels
    named = [groups.Group("x", [groups.Run(None, config)]) for config in configs]
    assert groups.title(named) == title


def test_mini_imagenet_is_called_by_its_name(monkeypatch):
    """Rejects a title that calls mini-ImageNet's own images any images."""
    monkeypatch.setattr(MiniImageNet, "is_original", True)
    group = groups.Group("x", [groups.Run(None, MiniImageNet(shots=5))])
    assert groups.title([group]) == "mini-ImageNet, 5-way 5-shot"


def test_seeds_are_one_group_from_one_folder_or_several(tmp_path):
    """Rejects a line for each seed, a run that is counted twice, and data that have moved
    as another setting."""
    paths = [
        folder(tmp_path / "many" / f"seed-{seed}", SMALL.with_changes({"seed": seed}))
        for seed in (0, 1)
    ]
    paths.append(folder(tmp_path / "c", SMALL.with_changes({"seed": 2, "replay": False})))
    for given in (paths, [tmp_path / "many", paths[2]], [*paths, paths[0]]):
        (group,) = groups.read(given)
        assert [run.path for run in group.runs] == paths
        assert [run.config.seed for run in group.runs] == [0, 1, 2]


# ----- What goes wrong -----


def test_runs_that_do_not_share_a_picture(tmp_path):
    """Rejects navigation in a picture of sine, and one run that counts as two seeds."""
    paths = [folder(tmp_path / name, SMALL) for name in ("a", "b")]
    with pytest.raises(UsageError, match=r"a' and '.*b' have the same options and seed"):
        plots.draw(paths)
    other = folder(tmp_path / "c", PointNav())
    with pytest.raises(UsageError, match="runs of pointnav and sine"):
        plots.draw([paths[0], other])
    assert not [*tmp_path.rglob("*.png")]


def test_no_checkpoint_is_told(tmp_path, monkeypatch):
    """Rejects a traceback for a run that has not begun."""
    monkeypatch.chdir(tmp_path)
    path = folder(tmp_path / "a", SMALL, LEARNED)
    (path / runs.CHECKPOINT).unlink()
    assert "no checkpoint in 'a'" in one_error(here("plot", "a"))
    assert "has no data file" in one_error(here("plot", "a", "--data", "b"))


def test_a_full_disk_leaves_the_picture_that_was(tmp_path, monkeypatch):
    """Rejects half a picture in the place of a whole one."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    (tmp_path / "a.png").write_bytes(b"before")
    monkeypatch.setattr("os.fsync", full)
    film = figures.Film(figures.new_figure(1, 1), 10)
    film.take([], 10)
    for save in (partial(figures.save, figures.new_figure(1, 1)), film.save):
        with pytest.raises(OSError, match="No space") as caught:
            save(tmp_path / "a.png")
        assert caught.value.filename == str(tmp_path / "a.png")
    assert tree(tmp_path) == {"a.png": b"before"}


def test_a_flipped_digit_is_no_evaluation(tmp_path, monkeypatch):
    """Rejects a picture of a score that nobody measured."""
    monkeypatch.chdir(tmp_path)
    path = folder(tmp_path / "a", PRETRAINED)
    assert here("evaluate", "a").code == 0
    mean = read(path).found.mean
    text = (path / runs.EVALUATION).read_text()
    other = text.replace(str(mean[-1]), str(mean[-1] + 1))
    assert other != text
    (path / runs.EVALUATION).write_text(other)
    assert tables.saved(path, PRETRAINED) is None


def test_missing_matplotlib_is_reported_first(tmp_path, monkeypatch, capsys):
    """Rejects an ImportError, which does not say that the pictures are an extra, and lines
    about evaluations that no picture would use."""
    path = folder(tmp_path / "a", SMALL, LEARNED)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(WorldError, match=r"pip install 'tinymaml\[plot\]'"):
        plots.draw([path])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "line", ['{"iteration": "a", "loss": "b"}', '{"ite": 1, "loss": 1}']
)
def test_metrics_that_are_damaged_throughout_are_no_curve(tmp_path, monkeypatch, line):
    """Rejects a traceback, or an empty curve, where no line can be read."""
    monkeypatch.chdir(tmp_path)
    path = folder(tmp_path / "a", SMALL, LEARNED)
    (path / runs.METRICS).write_text(f"{line}\n" * 3)
    told = here("plot", "a")
    assert (told.code, told.out) == (0, "")
    assert "line 1 of 'a/metrics.jsonl' is damaged, and 2 more: left out" in told.err


def test_an_evaluation_of_another_run_is_none(tmp_path, capsys):
    """Rejects the scores of another seed, or of other options, under a run's name."""
    path = evaluated(folder(tmp_path / "a", SMALL, LEARNED))
    for number, changes in enumerate(({"seed": 3}, {"alpha": 0.5}, {"hidden": (7,)})):
        other = evaluated(folder(tmp_path / f"{number}", SMALL.with_changes(changes)))
        (path / runs.EVALUATION).write_bytes((other / runs.EVALUATION).read_bytes())
        assert plots.draw([path]) == [path / "curve.png"]
        assert "was not evaluated" in capsys.readouterr().err
    evaluated(path)
    assert len(plots.draw([path])) == 3


def test_curves_are_drawn_without_the_data(tmp_path, monkeypatch):
    """Rejects a data file asked for by pictures that do not use it, a missing picture
    without a word, and advice that does not name the option."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (15, 3, 28, 28), np.uint8)
    classes = {part: np.arange(15) for part in ("train", "val", "test")}
    monkeypatch.setattr("tinymaml.data.omniglot.load", lambda *_: (noise, classes))
    problem.cache_clear()
    config = Omniglot(data="x.npz", filters=1, test_tasks=3, test_steps=1, queries=1)
    path = evaluated(folder(tmp_path / "a", config, LEARNED))

    def moved(path, split):
        raise WorldError("no data file 'x.npz'; if it has moved, add --data FILE")

    monkeypatch.setattr("tinymaml.data.omniglot.load", moved)
    problem.cache_clear()
    told = here("plot", path)
    assert told.code == 0, told
    assert told.out.splitlines() == [f"{path}/curve.png", f"{path}/steps.png"]
    [line] = told.err.splitlines()
    assert line.startswith("no picture of tasks: no data file 'x.npz'")
    assert "add --data FILE" in line
