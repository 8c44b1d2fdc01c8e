"""The net and data of `torch_maml` on autograd alone, unrolled and not, for `classify`.

It stands in for PyTorch where that is not installed: the figures are the same but for
rounding.
"""

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import grad

from tinymaml import params
from tinymaml.check import classify
from tinymaml.maml import Array


SHAPES = dict(w0=(1, 8), b0=(8,), w1=(8, 8), b1=(8,), w2=(8, 1), b2=(1,))  # noqa: C408
ALPHA, STEPS = 0.05, 3
X_S, X_Q = np.random.default_rng(0).uniform(-5, 5, (2, 10, 1))


def loss(theta: Array, x: Array) -> Any:
    """Mean squared error of the net."""
    p = params.unpack(theta, SHAPES)
    h = anp.tanh(anp.tanh(x @ p["w0"] + p["b0"]) @ p["w1"] + p["b1"])
    return anp.mean((h @ p["w2"] + p["b2"] - 2 * anp.sin(x - 1)) ** 2)


def adapt(theta: Array) -> Array:
    """theta -> theta_K."""
    for _ in range(STEPS):
        theta = theta - ALPHA * grad(loss)(theta, X_S)
    return theta


def meta_loss(theta: Array) -> Any:
    """theta -> Q(theta_K)."""
    return loss(adapt(theta), X_Q)


meta_gradient = grad(meta_loss)


def port_gradient(theta: Array) -> Any:
    """theta -> what remains when the inner gradients are constants."""
    return grad(loss)(adapt(theta), X_Q)


if __name__ == "__main__":
    start = 0.5 * np.random.default_rng(1).standard_normal(97)
    for gradient in (meta_gradient, port_gradient):
        print(classify(meta_loss, gradient, start, adapt))
