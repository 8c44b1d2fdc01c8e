"""What the benchmark of growth times is what training computes."""

import numpy as np
import pytest
import scaling

from tinymaml.harness import loop, step
from tinymaml.speed import workers


@pytest.mark.parametrize("name", scaling.ITERATIONS)
def test_the_bare_step_is_the_gradient_of_the_first_iteration(name):
    config = scaling.ITERATIONS[name]
    with workers.engine(1) as engine:
        _, expected = step.average_gradient(config, loop.initial_state(config), engine)
    np.testing.assert_array_equal(scaling.bare_step(config)(), expected)
