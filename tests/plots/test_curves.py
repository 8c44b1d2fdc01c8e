"""Curves: the numbers of their lines and bands, by hand, and what they are called."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from folders import HALF, bands_of, folder, judged_of, legend_of, lines_of, notes_of
from tinymaml import losses
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.pointnav import PointNav
from tinymaml.experiments.sine import Sine
from tinymaml.plots import curves, figures, groups
from tinymaml.plots.curves import SPAN, smoothed, validations
from tinymaml.report.tables import Evaluation


SMALL = Sine(hidden=(3,), dtype="float64", inner_steps=1)


def records(values, **more):
    return [{"iteration": i, "loss": x, **more} for i, x in enumerate(values, 1)]


def ones(length, first=()):
    """The records of a run whose loss is one; the first of them are given."""
    return [*first, *records(np.ones(length))[len(first) :]]


def stepped(*folders):
    """The figure of the score after each step."""
    found = groups.read(folders)
    return curves.steps(found, judged_of(found))


# ----- Learning -----


def test_a_span_has_its_mean_and_the_interval_of_its_mean_by_hand():
    """Rejects a band of one standard error, of a standard deviation, and one without
    Bessel's correction; iterations that are left out or counted in two spans.

    Twenty iterations are two spans. 1, 3, 1, 3, ... has a mean of 2 and a variance of
    10 / 9, so a standard error of 1 / 3. Nine degrees of freedom: 2.262.
    """
    line = smoothed([records([1.0, 3.0] * 5 + [7.0] * 10)], "loss")
    assert line.x.tolist() == [5.5, 15.5]
    assert line.mean.tolist() == [2, 7]
    assert line.half == pytest.approx([2.2621572 / 3, 0])


def test_seeds_have_students_interval_of_their_means_by_hand():
    """Rejects iterations that count as if they were seeds, and 1.96 for two runs.

    Means 2 and 4: standard error 1, one degree of freedom, so 12.706. The longer run
    counts as far as the other goes.
    """
    runs = [records([1.0, 3.0] * 5), records([4.0] * 10 + [9.0] * 7)]
    line = smoothed(runs, "loss")
    assert (line.x.tolist(), line.mean.tolist()) == ([5.5], [3])
    assert line.half == pytest.approx([12.7062047])


@pytest.mark.parametrize(("length", "points"), [(1, 1), (9, 1), (57, 5), (5000, 100)])
def test_every_iteration_is_in_one_point(length, points):
    """Rejects a last, shorter span that is lost, points of too few iterations, and
    NumPy's warning where one iteration has no interval."""
    values = np.random.default_rng(0).uniform(size=length)
    line = smoothed([records(values)], "loss")
    assert len(line.x) == points
    sizes = np.array([len(span) for span in np.array_split(values, points)])
    assert sizes @ line.mean == pytest.approx(values.sum())
    assert length < SPAN or sizes.min() >= SPAN
    assert np.isnan(line.half).all() == (length == 1)


def test_validations_are_drawn_with_their_own_interval():
    """Rejects an accuracy as a share, a validation between two iterations, and a run of
    an earlier version, without intervals, that cannot be drawn."""
    told = records(np.ones(4))
    told[1] |= {"validation": 0.5, "validation_half_width_95": 0.1}
    told[3] |= {"validation": 0.75}
    line = validations([told], losses.ACCURACY)
    assert (line.x.tolist(), line.mean.tolist()) == ([2, 4], [50, 75])
    assert line.half[0] == 10
    assert np.isnan(line.half[1])
    other = records(np.ones(2))
    other[1] |= {"validation": 0.7, "validation_half_width_95": 0.1}
    both = validations([told, other], losses.MSE)
    assert (both.x.tolist(), both.mean.tolist()) == ([2], [0.6])
    assert both.half == pytest.approx([1.27062047])


