"""Task sheets: whose images and whose answers stand where."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tinymaml.experiments import glyphs, problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.own_images import OwnImages
from tinymaml.harness import evaluation
from tinymaml.harness.loop import initial_state
from tinymaml.plots import sheets
from tinymaml.plots.groups import Group, Judged, Run
from tinymaml.plots.sheets import RIGHT, WRONG, Answers, Sheet
from tinymaml.report.tables import Evaluation
from tinymaml.speed.workers import Here


# So few filters that no other test has them: the glyphs below must not meet theirs.
SMALL = Glyphs(ways=3, shots=2, filters=3, test_steps=2, alpha=2.0)
TASK = 1


@pytest.fixture(scope="module", autouse=True)
def few_glyphs():
    """As many classes as the tests need: drawing 300 takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(glyphs, "CLASSES", {"train": 4, "val": 4, "test": 6})
        problem.cache_clear()
        yield
    problem.cache_clear()


def judged(config, seed=0):
    theta = initial_state(config.with_changes({"seed": seed})).theta
    return Judged(config, theta, Evaluation(0, 2.0, np.zeros(3), np.zeros(3), 600))


def group(label, config):
    return Group(label, [Run(Path(), config)])


def shown(found, monkeypatch, title=SMALL):
    """The axes on which a sheet is drawn."""
    monkeypatch.setattr(sheets, "sheet", lambda *_: found)
    return sheets.draw([group("net", title)], [], 0).axes[0]


def made(ways, queries, answers, channels=1, shots=1):
    """A sheet whose images tell which they are by their brightness."""
    numbers = np.arange(ways * (shots + queries)).reshape(ways, -1)
    images = np.zeros((*numbers.shape, 2, 2, channels)) + numbers[..., None, None, None]
    images /= numbers.max()
    return Sheet(images[:, :shots], images[:, shots:], answers)


def marks(axes, cell):
    """The answers that are written in each column, from the top."""
    columns = {}
    for text in sorted(axes.texts, key=lambda text: text.get_position()[1]):
        if text.get_text()[-1] in (RIGHT, WRONG):
            column = int(text.get_position()[0] / cell)
            columns.setdefault(column, []).append(text)
    return columns


# ----- What is shown -----


def test_the_sheet_is_the_task_of_the_evaluation():
    """Rejects another task, images under another class, support for query images, and
    answers of another theta, step, step size or task."""
    one = judged(SMALL)
    found = sheets.sheet([group("net", SMALL)], [[one]], TASK)
    episode = evaluation.held_out(SMALL, "test", range(TASK, TASK + 1))
    np.testing.assert_array_equal(found.support.reshape(6, 28, 28, 1), episode.x_support[0])
    np.testing.assert_array_equal(found.query.reshape(6, 28, 28, 1), episode.x_query[0])
    assert [(a.label, a.steps) for a in found.answers] == [("net", 0), ("net", 2)]
    scores = evaluation.evaluate(SMALL, one.theta, "test", TASK + 1, 2, Here())[:, TASK]
    truth = np.arange(3)[:, None]
    right = [np.mean(a.classes == truth) for a in found.answers]
    assert right == [*scores[[0, 2]]]
    assert right[0] < right[1]


def test_labels_in_any_order_come_under_their_class(monkeypatch):
    """Rejects a sheet that takes the order of the images for that of the classes."""
    one, plain = judged(SMALL), evaluation.held_out(SMALL, "test", range(1))
    order = np.random.default_rng(0).permutation(6)
    mixed = plain._replace(x_query=plain.x_query[:, order], y_query=plain.y_query[:, order])
    wanted = sheets.sheet([group("net", SMALL)], [[one]], 0)
    monkeypatch.setattr(sheets, "held_out", lambda *_: mixed)
    found = sheets.sheet([group("net", SMALL)], [[one]], 0)

    def sums(images):
        return np.sort(images.sum(axis=(2, 3, 4)), axis=1)

    np.testing.assert_array_equal(sums(found.query), sums(wanted.query))
    for a, b in zip(found.answers, wanted.answers, strict=True):
        np.testing.assert_array_equal(np.sort(a.classes), np.sort(b.classes))


