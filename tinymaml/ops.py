"""Differentiable primitives: each rule is written in terms of primitives.

autograd's own NumPy is used where it is exact, fast and keeps float32. The operations here
replace backward passes that turn float32 into float64 (mean, var, max, maximum, where), are
slow (convolution) or read the data many times (batch normalisation). What takes more than
a line of NumPy to compute is in `kernels`.

Functions without a leading underscore take floating-point arrays, `one_hot` integers. They
raise TypeError for others, and ValueError for shapes that their first line does not allow
(`contracts`).

Legend
    ...      leading axes: tasks side by side
    n        images          h, w, c  height, width, channels
    m        rows            k, f     columns (features) in and out
    r        rows of weights, kernel^2 * c; in batch normalisation 1 / deviation
    kernel   its side        g, u, t  cotangents and tangents
A linear map's derivative is itself and its vector-Jacobian product is its adjoint, so
each set of maps below (matmul and its two transposes, unfold and fold, _conv and its two
adjoints, center with itself) is closed under differentiation, to any order.

Conventions at ties: relu'(0) = 0; max_pool passes the gradient to the first maximum.
"""

import operator
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.core import JVPNode, VJPNode
from autograd.extend import defjvp, defvjp, primitive

from tinymaml import contracts, kernels
from tinymaml.contracts import takes
from tinymaml.tracing import isbox


Array = np.ndarray

# tf.contrib.layers.batch_norm's default, which the official code uses (utils.py:41).
EPSILON = 1e-3
LEAK = 0.01  # PyTorch's default slope of leaky_relu, which the code of MAML++ uses


# ----- Matrix products -----


@contracts.primitive("mk kf")
def matmul(a: Array, b: Array) -> Array:
    """a b: (..., m, k), (..., k, f) -> (..., m, f). The leading axes must be equal."""
    return kernels.product(a, b)


@contracts.primitive("mk fk")
def matmul_nt(a: Array, b: Array) -> Array:
    """a b^T: (..., m, k), (..., f, k) -> (..., m, f)."""
    return kernels.product(a, b.swapaxes(-1, -2))


@contracts.primitive("mk mf")
def matmul_tn(a: Array, b: Array) -> Array:
    """a^T b: (..., m, k), (..., m, f) -> (..., k, f)."""
    return kernels.product(a.swapaxes(-1, -2), b)


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
for _map in (matmul, matmul_nt, matmul_tn):
    defjvp(_map, "same", "same")


@contracts.primitive("mk")
def sum_rows(x: Array) -> Array:
    """Sum over the rows: (..., m, k) -> (..., 1, k)."""
    return kernels.sum_rows(x)


def _check_rows(row: Array, m: int) -> None:
    if m < 1:
        raise ValueError(f"a row is repeated once or more often, not {m} times")


@contracts.primitive("1k", _check_rows)
def repeat_row(row: Array, m: int) -> Array:
    """The adjoint of sum_rows: (..., 1, k) -> (..., m, k). Raises ValueError for m < 1."""
    rows = np.empty((*row.shape[:-2], m, row.shape[-1]), row.dtype)
    rows[...] = row
    return rows


defvjp(sum_rows, lambda _, x: lambda g: repeat_row(g, x.shape[-2]))
defvjp(repeat_row, lambda _, row, m: lambda g: sum_rows(g))
defjvp(sum_rows, "same")
defjvp(repeat_row, "same")


@contracts.primitive("mk 1k")
def add_row(x: Array, row: Array) -> Array:
    """x + row, the same row to each: (..., m, k), (..., 1, k) -> (..., m, k)."""
    return kernels.with_row(np.add, x, row)


defvjp(add_row, lambda _, x, row: lambda g: g, lambda _, x, row: lambda g: sum_rows(g))
defjvp(add_row, lambda g, _, x, row: g, lambda g, _, x, row: repeat_row(g, x.shape[-2]))


@contracts.primitive("mk kf 1f")
def affine(x: Array, w: Array, b: Array) -> Array:
    """x w + b: (..., m, k), (..., k, f), (..., 1, f) -> (..., m, f)."""
    y = kernels.product(x, w)
    y += b
    return y


defvjp(
    affine,
    lambda _, x, w, b: lambda g: matmul_nt(g, w),
    lambda _, x, w, b: lambda g: matmul_tn(x, g),
    lambda _, x, w, b: lambda g: sum_rows(g),
)
defjvp(
    affine,
    lambda g, _, x, w, b: matmul(g, w),
    lambda g, _, x, w, b: matmul(x, g),
    lambda g, _, x, w, b: repeat_row(g, x.shape[-2]),
)