def test_seeds_are_averaged_iteration_by_iteration(tmp_path, capsys):
    """Rejects the mean of one seed's iteration 21 and another's 31, after lines that are
    damaged or lost; and silence about them."""
    paths = [
        folder(tmp_path / f"{seed}", SMALL.with_changes({"seed": seed}), records(range(40)))
        for seed in (0, 1)
    ]
    file = paths[1] / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    lines[4] = lines[4].replace("loss", "lnss")
    file.write_text("".join([*lines[:20], *lines[30:]]))
    figure = curves.learning(groups.read(paths))
    [line] = lines_of(figure.axes[0]).values()
    assert line[:, 0] - line[:, 1] == pytest.approx(1)
    notes = capsys.readouterr().err.splitlines()
    assert [note.split(str(file))[1] for note in notes] == [
        "' is damaged: left out",
        "' lacks lines, or has too many: line 21 is of iteration 31",
    ]


def test_learning_of_one_run(tmp_path):
    """Rejects bands that are not the lines' own, a validation on the axis of the loss,
    and a torn last line that is read."""
    told = records(np.linspace(3, 2, 40))
    told[19] |= {"validation": 5.0, "validation_half_width_95": 0.5}
    told[39] |= {"validation": 4.0, "validation_half_width_95": 0.25}
    path = folder(tmp_path / "a", SMALL, told)
    with open(path / "metrics.jsonl", "a") as file:
        file.write('{"iteration": 41, "lo')
    figure = curves.learning(groups.read([path]))
    left, right = figure.axes
    line = smoothed([told], "loss")
    name = "MAML, 1 inner step"
    np.testing.assert_array_equal(lines_of(left)[name], np.stack([line.x, line.mean], 1))
    low, high = line.mean - line.half, line.mean + line.half
    np.testing.assert_allclose(bands_of(left)[0], np.stack([line.x, low, high], 1))
    assert lines_of(right)[name].tolist() == [[20, 5], [40, 4]]
    assert bands_of(right)[0].tolist() == [[20, 4.5, 5.5], [40, 3.75, 4.25]]
    assert left.get_ylabel() == "loss on training tasks"
    assert right.get_ylabel() == "MSE on validation tasks"
    assert left.get_ylim()[0] == 0
    assert figure.get_suptitle() == "Sine, 10 shots"
    over = "bands: 95 % intervals over iterations (left), tasks (right)"
    assert legend_of(figure) == [over, name]


def test_learning_of_several_runs(tmp_path):
    """Rejects seeds as lines of their own, a run that is another line in the second
    panel, and a run without metrics that hides the others or has a line."""
    plain, told = records(np.ones(10)), records(np.ones(10))
    told[9] |= {"validation": 2.0, "validation_half_width_95": 0.5}
    paths = [
        folder(tmp_path / "random", SMALL.with_changes({"algorithm": "random"})),
        folder(tmp_path / "plain", SMALL.with_changes({"algorithm": "oracle"}), plain),
        folder(tmp_path / "many/seed-1", SMALL.with_changes({"seed": 1}), told),
        folder(tmp_path / "many/seed-2", SMALL.with_changes({"seed": 2}), told),
    ]
    figure = curves.learning(groups.read([*paths[:2], tmp_path / "many"]))
    left, right = figure.axes
    assert [*lines_of(left)] == ["oracle", "MAML, 1 inner step, 2 seeds"]
    assert [*lines_of(right)] == ["MAML, 1 inner step, 2 seeds"]
    for look in ("get_color", "get_linestyle"):
        seen = [getattr(line, look)() for line in (*left.lines, *right.lines)]
        assert seen[0] != seen[1] == seen[2]
    assert legend_of(figure)[0].endswith("iterations (left), tasks (right), or over seeds")
    assert curves.learning(groups.read(paths[:1])) is None


