"""Sine tasks: the formula, the ranges and the distributions (section 5.1 of the paper)."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymaml.data import sine
from tinymaml.data.sine import Curve
from tinymaml.fewshot import stream


SEEDS = st.integers(0, 2**64 - 1)


def streams_of(seed):
    return partial(stream, seed, "train", 0)


def test_curve_is_the_published_formula():
    """Rejects sin(x + phase), a cosine, and degrees: A sin(x - phase) by hand."""
    assert Curve(2.0, 0.5)(0.5 + np.pi / 2) == pytest.approx(2, abs=1e-15)
    assert Curve(2.0, 0.5)(0.5) == 0
    assert Curve(3.0, np.pi / 2)(0.0) == pytest.approx(-3, abs=1e-15)
    assert Curve(1.0, 0.0)(np.pi / 6) == pytest.approx(0.5, abs=1e-15)


@given(st.floats(0, np.pi), st.integers(0, 2**32 - 1))
def test_zero_amplitude_is_zero(phase, seed):
    """Rejects an offset added to the curve."""
    assert (Curve(0.0, phase)(np.random.default_rng(seed).uniform(-5, 5, 20)) == 0).all()


TASKS = st.builds(lambda start, n: range(start, start + n), *[st.integers(1, 9)] * 2)


@given(SEEDS, TASKS, st.integers(1, 20), st.integers(1, 20))
def test_points_lie_on_the_curve_of_their_task(seed, tasks, shots, queries):
    """Rejects noise, one curve for the support and another for the query, wrong ranges.

    Exactly equal in float64: the same operations on the same numbers.
    """
    amplitude, phase = sine.draw_curves(streams_of(seed), tasks)
    assert amplitude.shape == phase.shape == (len(tasks), 1, 1)
    assert ((amplitude >= 0.1) & (amplitude <= 5)).all()
    assert ((phase >= 0) & (phase <= np.pi)).all()
    episode = sine.sample(streams_of(seed), tasks, shots, queries, "float64")
    for x, y, count in (
        (episode.x_support, episode.y_support, shots),
        (episode.x_query, episode.y_query, queries),
    ):
        assert x.shape == y.shape == (len(tasks), count, 1)
        assert (np.abs(x) <= 5).all()
        np.testing.assert_array_equal(y, amplitude * np.sin(x - phase), strict=True)
    # Disjoint, between tasks too: continuous draws never agree.
    every = np.concatenate([episode.x_support, episode.x_query], axis=1)
    assert len(np.unique(every)) == every.size


@given(SEEDS, TASKS, st.integers(1, 20), st.integers(1, 20))
def test_curves_do_not_depend_on_the_number_of_points(seed, tasks, shots, queries):
    """Rejects curves and points in one stream: 5, 10 and 20 shots would be evaluated
    on different curves."""
    curves = sine.draw_curves(streams_of(seed), tasks)
    episode = sine.sample(streams_of(seed), tasks, shots, queries, "float64")
    np.testing.assert_array_equal(episode.y_support, curves(episode.x_support))
    other = sine.sample(streams_of(seed), tasks, shots + 3, queries + 1, "float64")
    np.testing.assert_array_equal(other.y_query, curves(other.x_query))


@given(SEEDS, TASKS)
def test_single_precision_is_the_double_rounded(seed, tasks):
    """Rejects a draw that depends on the precision, or a result of another dtype."""
    single = sine.sample(streams_of(seed), tasks, 10, 5, "float32")
    double = sine.sample(streams_of(seed), tasks, 10, 5, "float64")
    for a, b in zip(single, double, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b.astype(np.float32))


@given(SEEDS, TASKS, st.sampled_from(["float32", "float64"]))
def test_the_oracle_has_amplitude_and_phase_as_inputs(seed, tasks, dtype):
    """Rejects another curve's amplitude and phase, their swapped order, other points than
    other algorithms have, and the answer itself among the inputs."""
    plain = sine.sample(streams_of(seed), tasks, 10, 5, dtype)
    shown = sine.show_task(plain, streams_of(seed), tasks)
    curves = np.array(sine.draw_curves(streams_of(seed), tasks), dtype)[..., 0, 0]
    pairs = plain[::2], plain[1::2], shown[::2], shown[1::2]
    for x, y, x_shown, y_shown in zip(*pairs, strict=True):
        np.testing.assert_array_equal(y_shown, y)
        expected = [
            [[value, *curve] for value in row[:, 0]]
            for row, curve in zip(x, curves.T, strict=True)
        ]
        np.testing.assert_array_equal(x_shown, np.array(expected, dtype), strict=True)
        amplitude, phase = x_shown[..., 1:2], x_shown[..., 2:3]
        np.testing.assert_allclose(amplitude * np.sin(x - phase), y, atol=1e-5)


# ----- Reptile's demo -----


@given(SEEDS, TASKS, st.integers(1, 50), st.sampled_from([*sine.PHASES]))
def test_grid_points_are_of_the_grid(seed, tasks, shots, phases):
    """Rejects a support point that occurs twice, points off the grid, query points that are
    not the whole grid, other curves than without a grid, and points that depend on the
    other tasks or on the number of shots."""
    streams = streams_of(seed)
    episode = sine.sample_grid(streams, tasks, shots, "float64", phases)
    n = len(tasks)
    assert episode.x_support.shape == episode.y_support.shape == (n, shots, 1)
    np.testing.assert_allclose(np.diff(sine.GRID), 10 / 49, rtol=1e-12)
    for x in episode.x_support[..., 0]:
        assert len({*x} & {*sine.GRID}) == shots
    for x in episode.x_query[..., 0]:
        np.testing.assert_array_equal(x, np.linspace(-5, 5, 50))
    curves = sine.draw_curves(streams, tasks, phases)
    for x, y in (episode[:2], episode[2:]):
        np.testing.assert_array_equal(y, curves(x), strict=True)
    last = sine.sample_grid(streams, tasks[-1:], 50, "float64", phases)
    for one, both in zip(last, episode, strict=True):
        np.testing.assert_array_equal(one[0, : both.shape[1]], both[-1])


@given(SEEDS, TASKS)
def test_full_phases_are_twice_the_half_ones(seed, tasks):
    """Rejects phases of another range, and amplitudes that depend on it."""
    half, full = (sine.draw_curves(streams_of(seed), tasks, x) for x in sine.PHASES)
    np.testing.assert_array_equal(full.amplitude, half.amplitude)
    np.testing.assert_array_equal(full.phase, 2 * half.phase)
    episode = sine.sample(streams_of(seed), tasks, 3, 2, "float64", "full")
    np.testing.assert_array_equal(episode.y_query, full(episode.x_query))
    shown = sine.show_task(episode, streams_of(seed), tasks, "full")
    np.testing.assert_array_equal(shown.x_query[:, 0, 2], full.phase[:, 0, 0])


def ks_distance(values, low, high):
    """Kolmogorov's distance of values from the uniform distribution on [low, high]."""
    ranks = np.sort((np.asarray(values) - low) / (high - low))
    n = len(ranks)
    steps = np.arange(n + 1) / n
    return max(np.max(steps[1:] - ranks), np.max(ranks - steps[:-1]))


