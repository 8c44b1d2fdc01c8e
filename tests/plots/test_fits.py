"""Fits of sine curves: the tasks, the nets and the steps that are drawn."""

import numpy as np
import pytest
from matplotlib.text import Text

from folders import evaluated, folder, judged_of, lines_of, notes_of
from tinymaml.data.sine import INPUTS
from tinymaml.experiments import problem
from tinymaml.experiments.sine import Sine
from tinymaml.harness import evaluation, loop, runs
from tinymaml.harness.evaluation import tuned
from tinymaml.plots import fits, groups
from tinymaml.speed.workers import Here


SMALL = Sine(
    iterations=40,
    hidden=(8,),
    tasks=2,
    alpha=0.05,
    beta=0.1,
    dtype="float64",
    validation_tasks=9,
    test_tasks=5,
)
NETS = {
    "maml": {},
    "oracle": {"algorithm": "oracle"},
    "averaged": {"algorithm": "averaged", "regressors": 3, "points": 9},
}
NAMES = ("MAML, 2 inner steps", "oracle", "averaged regressors")
LABELS = {0: "before", 1: "after 1 step", 10: "after 10 steps"}


def begun(path, **changes):
    """The folder of a short run."""
    config = SMALL.with_changes(changes)
    path.mkdir()
    runs.write_config(path, config, {})
    loop.train(path, config, Here(), lambda *_: None)
    return evaluated(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folders of short runs of several algorithms."""
    folder = tmp_path_factory.mktemp("runs")
    return [begun(folder / name, **changes) for name, changes in NETS.items()]


def drawn(*folders, task=0):
    """What was read of the runs, and the axes, a row a run."""
    found = groups.read(folders)
    judged = judged_of(found)
    figure = fits.draw(found, judged, task)
    return judged, figure, np.reshape(figure.axes, (len(folders), 2))


def named_by(row):
    """The text that names a row: the only one that is long."""
    texts = [text for axes in row for text in axes.findobj(Text)]
    return max(texts, key=lambda text: len(text.get_text()))


def names_of(rows):
    return [named_by(row).get_text() for row in rows]


def test_a_row_a_run_on_the_same_tasks(trained):
    """Rejects panels of different tasks, rows under each other's name, axes without one,
    and steps in another order than their names."""
    _, figure, rows = drawn(*trained)
    assert names_of(rows) == [*NAMES]
    assert [row[0].get_ylabel() for row in rows] == ["y"] * len(rows)
    assert [axes.get_xlabel() for axes in rows[-1]] == ["x", "x"]
    assert figure.get_suptitle().startswith("Sine, 10 shots:")
    wanted = ["truth", "support points", *LABELS.values()]
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
        trained = one.config.restored(one.config.values() | {"alpha": 0.05})
        config = tuned(trained, one.theta, 10, Here())
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
        points, truth = (lines_of(axes)[name] for name in ("support points", "truth"))
        assert len(points) == 10
        # Between 200 points the interpolated sine is off by A h^2 / 8 < 5 * 0.05^2 / 8.
        shown = np.interp(points[:, 0], *truth.T)
        np.testing.assert_allclose(shown, points[:, 1], atol=2e-3)
    first, second = (lines_of(axes)["support points"][:, 0] for axes in row)
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
            episodes.x_support[1, :, 0], lines["support points"][:, 0]
        )
        np.testing.assert_array_equal(
            episodes.y_support[1, :, 0], lines["support points"][:, 1]
        )
        theta = groups.adapted(one, episodes, 2, 10)[10]
        fit = problem(one.config).model.apply(theta, episodes.x_support)[1, :, 0]
        shown = np.interp(episodes.x_support[1, :, 0], *lines["after 10 steps"].T)
        np.testing.assert_allclose(shown, fit, atol=0.05)
        if one.config.algorithm == "oracle":
            told = episodes.x_support[1, 0, 1:]
            assert told.tolist() == [each[1].item() for each in curves]


def test_runs_of_other_shots_adapt_to_as_many_points_as_their_names_tell(tmp_path):
    """Rejects a row with the points of the first, and a title that is true of it only."""
    told = [
        evaluated(folder(tmp_path / f"{k}", SMALL.with_changes({"shots": k})))
        for k in (4, 9)
    ]
    judged, figure, rows = drawn(*told)
    assert figure.get_suptitle().startswith("Sine:")
    assert [name[-7:] for name in names_of(rows)] == ["4 shots", "9 shots"]
    for (one,), row, shots in zip(judged, rows, (4, 9), strict=True):
        points = lines_of(row[0])["support points"]
        own = evaluation.held_out(one.config, "test", range(1))
        np.testing.assert_array_equal(points[:, 0], own.x_support[0, :, 0])
        assert len(points) == shots


def test_a_row_of_several_seeds_tells_that_it_is_the_first(tmp_path):
    """Rejects the name of all for the net of one."""
    for seed in (0, 1):
        config = SMALL.with_changes({"seed": seed})
        folder(tmp_path / f"many/seed-{seed}", config, means=[1.0])
    found = groups.read([tmp_path / "many"])
    figure = fits.draw(found, judged_of(found), 0)
    assert names_of([figure.axes]) == ["MAML, 2 inner steps, first of 2 seeds"]


def test_long_names_have_room(trained):
    """Rejects names that run into the next row or off the figure."""
    found = groups.read(trained)
    long = [found[0].label + n * ", an option 0.001" for n in (2, 4, 12)]
    judged = judged_of(found)
    named = [group._replace(label=x) for group, x in zip(found, long, strict=True)]
    figure = fits.draw(named, judged, 0)
    figure.draw_without_rendering()
    rows = np.reshape(figure.axes, (3, 2))
    boxes = [named_by(row).get_window_extent() for row in rows]
    for box, (axes, _) in zip(boxes, rows, strict=True):
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert axes.bbox.y1 <= box.y0 < box.y1 <= figure.bbox.y1
    for above, box in zip(rows[:-1, 0], boxes[1:], strict=True):
        assert box.y1 < above.bbox.y0
    assert [" ".join(name.split()) for name in names_of(rows)] == long


def test_every_line_is_told_apart_without_colour(trained):
    """Rejects lines that differ in colour only."""
    _, _, rows = drawn(trained[0])
    assert len({line.get_linestyle() for line in rows[0, 0].lines[2:]}) == 3


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_net_that_is_not_finite_is_named(
    trained, tmp_path, monkeypatch, value, activation
):
    """Rejects a line in the legend that has no curve, without a word; and the curve of a
    net that infinite weights only saturate."""
    adapted = fits.adapted

    def spoiled(one, *args):
        thetas = adapted(one, *args)
        if one.config.iterations == 0:
            thetas[10][1, :8] = value
        return thetas

    monkeypatch.setattr(fits, "adapted", spoiled)
    path = begun(tmp_path / "run", iterations=0, activation=activation)
    _, _, rows = drawn(path, trained[0])
    notes = [[notes_of(axes) for axes in row] for row in rows]
    assert notes == [[[], ["not finite:\nafter 10 steps"]], [[], []]]
    lines = lines_of(rows[0][1])
    lost = [name for name in LABELS.values() if np.isnan(lines[name][:, 1]).all()]
    assert lost == ["after 10 steps"]


@pytest.mark.parametrize("alpha", [0.7, 5.0, 1e6])
def test_diverging_steps_do_not_hide_the_others(trained, tmp_path, alpha):
    """Rejects an axis that reaches as far as a net that diverges, and warnings."""
    path = begun(tmp_path / "run", iterations=0, alpha=alpha)
    _, figure, rows = drawn(path)
    figure.draw_without_rendering()
    low, high = rows[0, 0].get_ylim()
    assert -6 <= low < -1 < 1 < high <= 6  # amplitudes are up to 5