def test_returns_are_learned_before_and_after(tmp_path):
    """Rejects the loss of a policy for its return, and two lines that are mixed up."""
    told = [
        {"iteration": i, "loss": 0.0, "return_after": -3.0, "return_before": -40.0}
        for i in range(1, 11)
    ]
    config = PointNav(hidden=(3,))
    one = folder(tmp_path / "a", config, told)
    (axes,) = curves.learning(groups.read([one])).axes
    name = "MAML, 1 inner step"
    seen = {label: line[0, 1] for label, line in lines_of(axes).items()}
    assert seen == {name: -3, f"{name}, before adaptation": -40}
    assert axes.get_ylabel() == "return on training tasks"
    two = folder(tmp_path / "b", config.with_changes({"algorithm": "pretrained"}), told)
    (axes,) = curves.learning(groups.read([one, two])).axes
    assert [*lines_of(axes)] == [name, "pretrained"]


@pytest.mark.parametrize("length", [1, 10, 19])
def test_a_short_run_has_a_curve(tmp_path, length):
    """Rejects one point without a marker, which draws nothing."""
    figure = curves.learning(groups.read([folder(tmp_path / "a", SMALL, ones(length))]))
    for legend in figure.legends:  # which has the same colour
        legend.remove()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    seen = np.asarray(canvas.buffer_rgba())[..., :3]
    assert (seen == np.round(255 * np.array(to_rgb(figures.BLUE)))).all(axis=-1).sum() > 20


def test_all_validations_of_a_short_run_are_in_the_picture(tmp_path):
    """Rejects an axis that ends with the centre of the last span of iterations, or with
    the last validation before that centre."""
    told = ones(10)
    for record in told[4::5]:
        record |= {"validation": 2.0, "validation_half_width_95": 0.5}
    for name, some in {"late": told, "early": ones(100, told[:5])}.items():
        figure = curves.learning(groups.read([folder(tmp_path / name, SMALL, some)]))
        left, right = figure.axes
        points = np.concatenate([line.get_xdata() for line in (*left.lines, *right.lines)])
        for axes in (left, right):
            low, high = axes.get_xlim()
            assert low < points.min() < points.max() < high


@pytest.mark.parametrize("losses", [[np.nan] * 3, [np.inf, np.nan], [1.0, np.nan]])
def test_a_loss_that_is_no_number_is_not_drawn(tmp_path, losses):
    """Rejects a traceback for limits that are not finite."""
    (axes,) = curves.learning(
        groups.read([folder(tmp_path / "a", SMALL, records(losses))])
    ).axes
    axes.figure.draw_without_rendering()
    assert np.isfinite(axes.get_ylim()).all()


# ----- After each step -----


def test_steps_show_the_evaluation(tmp_path):
    """Rejects another number of steps, bands of another width, runs under each other's
    name, and an evaluation that is made again: none of these thetas has such errors."""
    paths = [
        folder(tmp_path / "a", SMALL, means=[3.0, 1.5, 0.75]),
        folder(
            tmp_path / "b",
            SMALL.with_changes({"algorithm": "pretrained"}),
            means=[4.0, 3.5],
        ),
    ]
    figure = stepped(*paths)
    (axes,) = figure.axes
    lines = lines_of(axes)
    assert lines["MAML, 1 inner step"].tolist() == [[0, 3], [1, 1.5], [2, 0.75]]
    assert lines["pretrained"].tolist() == [[0, 4], [1, 3.5]]
    assert bands_of(axes)[1].tolist() == [[0, 4 - HALF, 4 + HALF], [1, 3.25, 3.75]]
    assert (axes.get_title(), axes.get_yscale()) == ("Sine, 10 shots", "linear")
    assert axes.get_ylabel() == "MSE on held-out tasks"
    assert legend_of(figure)[0] == "bands: 95 % intervals over 600 tasks"


def test_errors_far_apart_have_a_logarithmic_axis(tmp_path):
    """Rejects an axis on which the better runs lie on zero, one that a band below zero or
    a run that diverged stretches, and a gap that is drawn as a number."""
    found = stepped(folder(tmp_path / "a", SMALL, means=[4.0, 0.1, None, 0.2]))
    (axes,) = found.axes
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    assert 0.01 < low < 0.1 < 4 < high < 40
    line = lines_of(axes)["MAML, 1 inner step"]
    assert np.isnan(line[:, 1]).tolist() == [False, False, True, False]
    assert notes_of(axes) == ["not finite:\nMAML, 1 inner step, 1 of 4 points"]


