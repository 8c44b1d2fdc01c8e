"""Losses and scores. A loss is a mean over a task's examples and a sum over tasks,
unless its divisor is given."""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np

from tinymaml.ops import log_softmax


Array = np.ndarray


def mse(predictions: Array, targets: Array) -> Array:
    """Mean squared error of (..., n, d) against (..., n, d), summed over leading axes."""
    n, d = predictions.shape[-2:]
    # Flat, since autograd sums over every axis of length 1, one call each.
    error = anp.reshape(predictions, -1) - anp.reshape(targets, -1)
    return anp.sum(error**2) * (1.0 / (n * d))


def cross_entropy(logits: Array, labels: Array, divisor: int | None = None) -> Array:
    """Mean cross-entropy of logits (..., n, ways) and integer labels (..., n), summed.

    The sum is over the leading axes.
    divisor: what the sum over the n examples is divided by, n unless told. The official
        code has the number of shots, for support and query alike (utils.py:56-58): N
        times the mean on a support set of N ways
    """
    one_hot = labels[..., None] == np.arange(logits.shape[-1])
    return anp.sum(log_softmax(logits) * one_hot) * (-1.0 / (divisor or labels.shape[-1]))


def accuracy(logits: Array, labels: Array) -> Array:
    """Share of right answers per task: (..., n, ways), (..., n) -> (...), in [0, 1]."""
    return np.mean(logits.argmax(-1) == labels, axis=-1)


def squared_error(predictions: Array, targets: Array) -> Array:
    """Mean squared error per task: (..., n, d), (..., n, d) -> (...)."""
    return np.mean((predictions - targets) ** 2, axis=(-2, -1))
