"""Models: parameter shapes, how to draw them, and what they compute.

A model sees theta (..., P) and inputs whose leading axes are theta's. It has no state;
batch normalisation always uses the statistics of the batch it is given, as the official
code does (utils.py:41), so that support and query are normalised apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import autograd.numpy as anp
import numpy as np
from numpy.random import Generator

from tinymaml import params
from tinymaml.ops import EPSILON, add_row, affine, conv, matmul, max_pool, normalize, relu
from tinymaml.params import Shapes


Array = np.ndarray
Draw = Callable[[Generator, tuple[int, ...]], Array]
Activation = Callable[[Array], Array]


def mean_pool(x: Array) -> Array:
    """2x2 means: (..., h, w, c) -> (..., h//2, w//2, c); an odd last row or column goes."""
    *lead, h, w, c = x.shape
    x = x[..., : h // 2 * 2, : w // 2 * 2, :]
    x = anp.reshape(x, (*lead, h // 2, 2, w // 2, 2, c))
    return anp.sum(x, axis=(-4, -2)) * 0.25


# The paper's nets have relu and maxima; tanh and means are smooth, as some checks need.
ACTIVATIONS: dict[str, Activation] = {"relu": relu, "tanh": anp.tanh}
POOLS: dict[str, Activation] = {"relu": max_pool, "tanh": mean_pool}


class Model(NamedTuple):
    """shapes: name -> shape; init(rng) -> theta (P,) float64; apply(theta, x) -> y."""

    shapes: Shapes
    init: Callable[[Generator], Array]
    apply: Callable[[Array, Array], Array]


# ----- Initial values -----


def zeros(rng: Generator, shape: tuple[int, ...]) -> Array:
    """Zeros: biases and batch-norm offsets."""
    return np.zeros(shape)


def truncated_normal(rng: Generator, shape: tuple[int, ...]) -> Array:
    """Normal draws with scale 0.01, redrawn beyond two scales (maml.py:168-177)."""
    draws = rng.standard_normal(shape)
    while (outside := np.abs(draws) > 2).any():
        draws[outside] = rng.standard_normal(outside.sum())
    return 0.01 * draws


def glorot_uniform(rng: Generator, shape: tuple[int, ...]) -> Array:
    """Uniform on +-sqrt(6 / (fan in + fan out)), as the official convolutions.

    A shape is (kernel^2 * c, f) for them; TensorFlow counts the kernel in both fans.
    """
    rows, f = shape
    return rng.uniform(-1, 1, shape) * np.sqrt(6 / (rows + 9 * f))


def glorot_dense(rng: Generator, shape: tuple[int, ...]) -> Array:
    """Uniform on +-sqrt(6 / (rows + columns)): heads."""
    return rng.uniform(-1, 1, shape) * np.sqrt(6 / sum(shape))


def standard_normal(rng: Generator, shape: tuple[int, ...]) -> Array:
    """N(0, 1): the head of the official Omniglot net (maml.py, construct_conv_weights)."""
    return rng.standard_normal(shape)


# How the linear head of a convolutional net is drawn.
HEADS: dict[str, Draw] = {"glorot": glorot_dense, "normal": standard_normal}


def _init(shapes: Shapes, draws: dict[str, Draw]) -> Callable[[Generator], Array]:
    def init(rng: Generator) -> Array:
        arrays = {n: draws.get(n, zeros)(rng, shape) for n, shape in shapes.items()}
        return params.pack(arrays, shapes)

    return init


# ----- The nets -----


def mlp(
    widths: Sequence[int],
    activation: Activation = relu,
    batch_norm: bool = False,
    eps: float = EPSILON,
    draw: Draw = truncated_normal,
) -> Model:
    """Fully connected net: (..., n, widths[0]) -> (..., n, widths[-1]).

    With batch_norm, each hidden layer is normalised over the examples and offset by
    beta; it then has no bias, which the normalisation would take away again. `draw` draws
    the weights.
    Sources: sine 1-40-40-1 and Omniglot without convolution 256-128-64-64, both drawn
    by `truncated_normal` (maml.py:168-177).
    """
    last = len(widths) - 2
    shapes, draws = {}, {}
    for i, (k, f) in enumerate(itertools.pairwise(widths)):
        shapes[f"w{i}"] = (k, f)
        draws[f"w{i}"] = draw
        shapes[f"beta{i}" if batch_norm and i < last else f"b{i}"] = (1, f)

    def apply(theta: Array, x: Array) -> Array:
        p = params.unpack(theta, shapes)
        for i in range(last):
            if batch_norm:
                x = add_row(normalize(matmul(x, p[f"w{i}"]), eps), p[f"beta{i}"])
            else:
                x = affine(x, p[f"w{i}"], p[f"b{i}"])
            x = activation(x)
        return affine(x, p[f"w{last}"], p[f"b{last}"])

    return Model(shapes, _init(shapes, draws), apply)


def with_context(model: Model, shape: tuple[int, ...]) -> Model:
    """Give a net free parameters z beside every input: (..., n, *x) -> what model gives.

    shape: of z, which is an input's but for its last axis; the model takes inputs whose
        last axis has shape[-1] entries more. z is the same for all n examples, and zero
        at first.
    Source: appendix C.2, where gradient steps move z alone; for images it is channels.
    """
    shapes = {"z": shape, **model.shapes}
    halves = {"z": (1, *shape), "theta": (params.count(model.shapes),)}

    def init(rng: Generator) -> Array:
        return np.concatenate([np.zeros(prod(shape)), model.init(rng)])

    def apply(theta: Array, x: Array) -> Array:
        p = params.unpack(theta, halves)
        examples = x.shape[-len(shape) - 1]
        z = p["z"] + np.zeros((examples, *(1 for _ in shape)), theta.dtype)
        return model.apply(p["theta"], anp.concatenate([x, z], axis=-1))

    return Model(shapes, init, apply)


def flat_images(model: Model) -> Model:
    """Let a model of vectors take images: (..., n, h, w, c) -> (..., n, h * w * c)."""

    def apply(theta: Array, x: Array) -> Array:
        return model.apply(theta, x.reshape(*x.shape[:-3], -1))

    return model._replace(apply=apply)


def conv_net(
    image: tuple[int, int, int],
    ways: int,
    filters: int,
    layers: int = 4,
    activation: Activation = relu,
    head: Draw = glorot_dense,
    eps: float = EPSILON,
) -> Model:
    """The Omniglot net: `layers` x [3x3 conv of stride 2, batch norm, relu], then the
    mean over positions, then linear: (..., n, h, w, c) -> (..., n, ways).

    Source: section 5.2 of the paper, 64 filters. The official head is drawn N(0, 1),
    with which the first thousand iterations learn about half as fast as with Glorot's.
    """
    shapes = {**_conv_shapes(image[2], filters, layers), "w": (filters, ways)}
    shapes["b"] = (1, ways)
    draws = {**_conv_draws(layers), "w": head}

    def apply(theta: Array, x: Array) -> Array:
        p = params.unpack(theta, shapes)
        for i in range(layers):
            x = _norm_images(conv(x, p[f"w{i}"], stride=2), p[f"beta{i}"], eps)
            x = activation(x)
        *lead, h, w, f = x.shape
        x = anp.sum(anp.reshape(x, (*lead, h * w, f)), axis=-2) * (1.0 / (h * w))
        return affine(x, p["w"], p["b"])

    return Model(shapes, _init(shapes, draws), apply)


def pooled_conv_net(
    image: tuple[int, int, int],
    ways: int,
    filters: int,
    layers: int = 4,
    activation: Activation = relu,
    head: Draw = glorot_dense,
    eps: float = EPSILON,
    pool: Activation = max_pool,
) -> Model:
    """The mini-ImageNet net: `layers` x [3x3 conv, batch norm, relu, 2x2 max-pool], then
    linear on all that is left: (..., n, h, w, c) -> (..., n, ways).

    Source: section 5.2 of the paper and Ravi & Larochelle 2017, 32 filters, 84x84x3
    images, of which 5x5x32 = 800 features are left.
    """
    features = (image[0] >> layers) * (image[1] >> layers) * filters
    shapes = {**_conv_shapes(image[2], filters, layers), "w": (features, ways)}
    shapes["b"] = (1, ways)
    draws = {**_conv_draws(layers), "w": head}

    def apply(theta: Array, x: Array) -> Array:
        p = params.unpack(theta, shapes)
        for i in range(layers):
            x = _norm_images(conv(x, p[f"w{i}"]), p[f"beta{i}"], eps)
            # The paper's order is the other one: the same for relu and maxima, derivatives
            # too, but four times as many values.
            x = activation(pool(x))
        x = anp.reshape(x, (*x.shape[:-3], features))
        return affine(x, p["w"], p["b"])

    return Model(shapes, _init(shapes, draws), apply)


def _conv_shapes(channels: int, filters: int, layers: int) -> dict[str, tuple[int, int]]:
    # No bias: batch normalisation would take it away again.
    shapes = {}
    for i in range(layers):
        shapes[f"w{i}"] = (9 * (filters if i else channels), filters)
        shapes[f"beta{i}"] = (1, filters)
    return shapes


def _conv_draws(layers: int) -> dict[str, Draw]:
    return {f"w{i}": glorot_uniform for i in range(layers)}


def _norm_images(x: Array, beta: Array, eps: float) -> Array:
    *lead, n, h, w, f = x.shape
    rows = add_row(normalize(anp.reshape(x, (*lead, n * h * w, f)), eps), beta)
    return anp.reshape(rows, x.shape)
