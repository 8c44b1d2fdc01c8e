"""Sine tasks: the formula, the ranges and the distributions (section 5.1 of the paper)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymaml.data import sine
from tinymaml.data.sine import Curve


SEEDS = st.integers(0, 2**64 - 1)


def rng_of(seed):
    return np.random.default_rng(seed)


def test_curve_is_the_published_formula():
    """Rejects sin(x + phase), a cosine, and degrees: A sin(x - phase) by hand."""
    assert Curve(2.0, 0.5)(0.5 + np.pi / 2) == pytest.approx(2, abs=1e-15)
    assert Curve(2.0, 0.5)(0.5) == 0
    assert Curve(3.0, np.pi / 2)(0.0) == pytest.approx(-3, abs=1e-15)
    assert Curve(1.0, 0.0)(np.pi / 6) == pytest.approx(0.5, abs=1e-15)


@given(st.floats(0, np.pi), st.integers(0, 2**32 - 1))
def test_zero_amplitude_is_zero(phase, seed):
    """Rejects an offset added to the curve."""
    assert (Curve(0.0, phase)(rng_of(seed).uniform(-5, 5, 20)) == 0).all()


@given(SEEDS, st.integers(1, 20), st.integers(1, 20))
def test_points_lie_on_the_curve_of_the_stream(seed, shots, queries):
    """Rejects noise, one curve for the support and another for the query, wrong ranges.

    Exactly equal in float64: the same operations on the same numbers.
    """
    curve = sine.draw_curve(rng_of(seed))
    assert 0.1 <= curve.amplitude <= 5
    assert 0 <= curve.phase <= np.pi
    episode = sine.sample(rng_of(seed), shots, queries, "float64")
    for x, y, count in (
        (episode.x_support, episode.y_support, shots),
        (episode.x_query, episode.y_query, queries),
    ):
        assert x.shape == y.shape == (count, 1)
        assert (np.abs(x) <= 5).all()
        np.testing.assert_array_equal(
            y, curve.amplitude * np.sin(x - curve.phase), strict=True
        )
    # Disjoint: continuous draws never agree.
    assert not np.isin(episode.x_support, episode.x_query).any()


@given(SEEDS)
def test_single_precision_is_the_double_rounded(seed):
    """Rejects a draw that depends on the precision, or a result of another dtype."""
    single = sine.sample(rng_of(seed), 10, 5, "float32")
    double = sine.sample(rng_of(seed), 10, 5, "float64")
    for a, b in zip(single, double, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b.astype(np.float32))


@given(SEEDS, st.sampled_from(["float32", "float64"]))
def test_the_oracle_is_told_amplitude_and_phase(seed, dtype):
    """Rejects another curve's amplitude and phase, their order, other points than the
    others have, and the answer itself among the inputs."""
    plain = sine.sample(rng_of(seed), 10, 5, dtype)
    told = sine.sample_told(rng_of(seed), 10, 5, dtype)
    curve = sine.draw_curve(rng_of(seed))
    pairs = plain[::2], plain[1::2], told[::2], told[1::2]
    for x, y, x_told, y_told in zip(*pairs, strict=True):
        np.testing.assert_array_equal(y_told, y)
        expected = [[value, *np.array(curve, dtype)] for value in x[:, 0]]
        np.testing.assert_array_equal(x_told, np.array(expected, dtype), strict=True)
        amplitude, phase = x_told[:, 1:2], x_told[:, 2:3]
        np.testing.assert_allclose(amplitude * np.sin(x - phase), y, atol=1e-5)


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
    n, rng = 2000, rng_of(0)
    curves = [sine.draw_curve(rng) for _ in range(n)]
    x = np.concatenate([sine.sample(rng, 1, 1, "float64").x_query for _ in range(n)])
    bound = 1.95 / np.sqrt(n)
    assert ks_distance([curve.amplitude for curve in curves], 0.1, 5.0) < bound
    assert ks_distance([curve.phase for curve in curves], 0, np.pi) < bound
    assert ks_distance(x[:, 0], -5, 5) < bound
    amplitude, phase = np.transpose(curves)
    # Independent: the correlation of n pairs has standard deviation 1 / sqrt(n).
    assert abs(np.corrcoef(amplitude, phase)[0, 1]) < 5 / np.sqrt(n)
