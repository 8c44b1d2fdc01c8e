"""Bring your own model: Newton's law of cooling, meta-trained on cups of tea.

Prints the squared error on new cups after three gradient steps, from zeros and from the
learned theta.
"""

from collections.abc import Callable
from typing import Any

import autograd.numpy as np
from numpy.random import Generator

from tinymaml.maml import Array, Loss, Task, adapt, meta_gradient
from tinymaml.optim import Moments, adam


ALPHA, STEPS, READINGS = 0.05, 3, 4


def tea(theta: Array, t: Array) -> Any:
    """Return degrees / 10 at times t; theta (..., 3): room, excess and log rate."""
    room, excess, rate = (theta[..., i : i + 1] for i in range(3))
    return room + excess * np.exp(-np.exp(rate) * t)


def loss(t: Array, y: Array) -> Callable[[Array], Loss]:
    """Return a maker of the loss on the readings y at times t, (..., READINGS) each."""
    return lambda _: lambda theta: np.sum((tea(theta, t) - y) ** 2) / READINGS


def cups(rng: Generator, n: int) -> Task:
    """Return n tasks side by side: READINGS to adapt on, and as many to test on."""
    truth = rng.uniform((1, 4, -2), (3, 8, 0), (n, 3))
    support, query = rng.uniform(0, 9, (2, n, READINGS))
    return Task(loss(support, tea(truth, support)), loss(query, tea(truth, query)))


def trained(iterations: int = 1000, tasks: int = 20) -> Array:
    """Return theta after MAML with Adam."""
    rng = np.random.default_rng(0)
    theta: Array = np.zeros(3)
    moments = Moments(np.zeros(3), np.zeros(3))
    for i in range(1, iterations + 1):
        thetas = np.tile(theta, (tasks, 1))
        _, gradients = meta_gradient(thetas, cups(rng, tasks), ALPHA, STEPS)
        theta, moments = adam(theta, gradients.mean(axis=0), moments, i, 0.05)
    return theta


def error(theta: Array, n: int = 1000) -> float:
    """Return the mean squared error on n new cups after adaptation."""
    new = cups(np.random.default_rng(1), n)
    adapted = adapt(np.tile(theta, (n, 1)), new, ALPHA, STEPS)
    return float(new.query(adapted)(adapted)) / n


if __name__ == "__main__":
    print(f"from zeros {error(np.zeros(3)):.2f}, from theta {error(trained()):.2f}")