def test_a_seed_that_diverges_leaves_its_group_no_mean(tmp_path):
    """Rejects the mean of the other seed, a point at infinity, and a gap without a word."""
    config = SMALL.with_changes({"seed": 1})
    folder(tmp_path / "many/seed-0", SMALL, means=[2.0, 2.0])
    folder(tmp_path / "many/seed-1", config, means=[4.0, None])
    plain = SMALL.with_changes({"algorithm": "pretrained"})
    (axes,) = stepped(tmp_path / "many", folder(tmp_path / "b", plain, means=[3.0])).axes
    line = lines_of(axes)["MAML, 1 inner step, 2 seeds"]
    assert np.isfinite(line[:, 1]).tolist() == [True, False]
    assert notes_of(axes) == ["not finite:\nMAML, 1 inner step, 2 seeds, 1 of 2 points"]


def test_a_validation_that_is_not_finite_is_a_gap(tmp_path):
    """Rejects null that cannot be drawn, or is drawn as a number."""
    told = records(np.ones(20))
    told[9] |= {"validation": None, "validation_half_width_95": None}
    told[19] |= {"validation": 5.0, "validation_half_width_95": 0.5}
    path = folder(tmp_path / "a", SMALL, told)
    left, right = curves.learning(groups.read([path])).axes
    assert np.isnan(lines_of(right)["MAML, 1 inner step"][:, 1]).tolist() == [True, False]
    assert notes_of(right) == ["not finite:\nMAML, 1 inner step, 1 of 2 points"]
    assert notes_of(left) == []


def test_accuracy_is_in_per_cent_beside_chance():
    """Rejects shares, a logarithmic axis for them, and the chance of other ways."""
    found, judged = [], []
    for ways, mean in ((4, [0.02, 0.9]), (5, [0.2, 0.5])):
        config = Glyphs(ways=ways)
        found.append(groups.Group(f"{ways}", [groups.Run(Path(), config)]))
        half = np.full(2, HALF)
        evaluation = Evaluation(0, 0.4, np.array(mean), half, 600)
        judged.append([groups.Judged(config, np.zeros(1), evaluation)])
    (axes,) = curves.steps(found, judged).axes
    assert lines_of(axes)["4"].tolist() == [[0, 2], [1, 90]]
    assert bands_of(axes)[0][1].tolist() == [1, 65, 115]
    assert axes.get_yscale() == "linear"
    assert axes.get_ylabel() == "accuracy (%) on held-out tasks"
    told = {
        text.get_text(): line.get_ydata()[0]
        for text, line in zip(axes.texts, axes.lines[2:], strict=True)
    }
    assert told == {"chance, 4-way": 25, "chance, 5-way": 20}
    assert axes.get_title() == "Glyphs"


def test_returns_stand_between_their_anchors(tmp_path):
    """Rejects an axis that ends at zero, and anchors of another value."""
    config = PointNav(hidden=(3,))
    (axes,) = stepped(folder(tmp_path / "a", config, means=[-40.0, -10.0])).axes
    told = {
        text.get_text(): line.get_ydata()[0]
        for text, line in zip(axes.texts, axes.lines[1:], strict=True)
    }
    assert told == config.anchors
    assert len(told) == 2


def test_seeds_have_the_interval_over_seeds(tmp_path):
    """Rejects the interval over tasks, or its mean, for several runs: 3 +- 12.706."""
    config = SMALL.with_changes({"seed": 1})
    folder(tmp_path / "many/seed-0", SMALL, means=[2.0, 2.0])
    folder(tmp_path / "many/seed-1", config, means=[4.0, 2.0])
    figure = stepped(tmp_path / "many")
    (axes,) = figure.axes
    name = "MAML, 1 inner step, 2 seeds"
    assert lines_of(axes)[name].tolist() == [[0, 3], [1, 2]]
    np.testing.assert_allclose(bands_of(axes)[0][0], [0, 3 - 12.7062047, 3 + 12.7062047])
    assert legend_of(figure) == ["bands: 95 % intervals over seeds", name]