# ----- Convolution: unfold the image into patches, multiply -----


@contracts.primitive("nhwc")
def unfold(images: Array, kernel: int, stride: int) -> Array:
    """Image patches as rows: (..., n, h, w, c) -> (..., n * h' * w', kernel^2 * c).

    SAME padding; rows run over (n, h', w'), columns over (row, column, channel).
    """
    return kernels.unfold(images, kernel, stride)


def _check_patches(
    patches: Array, kernel: int, stride: int, shape: tuple[int, ...]
) -> None:
    *lead, n, h, w, c = shape
    rows, cols = (kernels.same_padding(size, kernel, stride)[0] for size in (h, w))
    wanted = (*lead, n * rows * cols, kernel * kernel * c)
    if patches.shape != wanted:
        raise ValueError(f"images {shape} have patches {wanted}, not {patches.shape}")


@contracts.primitive("mk", _check_patches)
def fold(patches: Array, kernel: int, stride: int, shape: tuple[int, ...]) -> Array:
    """The adjoint of unfold: every patch added at its place in images of `shape`.

    Raises ValueError for patches that images of this shape do not have.
    """
    return kernels.fold(patches, kernel, stride, shape)


defvjp(unfold, lambda _, x, kernel, stride: lambda g: fold(g, kernel, stride, x.shape))
defvjp(fold, lambda _, p, kernel, stride, shape: lambda g: unfold(g, kernel, stride))
defjvp(unfold, "same")
defjvp(fold, "same")


