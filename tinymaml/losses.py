"""Losses and scores. A loss is a mean over a task's examples and a sum over tasks."""

from typing import NamedTuple

import autograd.numpy as anp
import numpy as np

from tinymaml.contracts import check
from tinymaml.ops import Array, log_softmax, one_hot, select, square
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
    """Mean squared error of (..., n, d) against (..., n, d), summed over leading axes.

    Raises ValueError for other shapes, TypeError for arrays that are not floating point.
    """
    check("mse", "nd nd", predictions, targets)
    n, d = predictions.shape[-2:]
    # Flat, since autograd makes one sum for every axis of length 1.
    error = anp.reshape(predictions, -1) - anp.reshape(targets, -1)
    return anp.sum(square(error)) * (1.0 / (n * d))


def cross_entropy(logits: Array, labels: Array, divisor: int | None = None) -> Array:
    """Mean cross-entropy of logits (..., n, ways) and integer labels (..., n), summed.

    A logit of -inf excludes its class.
    divisor: of the sum over examples, by default n. The official code divides by the shots
        in support and query (utils.py:56-58): N times the mean on a support set of N ways
    Raises ValueError for labels outside 0..ways-1, other shapes and a divisor that is not
    positive and finite, TypeError for labels that are not integers and logits that are not
    floating point.
    """
    n = _examples("cross_entropy", logits, labels)
    if divisor is not None and not 0 < divisor < np.inf:
        raise ValueError(f"the divisor must be positive and finite, not {divisor}")
    chosen = select(log_softmax(logits), one_hot(labels, logits.shape[-1]))
    return anp.sum(chosen) * (-1.0 / (n if divisor is None else divisor))


def accuracy(logits: Array, labels: Array) -> Array:
    """Share of right answers per task: (..., n, ways), (..., n) -> (...), in [0, 1].

    It is nan for a task with an example whose largest logit is not finite: the net has
    diverged, and does not answer. Raises as `cross_entropy` does.
    """
    _examples("accuracy", logits, labels)
    answers = logits.argmax(-1)[..., None]
    right = np.take_along_axis(one_hot(labels, logits.shape[-1]), answers, -1)[..., 0]
    finite = np.isfinite(logits.max(-1)).all(-1)
    return np.where(finite, np.mean(right, axis=-1), np.nan)


def _examples(name: str, logits: Array, labels: Array) -> int:
    """Return n; raise as `cross_entropy` does when logits and labels do not fit."""
    check(name, "nk", logits)
    if np.shape(labels) != logits.shape[:-1]:
        shapes = f"{logits.shape} and {np.shape(labels)}"
        raise ValueError(f"{name} takes shapes (..., n, ways) and (..., n), not {shapes}")
    return logits.shape[-2]


def squared_error(predictions: Array, targets: Array) -> Array:
    """Mean squared error per task: (..., n, d), (..., n, d) -> (...).

    Raises as `mse` does.
    """
    check("squared_error", "nd nd", predictions, targets)
    return np.mean((predictions - targets) ** 2, axis=(-2, -1))
