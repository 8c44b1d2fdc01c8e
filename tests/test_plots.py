"""Pictures: what is in them, that they are valid PNG, and what is said when they fail."""

import sys

import numpy as np
import pytest
from PIL import Image

from tinymaml import evaluation, finetune, plots, runs, train
from tinymaml.errors import WorldError
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.workers import Here


CONFIG = Sine(
    iterations=250,
    hidden=(8,),
    tasks=2,
    alpha=0.05,
    dtype="float64",
    validate_every=50,
    validation_tasks=2,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a short sine run."""
    path = tmp_path_factory.mktemp("run")
    runs.write_config(path, CONFIG, {})
    train.train(path, CONFIG, Here(), lambda *_: None)
    return path


@pytest.fixture
def drawn(trained, monkeypatch):
    """The axes of the pictures of that run, by the name of the file."""
    pictures = {}

    def keep(figure, path):
        pictures[path.name] = figure.axes[0]
        return path

    monkeypatch.setattr(plots, "_write", keep)
    plots.draw(trained)
    return pictures


def lines_of(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_pictures_are_valid_png_and_not_blank(trained):
    """Rejects an empty canvas, a cut file, another size, and a file it does not name."""
    assert plots.draw(trained) == [trained / "curve.png", trained / "fit.png"]
    for name in ("curve.png", "fit.png"):
        with Image.open(trained / name, formats=("PNG",)) as picture:
            picture.load()
            assert picture.size == (900, 600)
            pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        white = (pixels == 255).all(axis=1).mean()
        assert 0.8 < white < 0.995
        assert len(np.unique(pixels, axis=0)) > 50  # coloured lines with smooth edges


def test_learning_curve_shows_the_metrics(trained, drawn):
    """Rejects a curve that leaves iterations out, shifts them, or mixes the two lines."""
    lines = lines_of(drawn["curve.png"])
    records = runs.read_metrics(trained)
    loss = lines["loss, training tasks"]
    assert len(loss) == plots.SMOOTH
    # The first 50 groups have 3 iterations each, the others 2.
    first, last = records[:3], records[-2:]
    for point, group in ((loss[0], first), (loss[-1], last)):
        means = [np.mean([r[key] for r in group]) for key in ("iteration", "loss")]
        np.testing.assert_allclose(point, means, rtol=1e-12)
    scored = [(r["iteration"], r["validation"]) for r in records if "validation" in r]
    assert [iteration for iteration, _ in scored] == [50, 100, 150, 200, 250]
    np.testing.assert_array_equal(lines["MSE, validation tasks"], scored)


def test_fit_shows_one_task_before_and_after(trained, drawn):
    """Rejects a true curve of another task than the points, and steps mislabelled.

    The support points lie on the truth; `before` and `after` agree with the score of
    the first task of an evaluation, whose adaptation is the same.
    """
    lines = lines_of(drawn["fit.png"])
    assert [*lines] == [
        "truth",
        "10 support points",
        "before",
        "after 1 step",
        "after 10 steps",
    ]
    truth, points = lines["truth"], lines["10 support points"]
    assert len(points) == 10
    # Between 200 points the interpolated sine is off by A h^2 / 8 < 5 * 0.05^2 / 8.
    np.testing.assert_allclose(np.interp(points[:, 0], *truth.T), points[:, 1], atol=2e-3)
    theta = runs.load(trained, CONFIG, 25).theta
    scores = evaluation.evaluate(CONFIG, theta, "test", 1, 10, Here())[:, 0]
    *_, (x,), (y,) = evaluation.held_out(CONFIG, "test", range(1))
    for step, label in ((0, "before"), (1, "after 1 step"), (10, "after 10 steps")):
        shown = np.interp(x[:, 0], *lines[label].T)
        # Piecewise linear in x: wrong only next to the eight kinks.
        error = np.mean((shown - y[:, 0]) ** 2)
        assert error == pytest.approx(scores[step], rel=0.02)


def test_every_line_is_told_apart_without_colour(drawn):
    """Rejects lines that differ in colour only."""
    styles = {line.get_linestyle() for line in drawn["fit.png"].lines[2:]}
    assert len(styles) == 3


@pytest.mark.parametrize("alpha", [0.7, 5.0, 1e6])
def test_diverging_steps_do_not_hide_the_others(trained, tmp_path, monkeypatch, alpha):
    """Rejects an axis that reaches as far as a net that diverges, and warnings."""
    figures = []
    write = plots._write

    def keep(figure, path):
        figures.append(figure)
        return write(figure, tmp_path / path.name)

    monkeypatch.setattr(plots, "_write", keep)
    plots.sine_fit(trained, CONFIG.with_changes({"alpha": alpha}))
    low, high = figures[0].axes[0].get_ylim()
    assert -plots.Y_LIMIT <= low < -1 < 1 < high <= plots.Y_LIMIT


@pytest.mark.parametrize("algorithm", ["oracle", "averaged"])
def test_fit_of_a_baseline(tmp_path, monkeypatch, algorithm):
    """Rejects an oracle that is told nothing, a single regressor for the average, and
    steps of another size than the tuned one: the errors are those of an evaluation."""
    config = Sine(
        algorithm=algorithm,
        iterations=30,
        hidden=(8,),
        regressors=3,
        points=9,
        beta=0.1,
        validation_tasks=9,
        seed=4,  # the first task's error is clearly smaller after the steps
        dtype="float64",
    )
    runs.write_config(tmp_path, config, {})
    theta = train.train(tmp_path, config, Here(), lambda *_: None).theta
    pictures = {}
    monkeypatch.setattr(plots, "_write", lambda f, path: pictures.update({path.name: f}))
    plots.draw(tmp_path)
    lines = lines_of(pictures["fit.png"].axes[0])
    tuned = finetune.tuned(config, theta, 10, Here())
    scores = evaluation.evaluate(tuned, theta, "test", 1, 10, Here())[:, 0]
    assert scores[10] != pytest.approx(scores[0], rel=0.04)
    *_, (x,), (y,) = evaluation.held_out(tuned, "test", range(1))
    for step, label in ((0, "before"), (1, "after 1 step"), (10, "after 10 steps")):
        shown = np.interp(x[:, 0], *lines[label].T)
        assert np.mean((shown - y[:, 0]) ** 2) == pytest.approx(scores[step], rel=0.02)


def test_images_have_a_learning_curve_only(tmp_path):
    """Rejects a fit of curves to a run of images, and a torn last line that is read."""
    runs.write_config(tmp_path, Glyphs(), {})
    (tmp_path / runs.METRICS).write_text('{"iteration": 1, "loss": 1.5}\n{"itera')
    assert plots.draw(tmp_path) == [tmp_path / "curve.png"]


def test_no_metrics_and_no_checkpoint_are_told(tmp_path):
    """Rejects an empty picture, and a traceback, for a run that has not begun."""
    runs.write_config(tmp_path, CONFIG, {})
    with pytest.raises(WorldError, match="no metrics"):
        plots.draw(tmp_path)
    (tmp_path / runs.METRICS).write_text('{"iteration": 1, "loss": 1.5}\n')
    with pytest.raises(WorldError, match="no checkpoint"):
        plots.draw(tmp_path)


def test_missing_matplotlib_is_told(trained, monkeypatch):
    """Rejects an ImportError: the pictures are an extra, and the line says which."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(WorldError, match=r"pip install '.\[plot\]'"):
        plots.draw(trained)
