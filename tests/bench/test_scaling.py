"""The benchmark of growth times what training computes, and its slopes are right."""

import dataclasses

import iteration
import numpy as np
import pytest
import scaling

from tinymaml.experiments.sine import Sine
from tinymaml.harness import loop, step
from tinymaml.speed import workers


@pytest.mark.parametrize("name", iteration.ITERATIONS)
def test_the_bare_step_is_the_gradient_of_the_first_iteration(name):
    """Rejects a bare step of other tasks, another order of summation, another theta."""
    config = iteration.ITERATIONS[name]
    with workers.engine(1) as engine:
        _, expected = step.average_gradient(config, loop.initial_state(config), engine)
    np.testing.assert_array_equal(iteration.bare_step(config)(), expected)


def test_every_part_of_an_iteration_is_timed(monkeypatch):
    """Rejects a part that is timed nowhere, one that is counted in every iteration though
    it is rare, and functions that stay watched."""
    drawn = step.drawn
    monkeypatch.setattr(iteration, "FEWEST", 3)
    monkeypatch.setattr(iteration.measure, "repeats_for", lambda call: 1)
    config = Sine(hidden=(5,), tasks=2, chunk=1, validate_every=10_000)
    found = iteration.parts(config, 1)
    named = {*iteration.EVERY, iteration.META_STEP, iteration.REST}
    assert found.keys() == named | {iteration.VALIDATION, iteration.CHECKPOINT}
    assert min(found.values()) > 0
    assert found[iteration.VALIDATION] < 0.1 * found[iteration.META_STEP]
    assert step.drawn is drawn
    with iteration.watched() as taken:
        iteration.trained(config.with_changes({"validate_every": 3}), 6, lambda *_: None)
    counts = {name: len(times) for name, times in taken.items()}
    twice = iteration.META_STEP, "drawing tasks"  # of two chunks
    assert counts == {
        **dict.fromkeys(named - {iteration.REST}, 6),
        **dict.fromkeys(twice, 12),
        iteration.VALIDATION: 2,
        iteration.CHECKPOINT: 4,  # before the first iteration; then records, best, state
    }


@pytest.mark.parametrize(
    ("name", "multiplications", "numbers"),
    [("tasks", 1, 1), ("steps", 1, 1), ("ways", 1, 1), ("filters", 2, 2), ("side", 2, 2)],
)
def test_the_arithmetic_grows_as_the_net_says(name, multiplications, numbers, monkeypatch):
    """Rejects a count of calls instead of multiplications, and of one chunk's only."""
    small = dataclasses.replace(scaling.BASE, tasks=2, chunk=1, filters=8)
    monkeypatch.setattr(scaling, "BASE", small)
    one, other = (scaling.arithmetic(scaling.sized(name, n)) for n in (16, 32))
    grown = {key: np.log2(other[key] / one[key]) for key in one}
    assert multiplications - 0.4 < grown["multiplications"] <= multiplications + 0.1
    assert numbers - 1 < grown["numbers"] <= numbers + 0.1


def test_a_slope_is_the_exponent():
    """Rejects the inverse exponent, one of plain figures, and rounds that are mixed."""
    sizes = np.array([1, 2, 4, 8])
    costs = np.stack([3 * sizes**1.5, 7 * sizes**-1.0], axis=1)
    np.testing.assert_allclose(scaling.slope(sizes, costs), [1.5, -1])


def test_a_row_has_the_exponents_against_its_axis():
    """Rejects exponents against the size in a row by arithmetic, those of the memory
    against the multiplications, and the last doubling of another axis."""
    found = {
        "sizes": [1, 2, 4],
        "multiplications": [1, 4, 16],
        "numbers": [1, 2, 8],
        "ms": [1.0, 4.0, 8.0],
        "rounds": [[1.0, 1.0], [4.0, 4.0], [8.0, 8.0]],
        "mb": [1.0, 2.0, 8.0],
    }
    time, memory = ["1, 4, 8", "side", "1.50", "1.50 to 1.50", "1.00"], ["1, 2, 8", "side"]
    row = scaling.grown_row("side", found, scaling.SIZE)
    assert row == ["side", "1, 2, 4", *time, *memory, "1.50", "2.00"]
    time[1:] = "multiplications", "0.75", "0.75 to 0.75", "0.50"
    row = scaling.grown_row("side", found, scaling.ARITHMETIC)
    assert row == ["side", "1, 2, 4", *time, "1, 2, 8", "numbers", "1.00", "1.00"]
