"""One figure of many numbers: its interval, and what is not finite in texts and JSON."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymaml import summary
from tinymaml.summary import finite, interval, lacking, lost, student, text


# Two-sided 95 % quantiles with 1, 2, ..., 30 degrees of freedom, as printed in tables.
TABLE = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


# ----- Student's t -----


def test_quantiles_are_those_of_tables():
    """Rejects the one-sided quantile, a row that is one off, and the normal one."""
    found = [student(freedom) for freedom in range(1, 31)]
    np.testing.assert_allclose(found, TABLE, rtol=0, atol=5.1e-4)
    for freedom, wanted in ((40, 2.021), (60, 2.000), (120, 1.980), (10**6, 1.960)):
        assert student(freedom) == pytest.approx(wanted, abs=5.1e-4)


def test_quantiles_of_closed_form():
    """Rejects three digits, or another share than 0.95."""
    assert student(1) == pytest.approx(math.tan(0.95 * math.pi / 2), rel=1e-13)
    assert student(2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-13)


@pytest.mark.parametrize("freedom", [3, 4, 9, 39, 599, 600])
def test_the_density_has_that_share_between_them(freedom):
    """Rejects the series of odd freedoms for even ones, and a term that is left out."""
    points, weights = np.polynomial.legendre.leggauss(200)
    half = student(freedom) / 2
    t = half * (points + 1)
    constant = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    density = np.exp(constant) * (1 + t**2 / freedom) ** (-(freedom + 1) / 2)
    share = 2 * half * weights @ density / math.sqrt(freedom * math.pi)
    assert share == pytest.approx(0.95, abs=1e-11)


@pytest.mark.parametrize("freedom", [0, -1])
def test_one_value_has_no_quantile(freedom):
    """Rejects a quantile of nothing."""
    with pytest.raises(ValueError, match=f"not {freedom}"):
        student(freedom)


# ----- The interval -----


def test_interval_is_that_of_a_hand_computation():
    """Rejects ddof = 0, a missing square root of n, and the normal quantile.

    Of 1, 2, 3, 4: variance 5/3, standard error sqrt(5/12), times 3.182.
    """
    mean, half = interval(np.array([[1.0, 2, 3, 4], [7, 7, 7, 7], [0, 0, 0, 1]]))
    np.testing.assert_array_equal(mean, [2.5, 7, 0.25])
    expected = np.array([math.sqrt(5 / 12), 0, 0.25])
    np.testing.assert_allclose(half, 3.1824463 * expected, rtol=1e-8)


@pytest.mark.parametrize("number", [2, 3, 10, 40, 600])
def test_interval_covers_the_mean_as_often_as_it_says(number):
    """Rejects 1.96 for few values: with two it covers 70 %, with ten 92 %.

    4000 samples: a share of 95 % has a standard deviation of 0.35 %, bound 4.
    """
    values = np.random.default_rng(0).standard_normal((4000, number))
    mean, half = interval(values)
    assert np.mean(np.abs(mean) < half) == pytest.approx(0.95, abs=0.014)


def test_interval_of_single_precision_is_computed_in_double():
    """Rejects sums in float32, in which the square of 1e20 is infinite."""
    mean, half = interval(np.array([[0, 1e20, 2e20]], np.float32))
    assert mean == pytest.approx([1e20], rel=1e-6)
    assert half == pytest.approx([4.3026527e20 / np.sqrt(3)], rel=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_leaves_no_mean(value):
    """Rejects a mean over the finite rest, and a warning: warnings are errors here."""
    mean, half = interval(np.array([[1.0, value, 3.0], [1.0, 2.0, 3.0]]))
    assert np.isfinite(mean).tolist() == np.isfinite(half).tolist() == [False, True]


def test_one_value_has_a_mean_and_no_interval():
    """Rejects a division by zero, and a width of 0 for what nobody knows."""
    mean, half = interval(np.array([[4.0]]))
    assert mean.tolist() == [4]
    assert np.isnan(half).tolist() == [True]


# ----- What is not finite -----


def test_what_is_lost_is_counted():
    """Rejects nan alone, or infinity alone, and a count over the wrong axis."""
    values = np.array([[1.0, np.nan, np.inf, -np.inf], [0, 1, 2, np.nan], [0, 1, 2, 3]])
    assert lost(values).tolist() == [3, 1, 0]
    assert [lacking(row) for row in values] == [
        "not finite in 3 of 4",
        "not finite in 1 of 4",
        "",
    ]
    assert lacking(values) == "not finite in 4 of 12"


def test_numbers_are_shown_whole_or_not_at_all():
    """Rejects "nan", and a mean beside an interval that is not finite."""
    assert text("{:.1f} +- {:.1f} %", 1, 2) == "1.0 +- 2.0 %"
    for numbers in ((np.nan, 2), (1, np.inf)):
        assert text("{:.1f} +- {:.1f} %", *numbers) == "not finite"


NUMBERS = st.floats() | st.integers() | st.booleans() | st.none() | st.text()
TREES = st.recursive(
    NUMBERS, lambda x: st.lists(x) | st.dictionaries(st.text(), x) | st.tuples(x, x)
)


@given(TREES)
def test_json_is_json(tree):
    """Rejects NaN and Infinity, at any depth, and other changes."""
    read = json.loads(summary.as_json(tree), parse_constant=pytest.fail)
    assert read == json.loads(json.dumps(tree), parse_constant=lambda _: None)


def test_json_of_numpy():
    """Rejects a TypeError for NumPy's numbers, and arrays whose nan stays."""
    tree = {"a": np.array([1.5, np.nan]), "b": np.float32("inf"), "c": np.int64(3)}
    assert finite(tree) == {"a": [1.5, None], "b": None, "c": 3}