def test_amplitudes_phases_and_inputs_are_uniform():
    """Rejects amplitudes up to 0.5, phases up to 2 pi, inputs from a normal, and one
    amplitude or phase for all tasks.

    Bound: 1.95 / sqrt(n), the 99.9 % point of Kolmogorov's distance; the seed is fixed.
    """
    n = 2000
    amplitude, phase = np.reshape(sine.draw_curves(streams_of(0), range(n)), (2, n))
    x = np.ravel(sine.sample(streams_of(0), range(n), 1, 1, "float64")[::2])
    assert ks_distance(amplitude, 0.1, 5.0) < 1.95 / np.sqrt(n)
    assert ks_distance(phase, 0, np.pi) < 1.95 / np.sqrt(n)
    grid = sine.sample_grid(streams_of(0), range(n), 1, "float64").x_support
    counts = np.unique(grid, return_counts=True)[1]
    # Each point 40 times on average, with a standard deviation of 6.3.
    assert len(counts) == len(sine.GRID)
    assert np.abs(counts - 40).max() < 5 * 6.3
    assert ks_distance(x, -5, 5) < 1.95 / np.sqrt(2 * n)
    # Independent: a correlation of n pairs has standard deviation 1 / sqrt(n).
    told = np.corrcoef([amplitude, phase, *x.reshape(2, n)])
    assert np.abs(told - np.eye(4)).max() < 5 / np.sqrt(n)


def test_a_grid_has_no_more_points_than_it_has():
    """Rejects fewer shots than were asked for."""
    with pytest.raises(ValueError, match="51 shots asked for, the grid has 50"):
        sine.sample_grid(partial(stream, 0, "train", 0), range(1), 51)


WRONG = {
    "no tasks": lambda s: sine.sample(s, range(0), 5, 5),
    "every second task": lambda s: sine.sample(s, range(0, 4, 2), 5, 5),
    "tasks before 0": lambda s: sine.sample(s, range(-3, 2), 5, 5),
    "no curves": lambda s: sine.draw_curves(s, range(0)),
    "no shots": lambda s: sine.sample(s, range(2), 0, 5),
    "shots from the end": lambda s: sine.sample(s, range(2), -1, 5),
    "no queries": lambda s: sine.sample(s, range(2), 5, 0),
    "no points of the grid": lambda s: sine.sample_grid(s, range(2), -1),
    "phases": lambda s: sine.draw_curves(s, range(2), "quarter"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_task_is_refused(name):
    """Rejects empty arrays, tasks that were not asked for, and a KeyError."""
    with pytest.raises(ValueError, match=r"tasks must be|shots|phases are half or full"):
        WRONG[name](partial(stream, 0, "train", 0))


def test_points_are_floating_point():
    """Rejects curves, and amplitudes beside x, that are cut to whole numbers."""
    streams = partial(stream, 0, "train", 0)
    for draw in (partial(sine.sample, queries=2), sine.sample_grid):
        with pytest.raises(TypeError, match="floating point, not int32"):
            draw(streams, range(2), shots=2, dtype="int32")
    with pytest.raises(TypeError, match="floating-point arrays, not int64"):
        sine.with_parameters(sine.draw_curves(streams, range(2)), np.zeros((2, 5, 1), int))
