"""Differentiable primitives: each rule is written in terms of primitives.

Where autograd's own NumPy is exact, quick and keeps float32, it is used as it is. What
is here is not: a backward pass that turns float32 into float64 (mean, var, max,
maximum, where), or that is slow (convolution), or that runs over the data many times
where a few would do (batch normalisation).

Legend
    ...      leading axes: tasks side by side
    n        images          h, w, c  height, width, channels
    m        rows            k, f     columns (features) in and out
A linear map's derivative is itself and its vector-Jacobian product is its adjoint, so
each pair of maps below (matmul and its two transposes, unfold and fold, center with
itself) is closed under differentiation, to any order.

Conventions at ties: relu'(0) = 0; max_pool passes the gradient to the first maximum.
"""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np
from autograd.core import JVPNode, VJPNode
from autograd.extend import defjvp, defvjp, primitive
from autograd.tracer import isbox


Array = np.ndarray

# tf.contrib.layers.batch_norm's default, which the official code uses (utils.py:41).
EPSILON = 1e-3


# ----- Matrix products -----


def _check_stacks(a: Array, b: Array) -> None:
    if a.shape[:-2] != b.shape[:-2]:
        raise ValueError(f"leading axes differ: {a.shape} and {b.shape}")


@primitive
def matmul(a: Array, b: Array) -> Array:
    """a b: (..., m, k), (..., k, f) -> (..., m, f). The leading axes must be equal."""
    _check_stacks(a, b)
    return np.matmul(a, b)


@primitive
def matmul_nt(a: Array, b: Array) -> Array:
    """a b^T: (..., m, k), (..., f, k) -> (..., m, f)."""
    _check_stacks(a, b)
    return np.matmul(a, b.swapaxes(-1, -2))


@primitive
def matmul_tn(a: Array, b: Array) -> Array:
    """a^T b: (..., m, k), (..., m, f) -> (..., k, f)."""
    _check_stacks(a, b)
    return np.matmul(a.swapaxes(-1, -2), b)


defvjp(
    matmul,
    lambda _, a, b: lambda g: matmul_nt(g, b),
    lambda _, a, b: lambda g: matmul_tn(a, g),
)
defvjp(
    matmul_nt,
    lambda _, a, b: lambda g: matmul(g, b),
    lambda _, a, b: lambda g: matmul_tn(g, a),
)
defvjp(
    matmul_tn,
    lambda _, a, b: lambda g: matmul_nt(b, g),
    lambda _, a, b: lambda g: matmul(a, g),
)
for _product in (matmul, matmul_nt, matmul_tn):
    defjvp(_product, "same", "same")


