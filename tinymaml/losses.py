"""Losses and scores. A loss is a mean over a task's examples and a sum over tasks."""

from typing import NamedTuple

import autograd.numpy as anp
import numpy as np

from tinymaml.ops import Array, log_softmax
from tinymaml.summary import text


class Score(NamedTuple):
    """A score of tasks. Tables show `scale` times its value, rounded, with the unit."""

    name: str
    higher_is_better: bool
    scale: float = 1.0
    digits: int = 4
    unit: str = ""

    @property
    def axis(self) -> str:
        """The label of a picture's axis."""
        return f"{self.name} ({self.unit.strip()})" if self.unit else self.name

    def shown(self, *numbers: float) -> str:
        """Return a mean and half-widths as "98.57 +- 0.50 %" or "0.5900 +- 0.0600".

        With a number that is not finite they are "not finite".
        """
        form = " +- ".join([f"{{:.{self.digits}f}}"] * len(numbers)) + self.unit
        return text(form, *(self.scale * x for x in numbers))

    def better(self, one: float, other: float) -> bool:
        """Return whether the first value is better than the second."""
        return one > other if self.higher_is_better else one < other


ACCURACY = Score("accuracy", True, scale=100, digits=2, unit=" %")
MSE = Score("MSE", False)
RETURN = Score("return", True)


def mse(predictions: Array, targets: Array) -> Array:
    """Mean squared error of (..., n, d) against (..., n, d), summed over leading axes."""
    n, d = predictions.shape[-2:]
    # Flat, since autograd makes one sum for every axis of length 1.
    error = anp.reshape(predictions, -1) - anp.reshape(targets, -1)
    return anp.sum(error**2) * (1.0 / (n * d))


def cross_entropy(logits: Array, labels: Array, divisor: int | None = None) -> Array:
    """Mean cross-entropy of logits (..., n, ways) and integer labels (..., n), summed.

    divisor: of the sum over examples, by default n. The official code divides by the shots
        in support and query (utils.py:56-58): N times the mean on a support set of N ways
    """
    one_hot = labels[..., None] == np.arange(logits.shape[-1])
    return anp.sum(log_softmax(logits) * one_hot) * (-1.0 / (divisor or labels.shape[-1]))


def accuracy(logits: Array, labels: Array) -> Array:
    """Share of right answers per task: (..., n, ways), (..., n) -> (...), in [0, 1].

    It is nan for a task with an example whose largest logit is not finite: the net has
    diverged, and does not answer.
    """
    right = np.mean(logits.argmax(-1) == labels, axis=-1)
    return np.where(np.isfinite(logits.max(-1)).all(-1), right, np.nan)


def squared_error(predictions: Array, targets: Array) -> Array:
    """Mean squared error per task: (..., n, d), (..., n, d) -> (...)."""
    return np.mean((predictions - targets) ** 2, axis=(-2, -1))
