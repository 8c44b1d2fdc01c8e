"""Differences of functions that leave the finite numbers near the point."""

import numpy as np
import pytest

from tinymaml.check.differences import remainder_rate


@pytest.mark.parametrize("beyond", [np.inf, -np.inf])
def test_a_rate_is_that_of_the_finite_remainders(beyond):
    """Rejects a rate of the largest steps, at which the function is not finite."""
    at, way = np.ones(1), np.ones(1)
    function = lambda x: float(x[0] ** 2) if abs(x[0] - 1) < 1e-4 else beyond  # noqa: E731
    rate = remainder_rate(function, at, way, 2.0)
    assert rate == pytest.approx(2, abs=0.1)
    assert np.isnan(remainder_rate(lambda x: 1.0 if x[0] == 1 else beyond, at, way, 0.0))