def test_only_nets_on_the_same_task_share_a_sheet():
    """Rejects answers to other images, and a net that is left out though it has the same
    task."""
    other, wide = (SMALL.with_changes(c) for c in ({"test_steps": 0}, {"ways": 4}))
    named = [group("a", SMALL), group("wide", wide), group("b", other)]
    nets = [[judged(SMALL)], [judged(wide)], [judged(other, seed=1)]]
    found = sheets.sheet(named, nets, 0)
    assert [(a.label, a.steps) for a in found.answers] == [("a", 0), ("a", 2), ("b", 0)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_net_that_diverged_does_not_answer(value):
    """Rejects argmax of nan, which is the first class, and the class of a saturated net."""
    config = SMALL.with_changes({"net": "dense", "activation": "tanh"})
    one = judged(config)
    one.theta[0] = value
    before, after = sheets.sheet([group("net", config)], [[one]], TASK).answers
    assert np.isnan(before.classes).all()
    assert np.isnan(after.classes).all()


# ----- How it is drawn -----


def test_an_answer_that_does_not_exist_is_marked_and_counted(monkeypatch):
    """Rejects nan as a class, as a right answer, and a count of what else is right."""
    before, after = np.array([[0.0], [1]]), np.array([[np.nan], [1]])
    found = made(2, 1, [Answers("net", 0, before), Answers("net", 1, after)])
    axes = shown(found, monkeypatch)
    told = [text.get_text() for text in marks(axes, sheets.LARGEST)[0]]
    assert told == [f"A {RIGHT}", f"? {WRONG}"]
    words = " ".join(text.get_text() for text in axes.texts)
    assert words.endswith("net: right 2 of 2 before, not finite in 1 of 2 after 1 step")


def test_answers_stand_under_their_images_and_mistakes_are_marked(monkeypatch):
    """Rejects the label of the wrong class, a mistake that is told by colour alone, a
    right answer that is marked, and steps in each other's line."""
    before, after = np.array([[1, 0], [1, 2], [2, 0]]), np.array([[0, 0], [1, 1], [2, 1]])
    found = made(3, 2, [Answers("net", 0, before), Answers("net", 10, after)])
    axes = shown(found, monkeypatch)
    for column, texts in marks(axes, sheets.LARGEST).items():
        answers = [*zip(before[column], after[column], strict=True)]
        for text, answer in zip(texts, np.ravel(answers), strict=True):
            letter, sign = text.get_text().split()
            assert letter == "ABC"[answer]
            mistaken = answer != column
            assert (sign == WRONG) == (text.get_weight() == "bold") == mistaken
            assert (text.get_bbox_patch() is not None) == mistaken
    words = [text.get_text() for text in axes.texts]
    assert words.count("before") == words.count("after 10 steps") == 2
    assert words[-1] == "net: right 3 of 6 before, 5 of 6 after 10 steps"
    assert axes.get_title() == "Glyphs, 3-way 2-shot: a held-out task"


def test_images_stand_in_the_columns_of_their_class(monkeypatch):
    """Rejects rows for columns, a row that is drawn twice, ink that is white on black, and
    an image that is stretched to its own darkest pixel."""
    found = made(4, 3, [Answers("net", 0, np.zeros((4, 3), int))], shots=2)
    axes = shown(found, monkeypatch)
    seen = {}
    for drawn in axes.images:
        left, _, bottom, top = drawn.get_extent()
        assert bottom > top  # y grows downwards
        assert drawn.get_clim() == (0, 1)
        assert drawn.get_cmap()(1.0)[:3] == (0, 0, 0)
        seen.setdefault(int(left / sheets.LARGEST), []).append(
            (top, drawn.get_array()[0, 0])
        )
    for column in range(4):
        values = [value for _, value in sorted(seen[column])]
        wanted = np.concatenate([found.support, found.query], axis=1)[column, :, 0, 0, 0]
        np.testing.assert_allclose(values, wanted)
    words = [text.get_text() for text in axes.texts]
    assert (words.count("support"), words.count("query")) == (2, 3)


def test_images_have_their_colours(monkeypatch):
    """Rejects a photograph in grey, or as its own negative."""
    found = made(2, 1, [Answers("net", 0, np.zeros((2, 1), int))], channels=3)
    found.query[1, 0, ..., 0] = 0.25
    drawn = shown(found, monkeypatch).images[-1].get_array()
    np.testing.assert_array_equal(drawn, found.query[1, 0])


def test_grey_photographs_are_no_drawings(monkeypatch):
    """Rejects a grey photograph as its own negative."""
    found = made(2, 1, [Answers("net", 0, np.zeros((2, 1), int))])
    drawn = shown(found, monkeypatch, OwnImages(side=16, channels=1)).images[-1]
    assert drawn.get_cmap()(1.0)[:3] == (1, 1, 1)


def test_what_does_not_fit_is_left_out_but_counted(monkeypatch):
    """Rejects a figure of any width, names that end at Z, and a count of what is shown."""
    ways, queries = 30, 9
    classes = np.tile(np.arange(ways)[:, None], queries)
    found = made(ways, queries, [Answers("net", 1, classes)], shots=7)
    axes = shown(found, monkeypatch)
    assert len(axes.images) == sheets.COLUMNS * 2 * sheets.ROWS
    width, height = axes.figure.get_size_inches()
    assert width < 9
    assert height < 9
    words = [text.get_text() for text in axes.texts]
    assert {"1", "20"} <= {*words}
    assert words[-2:] == [
        "net: right 270 of 270 after 1 step",
        "shown: 20 of 30 classes, 100 of 210 support images, 100 of 270 queries",
    ]


def test_queries_that_are_not_shown_are_told(monkeypatch):
    """Rejects a count of more queries than the sheet has, without a word."""
    found = made(5, 15, [Answers("net", 1, np.zeros((5, 15), int))])
    words = [text.get_text() for text in shown(found, monkeypatch).texts]
    assert words[-2:] == ["net: right 15 of 75 after 1 step", "shown: 25 of 75 queries"]


def test_nets_on_other_tasks_are_told(monkeypatch):
    """Rejects a net that is left out silently, and a net that is one of several seeds
    without saying so."""
    several = Group("b", [Run(Path(), SMALL)] * 3)
    answers = sheets.sheet([several], [[judged(SMALL)]], TASK).answers
    assert {answer.label for answer in answers} == {"b, first of 3 seeds"}
    found = made(2, 1, [Answers("a", 0, np.zeros((2, 1), int))])
    monkeypatch.setattr(sheets, "sheet", lambda *_: found)
    axes = sheets.draw([group("a", SMALL), several], [], 0).axes[0]
    told = " ".join(text.get_text() for text in axes.texts[-3:])
    assert told.endswith("not shown, its task is another: b, first of 3 seeds")


@pytest.mark.parametrize("ways", [20, 26, 30, 100])
def test_answers_of_many_classes_do_not_touch(monkeypatch, ways):
    """Rejects frames of two digits, or of a wide letter, that run into each other."""
    answers = np.full((ways, 1), min(ways - 1, 22))  # W, where it is a letter
    axes = shown(made(ways, 1, [Answers("net", 0, answers)]), monkeypatch)
    axes.figure.draw_without_rendering()
    texts = [text for (text,) in marks(axes, sheets.WIDTH / sheets.COLUMNS).values()]
    frames = [text.get_bbox_patch() for text in texts if text.get_weight() == "bold"]
    assert len(frames) >= sheets.COLUMNS - 1
    boxes = [frame.get_tightbbox() for frame in frames]
    least = 0.1 * axes.figure.dpi * sheets.WIDTH / sheets.COLUMNS  # with the frames' lines
    for left, right in pairwise(sorted(boxes, key=lambda box: box.x0)):
        assert left.x1 + least < right.x0


def test_lines_below_the_images_stay_within_the_figure(monkeypatch):
    """Rejects a line that is longer than a narrow sheet is wide."""
    found = made(2, 9, [Answers(8 * "a long name, ", 0, np.zeros((2, 9), int))], shots=7)
    figure = shown(found, monkeypatch).figure
    figure.draw_without_rendering()
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_several_nets_have_their_own_lines(monkeypatch):
    """Rejects a net's answers under another's name."""
    classes = np.array([[0], [0]])
    found = made(2, 1, [Answers("a", 0, classes), Answers("b", 0, 1 - classes)])
    axes = shown(found, monkeypatch)
    words = [text.get_text() for text in axes.texts]
    assert [w for w in words if "before" in w] == [
        *("a: before", "b: before"),
        *("a: right 1 of 2 before", "b: right 1 of 2 before"),
    ]
    texts = marks(axes, sheets.LARGEST)[0]
    assert [text.get_text()[0] for text in texts] == ["A", "B"]