# ----- Convolution: unfold the image into patches, multiply -----


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int, int]:
    """Return (outputs, pad before, pad after) along one axis.

    TensorFlow's SAME: ceil(size / stride) outputs, the odd pixel of padding last.
    """
    outputs = -(-size // stride)
    pad = max((outputs - 1) * stride + kernel - size, 0)
    return outputs, pad // 2, pad - pad // 2


@primitive
def unfold(images: Array, kernel: int, stride: int) -> Array:
    """Image patches as rows: (..., n, h, w, c) -> (..., n * h' * w', kernel^2 * c).

    SAME padding; rows run over (n, h', w'), columns over (row, column, channel).
    """
    *lead, n, h, w, c = images.shape
    rows, top, bottom = same_padding(h, kernel, stride)
    cols, left, right = same_padding(w, kernel, stride)
    padded = np.zeros((*lead, n, h + top + bottom, w + left + right, c), images.dtype)
    padded[..., top : top + h, left : left + w, :] = images
    *steps, down, along, _ = padded.strides
    windows = np.lib.stride_tricks.as_strided(
        padded,
        (*lead, n, rows, cols, kernel, kernel * c),
        (*steps, stride * down, stride * along, down, images.itemsize),
        writeable=False,
    )
    return windows.reshape(*lead, n * rows * cols, kernel * kernel * c)


@primitive
def fold(patches: Array, kernel: int, stride: int, shape: tuple[int, ...]) -> Array:
    """The adjoint of unfold: every patch added at its place in images of `shape`."""
    *lead, n, h, w, c = shape
    rows, top, bottom = same_padding(h, kernel, stride)
    cols, left, right = same_padding(w, kernel, stride)
    patches = patches.reshape(*lead, n, rows, cols, kernel, kernel, c)
    padded = np.zeros((*lead, n, h + top + bottom, w + left + right, c), patches.dtype)
    for i in range(kernel):
        for j in range(kernel):
            i_span = slice(i, i + stride * (rows - 1) + 1, stride)
            j_span = slice(j, j + stride * (cols - 1) + 1, stride)
            padded[..., i_span, j_span, :] += patches[..., i, j, :]
    return np.ascontiguousarray(padded[..., top : top + h, left : left + w, :])


defvjp(
    unfold,
    lambda _, x, kernel, stride: lambda g: fold(g, kernel, stride, x.shape),
)
defvjp(fold, lambda _, p, kernel, stride, shape: lambda g: unfold(g, kernel, stride))
for _map in (unfold, fold):
    defjvp(_map, "same")


def conv(images: Array, weights: Array, stride: int = 1) -> Array:
    """Cross-correlate (..., n, h, w, c) with (..., kernel^2 * c, f), SAME padding.

    Returns (..., n, h', w', f). Raises ValueError when the channels do not fit.
    """
    *lead, n, h, w, c = images.shape
    kernel = round((weights.shape[-2] / c) ** 0.5)
    if kernel * kernel * c != weights.shape[-2]:
        raise ValueError(f"{weights.shape[-2]} rows of weights for {c} channels")
    out = (*lead, n, -(-h // stride), -(-w // stride), weights.shape[-1])
    return anp.reshape(matmul(unfold(images, kernel, stride), weights), out)


# ----- Max pooling -----


@primitive
def _pool_choice(images: Array) -> Array:
    """Which of the four (0..3, row by row) is the first maximum of each 2x2 window."""
    return _windows(images).argmax(-2)


@primitive
def _pool_take(images: Array, choice: Array) -> Array:
    """Read the chosen pixel of each 2x2 window: (..., h, w, c) -> (..., h//2, w//2, c)."""
    return np.take_along_axis(_windows(images), choice[..., None, :], -2)[..., 0, :]


@primitive
def _pool_put(pooled: Array, choice: Array, shape: tuple[int, ...]) -> Array:
    """The adjoint of _pool_take: each value at its chosen pixel, zero elsewhere."""
    chosen = np.arange(4)[:, None] == choice[..., None, :]
    windows = (pooled[..., None, :] * chosen).reshape(*choice.shape[:-1], 2, 2, shape[-1])
    images = np.zeros(shape, pooled.dtype)
    h, w = 2 * choice.shape[-3], 2 * choice.shape[-2]
    whole = images[..., :h, :w, :]
    whole[...] = windows.swapaxes(-4, -3).reshape(whole.shape)
    return images


def _windows(images: Array) -> Array:
    *lead, h, w, c = images.shape
    whole = images[..., : h // 2 * 2, : w // 2 * 2, :]
    pairs = whole.reshape(*lead, h // 2, 2, w // 2, 2, c)
    return pairs.swapaxes(-4, -3).reshape(*lead, h // 2, w // 2, 4, c)


defvjp(
    _pool_take,
    lambda _, x, choice: lambda g: _pool_put(g, choice, x.shape),
    argnums=(0,),
)
defvjp(
    _pool_put,
    lambda _, y, choice, shape: lambda g: _pool_take(g, choice),
    argnums=(0,),
)
for _map in (_pool_take, _pool_put):
    defjvp(_map, "same", argnums=(0,))


def max_pool(images: Array) -> Array:
    """2x2 maxima: (..., h, w, c) -> (..., h//2, w//2, c); an odd last row or column goes.

    The gradient goes to the first maximum of a window, row by row.
    """
    return _pool_take(images, _pool_choice(_value(images)))


# ----- Batch normalisation with the statistics of the batch -----


def normalize(x: Array, eps: float = EPSILON) -> Array:
    """(x - mean) / sqrt(var + eps) of each column, over the rows: (..., m, k) -> same.

    One primitive with a rule whose own rule is written out, in place of the dozens of
    reductions that a plain expression costs in a second derivative.
    """
    return _normalize(x, inverse_std(_below(x), eps))


@primitive
def inverse_std(x: Array, eps: float = EPSILON) -> Array:
    """r = 1 / sqrt(var + eps) of each column, over the rows: (..., m, k) -> (..., 1, k)."""
    x = x - _row_mean(x)
    return 1 / np.sqrt(_row_mean(x * x) + eps)


@primitive
def _normalize(x: Array, r: Array) -> Array:
    # r is inverse_std(x). The rule for x below is the total derivative, through r too,
    # so the rule for r is zero.
    return (x - _row_mean(x)) * r


@primitive
def _normalize_adjoint(g: Array, y: Array, r: Array) -> Array:
    """dy/dx applied to g, where y = normalize(x): r (g - mean g - y mean(g y)).

    dy/dx is symmetric, so this is both the forward and the reverse derivative.
    """
    return (g - _row_mean(g) - y * _row_mean(g * y)) * r


@primitive
def center(x: Array) -> Array:
    """x minus its mean over the rows; its own adjoint."""
    return x - _row_mean(x)


def _row_mean(x: Array) -> Array:
    return x.sum(-2, keepdims=True) * (1.0 / x.shape[-2])


def _mean(x: Array) -> Array:
    return anp.sum(x, axis=-2, keepdims=True) * (1.0 / x.shape[-2])


def _inverse_std_vjp(r, x, eps):
    # dr = - r^3 mean((x - mean x) dx)
    return lambda g: center(x) * (g * r**3 * (-1.0 / x.shape[-2]))


def _inverse_std_jvp(g, r, x, eps):
    return -(r**3) * _mean(center(x) * g)


defvjp(inverse_std, lambda r, x, eps=EPSILON: _inverse_std_vjp(r, x, eps), argnums=(0,))
defjvp(
    inverse_std,
    lambda g, r, x, eps=EPSILON: _inverse_std_jvp(g, r, x, eps),
    argnums=(0,),
)
defvjp(
    _normalize,
    lambda y, x, r: lambda g: _normalize_adjoint(g, y, r),
    None,
)
defjvp(_normalize, lambda g, y, x, r: _normalize_adjoint(g, y, r), None)
defvjp(
    _normalize_adjoint,
    # With A(g) for the adjoint: A is symmetric in g; the other two follow from
    # <u, A(g)> = sum of r (u . center(g) - m mean(u y) mean(g y)), where mean(y) = 0.
    lambda _, g, y, r: lambda u: _normalize_adjoint(u, y, r),
    lambda _, g, y, r: lambda u: -r * (u * _mean(g * y) + g * _mean(u * y)),
    lambda a, g, y, r: lambda u: anp.sum(u * a, axis=-2, keepdims=True) / r,
)
defjvp(
    _normalize_adjoint,
    lambda t, _, g, y, r: _normalize_adjoint(t, y, r),
    lambda t, _, g, y, r: -r * (t * _mean(g * y) + y * _mean(g * t)),
    lambda t, a, g, y, r: a * (t / r),
)
defvjp(center, lambda _, x: lambda g: center(g))
defjvp(center, "same")


# ----- Activations and losses -----


@primitive
def relu(x: Array) -> Array:
    """max(x, 0), with relu'(0) = 0."""
    return np.maximum(x, 0)


@primitive
def _gate(g: Array, x: Array) -> Array:
    """g where x > 0, else 0: linear in g, constant in x."""
    return g * (x > 0)


defvjp(relu, lambda y, x: lambda g: _gate(g, _value(y)))
defjvp(relu, lambda g, y, x: _gate(g, _value(y)))
defvjp(_gate, lambda _, g, x: lambda u: _gate(u, x), argnums=(0,))
defjvp(_gate, "same", argnums=(0,))


@primitive
def log_softmax(logits: Array) -> Array:
    """Logarithm of the softmax over the last axis; finite for any finite logits."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


defvjp(
    log_softmax,
    lambda y, _: lambda g: g - anp.exp(y) * anp.sum(g, axis=-1, keepdims=True),
)
defjvp(
    log_softmax,
    lambda g, y, _: g - anp.sum(anp.exp(y) * g, axis=-1, keepdims=True),
)


# ----- Levels of tracing -----


def _below(x: Array) -> Array:
    """x as the next trace out sees it: what is constant in the innermost derivative."""
    return x._value if _is_differentiated(x) else x


def _value(x: Array) -> Array:
    """x as a constant in every derivative; still a box when its calls are recorded."""
    while _is_differentiated(x):
        x = x._value
    return x


def _is_differentiated(x: Array) -> bool:
    return isbox(x) and isinstance(x._node, VJPNode | JVPNode)
