"""The same meta-step in JAX, compiled: vmap over tasks, and a loop over tasks.

Images are (n, h, w, c) and convolution weights (3, 3, c, f), the order that XLA's
convolution on a CPU wants.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from works import Work, episodes, model, parameters

from tinymaml import params
from tinymaml.ops import EPSILON


Array = jax.Array
Parameters = dict[str, Array]
Step = Callable[[], Any]

LAYERS = 4
KERNEL = 3
LAYOUT = ("NHWC", "HWIO", "NHWC")
THREADS = ()  # XLA has a pool of its own


set_threads = abs  # nothing to set


def precision(dtype: str) -> AbstractContextManager:
    """Let JAX have float64 where it is asked for."""
    return jax.enable_x64(dtype == "float64")


# ----- Numbers -----


def arrays(work: Work) -> Parameters:
    """Return theta as JAX's arrays."""
    named = params.unpack(parameters(work), model(work).shapes)
    return {name: jnp.asarray(array) for name, array in named.items()}


def flat(work: Work, gradient: Parameters) -> np.ndarray:
    """Return a gradient in tinymaml's order, (P,)."""
    shapes = model(work).shapes
    return params.pack({n: np.asarray(g) for n, g in gradient.items()}, shapes)


# ----- Nets and losses -----


def loss_of(work: Work) -> Callable[[Parameters, Array, Array], Array]:
    """Return (parameters, x, y) -> loss of one task."""
    if work.family == "sine":
        return lambda p, x, y: jnp.mean((mlp(p, x) - y) ** 2)
    net = {"conv": conv_net, "pooled": pooled_net}[work.family]

    def cross_entropy(p: Parameters, x: Array, y: Array) -> Array:
        chosen = jax.nn.one_hot(y, work.ways, dtype=x.dtype)
        return -jnp.mean(jnp.sum(jax.nn.log_softmax(net(p, x)) * chosen, axis=-1))

    return cross_entropy


def mlp(p: Parameters, x: Array) -> Array:
    """The sine net."""
    x = jax.nn.relu(x @ p["w0"] + p["b0"])
    x = jax.nn.relu(x @ p["w1"] + p["b1"])
    return x @ p["w2"] + p["b2"]


def conv_net(p: Parameters, x: Array) -> Array:
    """The Omniglot net."""
    for i in range(LAYERS):
        x = jax.nn.relu(norm(conv(x, p[f"w{i}"], 2), p[f"beta{i}"]))
    return x.mean((1, 2)) @ p["w"] + p["b"]


def pooled_net(p: Parameters, x: Array) -> Array:
    """The mini-ImageNet net."""
    for i in range(LAYERS):
        x = max_pool(jax.nn.relu(norm(conv(x, p[f"w{i}"], 1), p[f"beta{i}"])))
    return x.reshape(len(x), -1) @ p["w"] + p["b"]


def conv(x: Array, weights: Array, stride: int) -> Array:
    """3x3, TensorFlow's SAME padding."""
    kernel = weights.reshape(KERNEL, KERNEL, x.shape[-1], -1)
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=LAYOUT
    )


def norm(x: Array, beta: Array) -> Array:
    """Batch norm from a mean and a variance."""
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * lax.rsqrt(var + EPSILON) + beta


def max_pool(x: Array) -> Array:
    """2x2 maxima, by choosing.

    The rule of jnp.max compares inputs with the maximum for equality; XLA may compute
    them twice with other roundings, and the float32 gradient is lost.
    """
    n, h, w, c = x.shape
    windows = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
    rows = _larger(windows[:, :, 0], windows[:, :, 1])
    return _larger(rows[:, :, :, 0], rows[:, :, :, 1])


def _larger(a: Array, b: Array) -> Array:
    return jnp.where(a >= b, a, b)


# ----- Contenders: each returns a function that does one meta-step -----


def after_steps(work: Work) -> Callable[..., Array]:
    """Return (parameters, support x, y, query x, y) -> query loss after adaptation."""
    loss = loss_of(work)

    def after(p: Parameters, xs: Array, ys: Array, xq: Array, yq: Array) -> Array:
        for _ in range(work.steps):
            g = jax.grad(loss)(p, xs, ys)
            if work.order == "first":
                g = lax.stop_gradient(g)
            p = {n: p[n] - work.alpha * g[n] for n in p}
        return loss(p, xq, yq)

    return after


def vmapped(work: Work) -> Step:
    """All tasks at once."""
    each = jax.vmap(jax.grad(after_steps(work)), in_axes=(None, 0, 0, 0, 0))

    def gradient(theta: Parameters, *batch: Array) -> Parameters:
        return jax.tree.map(lambda g: g.mean(0), each(theta, *batch))

    return _compiled(work, gradient)


def scanned(work: Work) -> Step:
    """One task after the other, inside the compiled program."""
    one = jax.grad(after_steps(work))

    def gradient(theta: Parameters, *batch: Array) -> Parameters:
        def add(total: Parameters, task: tuple[Array, ...]) -> tuple[Parameters, None]:
            return jax.tree.map(jnp.add, total, one(theta, *task)), None

        total, _ = lax.scan(add, jax.tree.map(jnp.zeros_like, theta), batch)
        return jax.tree.map(lambda g: g / work.tasks, total)

    return _compiled(work, gradient)


def _compiled(work: Work, gradient: Callable[..., Parameters]) -> Step:
    gradient, theta = jax.jit(gradient), arrays(work)
    batch = [jnp.asarray(array) for array in episodes(work)]
    return lambda: jax.block_until_ready(gradient(theta, *batch))