# ----- Readable -----


def test_lines_differ_in_more_than_colour():
    """Rejects two of a dozen lines that are alike in print, and two that are alike."""
    styles = [figures.style(number) for number in range(12)]
    printed = {(str(s["linestyle"]), s["marker"]) for s in styles}
    assert len(printed) == 12
    assert len({s["color"] for s in styles[:7]}) == 7
    everything = {tuple(map(str, figures.style(n).values())) for n in range(105)}
    assert len(everything) == 105


def test_lines_of_learning_are_told_apart_without_colour(tmp_path):
    """Rejects lines without the marker that sets the sixth apart from the first, and
    so many markers that no dash is seen between them."""
    names = ("maml", "fomaml", "pretrained", "oracle", "averaged", "averaged-l2")
    told = records(np.ones(1000))
    paths = [
        folder(tmp_path / name, SMALL.with_changes({"algorithm": name}), told)
        for name in names
    ]
    figure = curves.learning(groups.read(paths))
    lines = figure.axes[0].lines
    printed = {(str(figures.DASHES[i % 5]), x.get_marker()) for i, x in enumerate(lines)}
    assert len(printed) == len(names)
    for line in lines:
        assert line.get_marker() in figures.MARKERS
        assert 3 <= len(line.get_xdata()[:: line.get_markevery()]) <= 20


def test_a_legend_shows_the_dots_of_a_dash_dotted_line(tmp_path):
    """Rejects handles so short that the marker hides the only dot.

    Dashes are 6.4, gaps 1.6 and dots 1 line widths of 1.8 points long.
    """
    names = ("maml", "fomaml", "pretrained")
    changed = [SMALL.with_changes({"algorithm": name}) for name in names]
    figure = stepped(*(folder(tmp_path / c.algorithm, c, means=[1.0]) for c in changed))
    handle = figure.legends[0].get_lines()[-1]
    assert figures.DASHES[2] == "-."
    length = np.ptp(handle.get_xdata())
    dots = np.arange(8.5 * 1.8, length - 0.9, 10.6 * 1.8)  # their centres
    assert (np.abs(dots - length / 2) > handle.get_markersize() / 2 + 0.9).any()


@pytest.mark.parametrize("decades", [1.5, 2.5, 3.5, 5, 7, 10, 40, 300])
def test_a_logarithmic_axis_has_labels_that_do_not_touch(tmp_path, decades):
    """Rejects labels at 1, 2 and 5 of so many decades that they collide, or are left
    out by the locator altogether."""
    losses = np.repeat(10.0 ** np.linspace(0, -decades, 10), SPAN)
    path = folder(tmp_path / "a", SMALL, records(losses))
    figure = curves.learning(groups.read([path]))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    boxes = [
        label.get_window_extent()
        for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        if low <= place <= high
    ]
    assert 3 <= len(boxes) <= 15
    for below, above in pairwise(sorted(boxes, key=lambda box: box.y0)):
        assert below.y1 < above.y0


@pytest.mark.parametrize("label", [None, "MAML, " + 12 * "an option 0.001, " + "end"])
def test_long_names_stay_within_the_figure(tmp_path, label):
    """Rejects a legend that is cut at the edges: as many columns as there is room for,
    and as many lines."""
    algorithms = ("maml", "fomaml", "pretrained", "random", "oracle", "averaged-mean")
    found = groups.read(
        [
            folder(
                tmp_path / name, SMALL.with_changes({"algorithm": name}), means=[1.0, 1.0]
            )
            for name in algorithms
        ]
    )
    found[0] = found[0]._replace(label=label or found[0].label)
    figure = curves.steps(found, judged_of(found))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
