"""The picture of feature reuse: its lines are the figures."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from folders import notes_of
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.harness.reuse import HEAD_STEPS, Reuse
from tinymaml.plots.reuse import picture


LAYERS = ("conv0", "conv1", "head")
ROWS = {
    "accuracy": ("before", "after"),
    "frozen": LAYERS[:-1],
    "NIL": ("before", "after"),
    "head step": [str(factor) for factor in HEAD_STEPS],
    "change": LAYERS,
    "CKA": LAYERS,
}


def made(seed):
    """Return random figures of three tasks."""
    rng = np.random.default_rng(seed)
    found = {(group, row): rng.random(3) for group, rows in ROWS.items() for row in rows}
    return Reuse(Glyphs(), 1, "test", 10, "", LAYERS, found)


def test_lines_are_the_means_of_the_figures():
    """Rejects lines of the other net, in another panel, or accuracies not in per cent."""
    one, other = made(0), made(1)
    frozen, head, change, cka = picture({"run": (one, other)}).axes
    for number, net in enumerate((one, other)):
        mean = {key: values.mean() for key, values in net.figures.items()}
        expected = [mean["accuracy", "after"], *(mean["frozen", k] for k in LAYERS[:-1])]
        assert_allclose(lines(frozen)[number], 100 * np.array(expected))
        expected = [100 * mean["head step", k] for k in ROWS["head step"]]
        assert_allclose(lines(head)[number], expected)
        for axes, group in ((change, "change"), (cka, "CKA")):
            assert_allclose(lines(axes)[number], [mean[group, k] for k in LAYERS])
        stars = [line.get_ydata()[0] for line in frozen.lines if line.get_marker() == "*"]
        assert stars[number] == pytest.approx(100 * mean["NIL", "before"])


def lines(axes):
    """Return the heights of the lines, without stars and the ends of bars."""
    return [line.get_ydata() for line in axes.lines if line.get_linestyle() != "None"]


def test_figures_that_are_not_finite_are_left_out_and_named(tmp_path):
    """Rejects a failure on a figure that no task has, a mean over the other tasks, a point
    at infinity, and a gap without a word."""
    one, other = made(0), made(1)
    one.figures["CKA", "conv1"][:] = np.nan
    one.figures["frozen", "conv1"][1] = np.inf
    other.figures["NIL", "before"][2] = np.nan
    figure = picture({"run": (one, other)})
    figure.savefig(tmp_path / "x.png")
    frozen, head, change, cka = figure.axes
    assert np.isnan(lines(cka)[0]).tolist() == [False, True, False]
    assert np.isnan(lines(frozen)[0]).tolist() == [False, False, True]
    assert notes_of(frozen) == ["not finite:\nrun, conv1\nrun, untrained, NIL"]
    assert notes_of(cka) == ["not finite:\nrun, conv1"]
    assert notes_of(head) == notes_of(change) == []