@takes("nhwc rf")
def conv(images: Array, weights: Array, stride: int = 1) -> Array:
    """Cross-correlate (..., n, h, w, c) with (..., kernel^2 * c, f), SAME padding.

    Returns (..., n, h', w', f). Raises ValueError when the channels do not fit or stride is
    not 1 or more.
    """
    *lead, n, h, w, c = images.shape
    kernel = round((weights.shape[-2] / c) ** 0.5)
    if kernel * kernel * c != weights.shape[-2]:
        raise ValueError(f"{weights.shape[-2]} rows of weights for {c} channels")
    kernels.same_padding(min(h, w), kernel, stride)  # raises for a wrong stride
    if stride == 1:
        # The patches are kernel^2 times as large as the images. Writing them all takes
        # longer than making those of a few images anew for each product.
        return _conv(images, weights, kernel)
    out = (*lead, n, -(-h // stride), -(-w // stride), weights.shape[-1])
    return anp.reshape(matmul(unfold(images, kernel, stride), weights), out)


@primitive
def _conv(images: Array, weights: Array, kernel: int) -> Array:
    """Cross-correlate with stride 1, a few images at a time."""
    return kernels.conv(images, weights, kernel)


@primitive
def _conv_images(g: Array, weights: Array, kernel: int) -> Array:
    """The adjoint of _conv in its images: (..., n, h, w, f) -> (..., n, h, w, c)."""
    return kernels.conv_images(g, weights, kernel)


@primitive
def _conv_weights(images: Array, g: Array, kernel: int) -> Array:
    """The adjoint of _conv in its weights: -> (..., kernel^2 * c, f)."""
    return kernels.conv_weights(images, g, kernel)


defvjp(
    _conv,
    lambda _, x, w, kernel: lambda g: _conv_images(g, w, kernel),
    lambda _, x, w, kernel: lambda g: _conv_weights(x, g, kernel),
)
defvjp(
    _conv_images,
    lambda _, g, w, kernel: lambda u: _conv(u, w, kernel),
    lambda _, g, w, kernel: lambda u: _conv_weights(u, g, kernel),
)
defvjp(
    _conv_weights,
    lambda _, x, g, kernel: lambda u: _conv_images(g, u, kernel),
    lambda _, x, g, kernel: lambda u: _conv(x, u, kernel),
)
for _map in (_conv, _conv_images, _conv_weights):
    defjvp(_map, "same", "same")


# ----- Max pooling -----


@primitive
def _pool(images: Array) -> tuple[Array, Array]:
    """The first maximum of each 2x2 window, and its index into flat `images`."""
    return kernels.pool(images)


@primitive
def _max_pool(images: Array, maxima: Array, choice: Array) -> Array:
    """_pool_take(images, choice), which _pool computed already: the maxima.

    Of 0.0 and -0.0 in one window either may be the maximum.
    """
    return maxima


@primitive
def _pool_take(images: Array, choice: Array) -> Array:
    """Read the chosen pixel of each 2x2 window: (..., h, w, c) -> (..., h//2, w//2, c)."""
    return images.reshape(-1).take(choice)


@primitive
def _pool_put(pooled: Array, choice: Array, shape: tuple[int, ...]) -> Array:
    """The adjoint of _pool_take: each value at its chosen pixel, zero elsewhere."""
    images = np.zeros(shape, pooled.dtype)
    images.reshape(-1)[choice] = pooled  # no pixel is in two windows
    return images


defvjp(
    _max_pool,
    lambda _, x, maxima, choice: lambda g: _pool_put(g, choice, x.shape),
    argnums=(0,),
)
defjvp(
    _max_pool,
    lambda g, _, x, maxima, choice: _pool_take(g, choice),
    argnums=(0,),
)
defvjp(
    _pool_take,
    lambda _, x, choice: lambda g: _pool_put(g, choice, x.shape),
    argnums=(0,),
)
defvjp(_pool_put, lambda _, y, choice, shape: lambda g: _pool_take(g, choice), argnums=(0,))
for _map in (_pool_take, _pool_put):
    defjvp(_map, "same", argnums=(0,))


@takes("hwc")
def max_pool(images: Array) -> Array:
    """2x2 maxima (..., h//2, w//2, c) of (..., h, w, c); drops an odd last row or column.

    The gradient goes to the first maximum of a window, row by row. Raises ValueError when
    h or w is 1.
    """
    if min(images.shape[-3:-1]) < 2:
        raise ValueError(f"max_pool needs 2x2 pixels or more, not {images.shape}")
    maxima, choice = _pool(_value(images))
    return _max_pool(images, maxima, choice)


# ----- Batch normalisation with the statistics of the batch -----


@takes("mk")
def normalize(x: Array, eps: float = EPSILON) -> Array:
    """(x - mean) / sqrt(var + eps) of each column, over the rows: (..., m, k) -> same.

    One primitive, since a plain expression's second derivative has dozens of reductions.
    Raises ValueError when eps is negative.
    """
    # The rule of _normalize in x is the whole derivative, through the mean and r too. So
    # these are constants in the innermost derivative. Derivatives of the rule see r, which
    # it uses, and not centered, which it does not use.
    centered = center(_below(x))
    return _normalize(x, _value(centered), inverse_std(centered, eps))


@contracts.primitive("mk")
def center(x: Array) -> Array:
    """x minus its mean over the rows; its own adjoint."""
    return kernels.with_row(np.subtract, x, kernels.mean(x))


def _check_eps(centered: Array, eps: float = EPSILON) -> None:
    if not eps >= 0:
        raise ValueError(f"eps must be 0 or more, not {eps}")


@contracts.primitive("mk", _check_eps)
def inverse_std(centered: Array, eps: float = EPSILON) -> Array:
    """r = 1 / sqrt(mean(c^2) + eps) over the rows: c (..., m, k) -> (..., 1, k).

    Raises ValueError when eps is negative.
    """
    return 1 / np.sqrt(kernels.mean_product(centered, centered) + eps)


@primitive
def _normalize(x: Array, centered: Array, r: Array) -> Array:
    """centered * r. Its rule in x is the whole derivative, so its rule in r is zero."""
    return kernels.with_row(np.multiply, centered, r)


@primitive
def _normalize_adjoint(g: Array, y: Array, r: Array) -> Array:
    """dy/dx applied to g, where y = normalize(x): r (g - mean g - y mean(g y)).

    dy/dx is symmetric, so this is both the forward and the reverse derivative.
    """
    return kernels.normalize_adjoint(g, y, r)


def _row_mean(x: Array) -> Array:
    return sum_rows(x) * (1.0 / x.shape[-2])


defvjp(center, lambda _, x: lambda g: center(g))
defjvp(center, "same")
defvjp(
    inverse_std,
    # dr = - r^3 mean(c dc)
    lambda r, c, eps=EPSILON: lambda g: c * (g * r**3 * (-1.0 / c.shape[-2])),
    argnums=(0,),
)
defjvp(inverse_std, lambda g, r, c, eps=EPSILON: -(r**3) * _row_mean(c * g), argnums=(0,))
defvjp(
    _normalize,
    lambda y, x, c, r: lambda g: _normalize_adjoint(g, y, r),
    None,
    argnums=(0, 2),
)
defjvp(_normalize, lambda g, y, x, c, r: _normalize_adjoint(g, y, r), None, argnums=(0, 2))
defvjp(
    _normalize_adjoint,
    # With A(g) for the adjoint: A is symmetric in g; the other two follow from
    # <u, A(g)> = sum of r (u . center(g) - m mean(u y) mean(g y)), where mean(y) = 0.
    lambda _, g, y, r: lambda u: _normalize_adjoint(u, y, r),
    lambda _, g, y, r: lambda u: u * (_row_mean(g * y) * -r) + g * (_row_mean(u * y) * -r),
    lambda a, g, y, r: lambda u: sum_rows(u * a) / r,
)
defjvp(
    _normalize_adjoint,
    lambda t, _, g, y, r: _normalize_adjoint(t, y, r),
    lambda t, _, g, y, r: t * (_row_mean(g * y) * -r) + y * (_row_mean(g * t) * -r),
    lambda t, a, g, y, r: a * (t / r),
)


# ----- Activations and losses -----


@takes("")
def relu(x: Array) -> Array:
    """x where x > 0, else 0; relu'(0) = 0."""
    return _relu(x, _positive(_value(x)))


@takes("")
def leaky_relu(x: Array) -> Array:
    """x where x > 0, else 0.01 x; its slope at 0 is 0.01."""
    return _gate(x, _leak(_value(x)))


@primitive
def _leak(x: Array) -> Array:
    """1 where x > 0, else LEAK, in x's own dtype."""
    return np.where(x > 0, 1, LEAK).astype(x.dtype)


@primitive
def _positive(x: Array) -> Array:
    """1 where x > 0, else 0, in x's own dtype, which multiplies faster than booleans."""
    return (x > 0).astype(x.dtype)


@primitive
def _relu(x: Array, mask: Array) -> Array:
    """x * mask, but 0 for x = -inf too, and nan for nan. The mask is for the rules."""
    return np.maximum(x, kernels.zeros(x.shape, x.dtype))


@primitive
def _gate(x: Array, mask: Array) -> Array:
    """x * mask: linear in x, constant in the mask, and its own adjoint."""
    return x * mask


defvjp(_relu, lambda _, x, mask: lambda g: _gate(g, mask), argnums=(0,))
defjvp(_relu, lambda g, _, x, mask: _gate(g, mask), argnums=(0,))
defvjp(_gate, lambda _, x, mask: lambda g: _gate(g, mask), argnums=(0,))
defjvp(_gate, "same", argnums=(0,))


@contracts.primitive("")
def square(x: Array) -> Array:
    """x^2. The rules of anp's power have powers of x to 1 and 0, which cost as much."""
    return np.square(x)


defvjp(square, lambda _, x: lambda g: 2.0 * g * x)
defjvp(square, lambda g, _, x: 2.0 * g * x)


@contracts.primitive("k")
def log_softmax(logits: Array) -> Array:
    """Logarithm of the softmax over the last axis (..., k); finite for finite logits.

    It is -inf for a logit of -inf.
    """
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


defvjp(
    log_softmax,
    lambda y, _: lambda g: g - anp.exp(y) * anp.sum(g, axis=-1, keepdims=True),
)
defjvp(log_softmax, lambda g, y, _: g - anp.sum(anp.exp(y) * g, axis=-1, keepdims=True))


@primitive
def one_hot(labels: Array, ways: int) -> Array:
    """Booleans (..., ways), true at the label: integers (...) from 0 to ways - 1.

    Raises TypeError for labels and ways that are not integers, ValueError for a label that
    is out of range.
    """
    masked, labels = np.ma.isMaskedArray(labels), np.asarray(labels)
    if masked or labels.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, not {'masked' * masked or labels.dtype}")
    ways = operator.index(ways)
    outside = labels[(labels < 0) | (labels >= ways)]
    if outside.size:
        raise ValueError(f"a label of {ways} classes is 0 to {ways - 1}, not {outside[0]}")
    return labels[..., None] == np.arange(ways)


def _check_mask(x: Array, mask: Array) -> None:
    if mask.shape != x.shape or mask.dtype != bool:
        found = f"{mask.dtype} {mask.shape}"
        raise ValueError(f"a mask of {x.shape} is booleans of the same shape, not {found}")


@contracts.primitive("", _check_mask)
def select(x: Array, mask: Array) -> Array:
    """x where the mask is true, else 0, also where x is not finite; its own adjoint.

    Raises ValueError for a mask that is not booleans of x's shape.
    """
    return np.where(mask, x, 0)


defvjp(select, lambda _, x, mask: lambda g: select(g, mask), argnums=(0,))
defjvp(select, "same", argnums=(0,))


# ----- Levels of tracing -----


def _below(x: Any) -> Array:
    """x without its innermost derivative, in which it is a constant."""
    return x._value if _is_differentiated(x) else x


def _value(x: Any) -> Array:
    """x as a constant in every derivative; still a box when its calls are recorded."""
    while _is_differentiated(x):
        x = x._value
    return x


def _is_differentiated(x: Any) -> bool:
    return isbox(x) and isinstance(x._node, VJPNode | JVPNode)
