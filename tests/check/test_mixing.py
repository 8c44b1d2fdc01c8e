"""`check.mixing`: it finds every way in which tasks side by side are not independent."""

import autograd.numpy as anp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinymaml.check
from tinymaml import losses, maml, models
from tinymaml.fewshot import Episode, as_task
from tinymaml.maml import Task


TASKS, ALPHA = 3, 0.05
T, Y = np.random.default_rng(0).uniform(1, 5, (2, TASKS, 4))
THETA = np.random.default_rng(1).standard_normal((TASKS, 2))


def mixing_of(loss, way=maml.meta_gradient, steps=2, theta=THETA):
    """Return `mixing` for losses loss(theta, t, y) on the tasks above."""

    def make(some):
        maker = lambda _: lambda at: loss(at, T[some], Y[some])  # noqa: E731
        return Task(maker, maker)

    return tinymaml.check.mixing(
        lambda some: way(theta[some], make(some), ALPHA, steps)[1], len(theta)
    )


def residuals(theta, t, y):
    return (theta[..., :1] + theta[..., 1:] * t - y) ** 2 / t.shape[-1]


def shared(theta, t, y):
    """Centre the data of all tasks together: statistics over them."""
    return anp.sum(residuals(theta, t - np.mean(t), y))


WRONG = {
    "mean over tasks": lambda *args: anp.mean(anp.sum(residuals(*args), axis=-1)),
    "mean of everything": lambda *args: anp.mean(residuals(*args)),
    "statistics over tasks": shared,
    "worst task": lambda *args: anp.max(anp.sum(residuals(*args), axis=-1)),
    "square of the sum": lambda *args: anp.sum(residuals(*args)) ** 2,
}


@pytest.mark.parametrize("way", [maml.meta_gradient, maml.first_order])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_sum_over_tasks_passes(way, steps):
    """Rejects a false alarm."""
    assert mixing_of(lambda *args: anp.sum(residuals(*args)), way, steps) < 1e-12


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("way", [maml.meta_gradient, maml.first_order])
def test_tasks_that_mix_are_found(name, way):
    """Rejects a check by perturbation alone, which a mean over tasks passes: no gradient
    depends on another task, and all are too small."""
    assert mixing_of(WRONG[name], way) > 0.1


def test_a_mean_is_off_by_one_minus_one_over_the_tasks():
    """Rejects another scale than the documented one."""
    mean = mixing_of(WRONG["mean over tasks"], steps=0)
    assert mean == pytest.approx(1 - 1 / TASKS, rel=1e-12)


def test_one_task_among_many_is_found():
    """Rejects a norm over all tasks, in which a single wrong one would drown."""

    def gradients(some):
        rows = np.arange(TASKS)[some]
        gradient = np.full((len(rows), 2), 1e6)
        gradient[rows == 1] = 1.0 if len(rows) == 1 else 1.5
        return gradient

    assert tinymaml.check.mixing(gradients, TASKS) == pytest.approx(0.5)


def test_a_nan_is_no_pass():
    """Rejects a maximum that leaves out a task whose gradient is not a number."""

    def gradients(some):
        gradient = np.ones((TASKS, 2))[some]
        return np.where((np.arange(TASKS)[some] == 1)[:, None], np.nan, gradient)

    assert not tinymaml.check.mixing(gradients, TASKS) <= 1


@given(st.integers(2, 5), st.booleans(), st.sampled_from(["mse", "cross-entropy"]))
def test_the_losses_of_the_package_pass(tasks, batch_norm, name):
    """Rejects a loss of ours, or batch statistics, over tasks."""
    rng = np.random.default_rng(tasks)
    net = models.mlp((2, 4, 3), anp.tanh, batch_norm)
    theta = rng.standard_normal((tasks, net.init(rng).size))
    x = rng.standard_normal((2, tasks, 5, 2))
    y = rng.standard_normal((2, tasks, 5, 3))
    if name == "cross-entropy":
        y = np.argmax(y, axis=-1)
    loss = {"mse": losses.mse, "cross-entropy": losses.cross_entropy}[name]

    def gradients(some):
        episode = Episode(x[0, some], y[0, some], x[1, some], y[1, some])
        return maml.meta_gradient(theta[some], as_task(episode, net.apply, loss), 0.1, 2)[1]

    assert tinymaml.check.mixing(gradients, tasks) < 1e-12


@pytest.mark.parametrize(
    ("gradients", "tasks", "message"),
    [
        (lambda some: np.ones((3, 2))[some], 1, "tasks must be 2 or more, not 1"),
        (lambda some: np.ones((3, 2)), 3, r"\(3, 2\) for 3 tasks, \(3, 2\) for one"),
        (lambda some: np.ones(2), 3, r"must be \(tasks, P\), not \(2,\)"),
        (lambda some: np.ones((3, 2))[some][0], 3, r"not \(2,\) for 3 tasks"),
    ],
)
def test_what_has_no_tasks_is_refused(gradients, tasks, message):
    """Rejects a comparison of shapes that do not fit, which would broadcast."""
    with pytest.raises(ValueError, match=message):
        tinymaml.check.mixing(gradients, tasks)
