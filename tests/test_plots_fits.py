"""Fits of sine curves: the tasks, the nets and the steps that are drawn."""

import numpy as np
import pytest
from folders import folder, lines_of

from tinymaml import evaluation, runs, train
from tinymaml.data.sine import INPUTS
from tinymaml.experiments import problem
from tinymaml.experiments.sine import Sine
from tinymaml.finetune import tuned
from tinymaml.plots import fits, groups
from tinymaml.workers import Here


SMALL = Sine(
    iterations=40,
    hidden=(8,),
    tasks=2,
    alpha=0.05,
    beta=0.1,
    dtype="float64",
    regressors=3,
    points=9,
    wave=5,
    validation_tasks=9,
    test_tasks=5,
)
NETS = ("maml", "oracle", "averaged")
NAMES = ("MAML, 2 inner steps", "oracle", "averaged regressors")
LABELS = {0: "before", 1: "after 1 step", 10: "after 10 steps"}


def begun(path, **changes):
    """The folder of a short run."""
    config = SMALL.with_changes(changes)
    path.mkdir()
    runs.write_config(path, config, {})
    train.train(path, config, Here(), lambda *_: None)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folders of short runs of several algorithms."""
    folder = tmp_path_factory.mktemp("runs")
    return [begun(folder / name, algorithm=name) for name in NETS]


def drawn(*folders, task=0):
    """What was read of the runs, and the axes, a row a run."""
    found = groups.read(folders)
    judged = [groups.judged(group, Here()) for group in found]
    figure = fits.draw(found, judged, task)
    return judged, figure, np.reshape(figure.axes, (len(folders), 2))


def test_a_row_a_run_on_the_same_tasks(trained):
    """Rejects panels of different tasks, rows under each other's name, and steps in
    another order than their names."""
    _, figure, rows = drawn(*trained)
    assert [row[0].get_ylabel() for row in rows] == [*NAMES]
    assert [axes.get_title() for axes in rows[0]] == [*fits.TASKS]
    assert figure.get_suptitle().startswith("Sine, K = 10:")
    wanted = ["truth", "10 support points", *LABELS.values()]
    for row in rows:
        for axes, above in zip(row, rows[0], strict=True):
            lines, first = lines_of(axes), lines_of(above)
            assert [*lines] == wanted
            for same in wanted[:2]:
                np.testing.assert_array_equal(lines[same], first[same])
    left, right = (lines_of(axes)["truth"] for axes in rows[0])
    assert np.abs(left - right).max() > 0.1


@pytest.mark.parametrize("task", [0, 3])
def test_fits_have_the_errors_of_the_evaluation(trained, task):
    """Rejects an oracle that is told nothing, a single regressor for the average, steps
    of another size than the tuned one, another theta, and another held-out task."""
    judged, _, rows = drawn(*trained, task=task)
    for (one,), row in zip(judged, rows, strict=True):
        lines = lines_of(row[0])
        config = tuned(one.config.with_changes({"alpha": 0.05}), one.theta, 10, Here())
        scores = evaluation.evaluate(config, one.theta, "test", 5, 10, Here())
        assert scores[10, task] != pytest.approx(scores[0, task], rel=0.04)
        x, y = evaluation.held_out(one.config, "test", range(task, task + 1))[2:]
        for step, label in LABELS.items():
            shown = np.interp(x[0, :, 0], *lines[label].T)
            # Piecewise linear in x: wrong only next to the eight kinks.
            error = np.mean((shown - y[0, :, 0]) ** 2)
            assert error == pytest.approx(scores[step, task], rel=0.02)


def test_points_lie_on_the_truth_the_second_task_s_in_one_half(trained):
    """Rejects a true curve of another task than the points, and a second panel with
    points in both halves, or all in one place."""
    _, _, (row, *_) = drawn(*trained)
    for axes in row:
        points, truth = (lines_of(axes)[name] for name in ("10 support points", "truth"))
        assert len(points) == 10
        # Between 200 points the interpolated sine is off by A h^2 / 8 < 5 * 0.05^2 / 8.
        shown = np.interp(points[:, 0], *truth.T)
        np.testing.assert_allclose(shown, points[:, 1], atol=2e-3)
    first, second = (lines_of(axes)["10 support points"][:, 0] for axes in row)
    middle = sum(INPUTS) / 2
    assert first.min() < middle < first.max()
    assert middle <= second.min() < second.max() - 1
    assert second.max() <= INPUTS[1]


def test_the_second_task_s_net_learns_from_the_points_that_are_shown(trained):
    """Rejects adaptation to the points before they were moved, and an oracle that is told
    of another curve."""
    judged, _, rows = drawn(*trained)
    for (one,), (_, axes) in zip(judged, rows, strict=True):
        lines = lines_of(axes)
        episodes, curves = fits._tasks(one.config, 0)
        np.testing.assert_array_equal(
            episodes.x_support[1, :, 0], lines["10 support points"][:, 0]
        )
        np.testing.assert_array_equal(
            episodes.y_support[1, :, 0], lines["10 support points"][:, 1]
        )
        theta = groups.adapted(one, episodes, 10)[10]
        fit = problem(one.config).model.apply(theta, episodes.x_support)[1, :, 0]
        shown = np.interp(episodes.x_support[1, :, 0], *lines["after 10 steps"].T)
        np.testing.assert_allclose(shown, fit, atol=0.05)
        if one.config.algorithm == "oracle":
            told = episodes.x_support[1, 0, 1:]
            assert told.tolist() == [each[1].item() for each in curves]


def test_runs_of_other_shots_are_shown_on_the_first_one_s_points(tmp_path):
    """Rejects a row with points of its own."""
    told = [folder(tmp_path / f"{k}", SMALL.with_changes({"shots": k})) for k in (4, 9)]
    _, figure, rows = drawn(*told)
    assert figure.get_suptitle().startswith("Sine, K = 4:")
    points = [lines_of(axes)["4 support points"] for axes in rows[:, 0]]
    np.testing.assert_array_equal(*points)
    assert [row[0].get_ylabel()[-5:] for row in rows] == ["K = 4", "K = 9"]


def test_every_line_is_told_apart_without_colour(trained):
    """Rejects lines that differ in colour only."""
    _, _, rows = drawn(trained[0])
    assert len({line.get_linestyle() for line in rows[0, 0].lines[2:]}) == 3


@pytest.mark.parametrize("alpha", [0.7, 5.0, 1e6])
def test_diverging_steps_do_not_hide_the_others(trained, tmp_path, alpha):
    """Rejects an axis that reaches as far as a net that diverges, and warnings."""
    path = begun(tmp_path / "run", iterations=0, alpha=alpha)
    _, figure, rows = drawn(path)
    figure.canvas.draw()
    low, high = rows[0, 0].get_ylim()
    assert -fits.LIMIT <= low < -1 < 1 < high <= fits.LIMIT
