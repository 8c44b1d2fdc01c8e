"""Conjugate gradients of many tasks side by side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymaml.algorithms import conjugate
from tinymaml.check.differences import difference


SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 8)


def systems(seed, size, tasks=3, least=0.3, most=5.0):
    """Return matrices (T, P, P) with eigenvalues in [least, most], and b (T, P)."""
    rng = np.random.default_rng(seed)
    turns, _ = np.linalg.qr(rng.standard_normal((tasks, size, size)))
    values = rng.uniform(least, most, (tasks, 1, size))
    return (turns * values) @ turns.swapaxes(1, 2), rng.standard_normal((tasks, size))


def solve(a, b, steps, mask=1.0):
    """Solve with matrices."""
    product = lambda p: np.einsum("tij,tj->ti", a, p)  # noqa: E731
    return conjugate.solve(product, b, mask * np.ones(b.shape[-1]), steps)


@given(SEEDS, SIZES)
def test_as_many_steps_as_rows_solve(seed, size):
    """Rejects a direction that is not conjugate, and a wrong step along it."""
    a, b = systems(seed, size)
    x, r, stopped = solve(a, b, 2 * size)  # twice, against rounding
    assert difference(x, np.linalg.solve(a, b[..., None])[..., 0]) < 1e-8
    assert np.linalg.norm(r) < 1e-8 * np.linalg.norm(b)
    assert not stopped.any()


@given(SEEDS, st.integers(2, 8), st.integers(1, 8))
def test_masked_rows_stay_and_the_residual_is_of_all(seed, size, steps):
    """Rejects a solution that leaves its rows, and a residual of the masked rows alone."""
    a, b = systems(seed, size)
    mask = np.arange(size) % 2 == 0
    x, r, _ = solve(a, b, steps, mask)
    assert not x[:, ~mask].any()
    np.testing.assert_allclose(r, b - np.einsum("tij,tj->ti", a, x), atol=1e-12)
    x, *_ = solve(a, b, 2 * size, mask)
    inner = np.linalg.solve(a[:, mask][:, :, mask], b[:, mask, None])[..., 0]
    assert difference(x[:, mask], inner) < 1e-8


@given(SEEDS, SIZES)
def test_the_error_falls_at_every_step(seed, size):
    """Rejects steepest descent with a wrong step, and a ratio of another step: the error
    in the norm of A, and in the plain norm, never grows."""
    a, b = systems(seed, size)
    right = np.linalg.solve(a, b[..., None])[..., 0]
    before = plain_before = np.inf
    for steps in range(size + 3):
        error = solve(a, b, steps)[0] - right
        energy = np.sqrt(np.einsum("ti,tij,tj->t", error, a, error))
        assert np.all(energy <= before + 1e-12)
        plain = np.linalg.norm(error, axis=-1)
        assert np.all(plain <= plain_before + 1e-12)
        before, plain_before = energy, plain


@given(SEEDS, st.integers(2, 8), st.integers(1, 5))
def test_every_task_is_solved_as_alone(seed, size, steps):
    """Rejects one scalar product over all tasks: no bit depends on the neighbours."""
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.5, 3, (3, size)), rng.standard_normal((3, size))
    ones = np.ones(size)
    together = conjugate.solve(lambda p: a * p, b, ones, steps)
    for i in range(3):
        row = slice(i, i + 1)
        alone = conjugate.solve(lambda p, row=row: a[row] * p, b[row], ones, steps)
        for one, all_ in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], all_[i])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_solved_task_stays(dtype):
    """Rejects 0/0 in a task that is solved, before the first step or after it, and a task
    that is counted as stopped because it is solved."""
    a = np.array([[2.0, 2, 2], [1, 2, 4], [1, 1, 1]], dtype)
    b = np.array([[1.0, -2, 4], [1, 1, 1], [0, 0, 0]], dtype)
    ones = np.ones(3, dtype)
    with np.errstate(all="raise"):
        once, *_ = conjugate.solve(lambda p: a * p, b, ones, 1)
        x, r, stopped = conjugate.solve(lambda p: a * p, b, ones, 3)
    np.testing.assert_array_equal(once[0], b[0] / 2)
    np.testing.assert_array_equal(x[0], once[0])
    np.testing.assert_array_equal(x[2], 0)
    np.testing.assert_allclose(x[1], b[1] / a[1], rtol=1e-5)
    assert not stopped.any()
    assert {v.dtype.name for v in (x, r, stopped)} == {dtype}


def test_a_task_stops_where_the_curvature_is_not_positive():
    """Rejects a step along a direction without a minimum, one that stops the other tasks
    too, one that goes on later, and a count of anything else than tasks."""
    a = np.array([[-1.0, -1, -1], [3, -1, 1], [1, 2, 4], [0, 0, 0]])
    b = np.array([[1.0, 1, 1], [2, 0.1, 0.1], [1, 1, 1], [1, 1, 1]])
    ones = np.ones(3)
    x, r, stopped = conjugate.solve(lambda p: a * p, b, ones, 6)
    np.testing.assert_array_equal(stopped[:, 0], [1, 1, 0, 1])
    np.testing.assert_array_equal(x[[0, 3]], 0)
    np.testing.assert_allclose(x[2], b[2] / a[2])
    np.testing.assert_allclose(r, b - a * x, atol=1e-12)
    once, *_ = conjugate.solve(lambda p: a * p, b, ones, 1)
    assert np.any(once[1] != 0)
    assert np.isfinite(x).all()


def test_numbers_that_are_not_finite_are_seen():
    """Rejects a divergence that is hidden by stopping."""
    a, b = np.array([[1.0, np.nan], [1, 2]]), np.ones((2, 2))
    x, *_ = conjugate.solve(lambda p: a * p, b, np.ones(2), 2)
    assert np.isnan(x[0]).all()
    np.testing.assert_allclose(x[1], [1, 0.5])
