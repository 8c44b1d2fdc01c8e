"""What the primitives compute, in plain NumPy, arranged to be fast.

Arrays go in and come out. `ops` has the primitives' derivatives and checks shapes; its
legend explains the letters. The sizes below were chosen by measuring. They change no result
but the last bits of sums.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache, reduce
from math import prod

import numpy as np


Array = np.ndarray

# Bytes that are worked on at a time, so that they stay in the caches.
PATCH_BYTES = 2**20
IMAGE_BYTES = 2**19  # of images to be pooled
ROW_BYTES = 2**18  # of a task's rows to be normalised
# In arrays of LARGE entries or more, rows are joined to runs of at most RUN_ENTRIES.
LARGE, RUN_ENTRIES = 2**17, 2**9
ZEROS = 2**14  # zeros that relu compares with at a time
# Multiplications up to which OpenBLAS multiplies without packing, where it has AVX-512
# (kernel/x86_64/sgemm_small_kernel_permit_skylakex.c). Pieces of fewer rows are slower than
# one product: there with 17 rows, and without AVX-512 with 27.
PIECE, PIECE_ROWS = 10**6, 64
FEW_CHANNELS = 4  # up to which patches are copied column by column


# ----- Products and rows -----


def product(a: Array, b: Array, out: Array | None = None) -> Array:
    """a b: (..., m, k), (..., k, f) -> (..., m, f)."""
    if a.shape[-1] == b.shape[-2] == 1:
        return np.multiply(a, b, out=out)  # no sums: a third of a product's time
    if is_shared(b) and out is None:  # one large product
        rows = a.reshape(-1, a.shape[-1]) @ b[(0,) * (b.ndim - 2)]
        return rows.reshape(*a.shape[:-1], b.shape[-1])
    return np.matmul(a, b, out=out)


def _product_in_pieces(a: Array, b: Array, out: Array) -> None:
    """a b by pieces of a's many rows, if that is faster: (m, k), (k, f) -> out (m, f)."""
    (m, k), f = a.shape, b.shape[1]
    size = PIECE // max(k * f, 1)
    whole = m // size * size if size >= PIECE_ROWS else 0  # rows in whole pieces
    if whole:
        product(a[:whole].reshape(-1, size, k), b, out[:whole].reshape(-1, size, f))
    product(a[whole:], b, out[whole:])


def is_shared(b: Array) -> bool:
    """Return whether b is one matrix for all tasks, as before their first step."""
    return b.ndim > 2 and not any(b.strides[:-2])


def sum_rows(x: Array) -> Array:
    """Sum over the rows, (..., m, k) -> (..., 1, k), four times as fast as NumPy's sum."""
    return np.matmul(ones(x.shape[-2], x.dtype), x)


@lru_cache
def ones(m: int, dtype: np.dtype) -> Array:
    """A row (1, m) of ones."""
    return np.broadcast_to(np.ones((1, m), dtype), (1, m))  # read-only


def with_row(ufunc: np.ufunc, x: Array, row: Array) -> Array:
    """ufunc(x, row): (..., m, k), (..., 1, k) -> (..., m, k)."""
    run = _rows_in_a_run(x)
    return ufunc(_in_runs(x, run), _tiled(row, run)).reshape(x.shape)


def _rows_in_a_run(*arrays: Array) -> int:
    """Return how many rows of arrays (..., m, k) are best taken as one long row.

    NumPy begins a loop for each row; those of 32 entries take longer to begin than to
    compute. Small or non-contiguous arrays have one row in a run.
    """
    *_, m, k = arrays[0].shape
    if arrays[0].size < LARGE or not all(x.flags.c_contiguous for x in arrays):
        return 1
    return max(run for run in range(1, max(RUN_ENTRIES // k, 1) + 1) if m % run == 0)


def _in_runs(x: Array, run: int) -> Array:
    """A view of (..., m, k) as (..., m / run, run k)."""
    return x.reshape(*x.shape[:-2], -1, run * x.shape[-1]) if run > 1 else x


def _tiled(row: Array, run: int) -> Array:
    """The row that meets such runs: (..., 1, k) -> (..., 1, run k)."""
    return np.tile(row, run) if run > 1 else row


# ----- Convolution: images as patches -----


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int, int]:
    """Return (outputs, pad before, pad after) along one axis.

    TensorFlow's SAME: ceil(size / stride) outputs, the odd pixel of padding last.
    Raises ValueError unless size, kernel and stride are 1 or more.
    """
    if min(size, kernel, stride) < 1:
        wrong = f"size {size}, kernel {kernel}, stride {stride}"
        raise ValueError(f"a convolution needs sizes of 1 or more, not {wrong}")
    outputs = -(-size // stride)
    pad = max((outputs - 1) * stride + kernel - size, 0)
    return outputs, pad // 2, pad - pad // 2


def unfold(images: Array, kernel: int, stride: int) -> Array:
    """Image patches as rows: (..., n, h, w, c) -> (..., n * h' * w', kernel^2 * c)."""
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


def fold(patches: Array, kernel: int, stride: int, shape: tuple[int, ...]) -> Array:
    """Every patch added at its place in images of `shape`."""
    *lead, n, h, w, c = shape
    rows, top, _ = same_padding(h, kernel, stride)
    cols, left, _ = same_padding(w, kernel, stride)
    patches = patches.reshape(*lead, n, rows, cols, kernel, kernel * c)
    # The padded image in tiles of stride x stride: the part of a patch in one tile is added
    # for all patches at once, since no two of them fill the same tile. The first part is
    # copied, which is faster than to add it to zeros.
    more = (kernel - 1) // stride
    tiles = (rows + more, stride, cols + more, stride * c)
    padded = (np.empty if kernel >= stride else np.zeros)((*lead, n, *tiles), patches.dtype)
    padded[..., rows:, :, :, :] = padded[..., cols:, :] = 0
    for i in range(more + 1):
        for j in range(more + 1):
            i_span = slice(i * stride, (i + 1) * stride)
            j_span = slice(j * stride * c, (j + 1) * stride * c)
            part = patches[..., i_span, j_span].swapaxes(-2, -3)
            *_, tall, _, wide = part.shape
            place = padded[..., i : i + rows, :tall, j : j + cols, :wide]
            np.add(place, part, out=place) if i or j else np.copyto(place, part)
    padded = padded.reshape(*lead, n, tiles[0] * stride, tiles[2] * stride, c)
    return padded[..., top : top + h, left : left + w, :]


def conv(images: Array, weights: Array, kernel: int) -> Array:
    """Cross-correlate with stride 1, a few images at a time."""
    dtype = np.result_type(images, weights)
    out = np.empty((*images.shape[:-1], weights.shape[-1]), dtype)
    for x, w, y in _image_blocks(images, weights, out, kernel):
        _product_in_pieces(_patches(x, kernel), w, y.reshape(-1, y.shape[-1]))
    return out


def conv_images(g: Array, weights: Array, kernel: int) -> Array:
    """The adjoint of conv in its images: (..., n, h, w, f) -> (..., n, h, w, c)."""
    if kernel % 2:
        # Both sides are padded alike, so this is a correlation too. It is faster than fold.
        return conv(g, _turned(weights, kernel), kernel)
    dtype = np.result_type(g, weights)
    out = np.empty((*g.shape[:-1], weights.shape[-2] // kernel**2), dtype)
    for x, w, y in _image_blocks(out, weights, g, kernel):
        patches = product(y.reshape(-1, y.shape[-1]), w.T)
        x[...] = fold(patches, kernel, 1, x.shape)
    return out


def conv_weights(images: Array, g: Array, kernel: int) -> Array:
    """The adjoint of conv in its weights: -> (..., kernel^2 * c, f)."""
    rows = kernel**2 * images.shape[-1]
    out = np.zeros((*images.shape[:-4], rows, g.shape[-1]), np.result_type(images, g))
    for x, w, y in _image_blocks(images, out, g, kernel):
        w += product(_patches(x, kernel).T, y.reshape(-1, y.shape[-1]))
    return out


def _turned(weights: Array, kernel: int) -> Array:
    """Kernels turned by half a turn, channels in and out exchanged.

    (..., kernel^2 * c, f) -> (..., kernel^2 * f, c)
    """
    *lead, rows, f = weights.shape
    kernels = weights.reshape(*lead, kernel**2, rows // kernel**2, f)
    return kernels[..., ::-1, :, :].swapaxes(-1, -2).reshape(*lead, kernel**2 * f, -1)


def _patches(images: Array, kernel: int) -> Array:
    """Return unfold(images, kernel, 1) of (n, h, w, c)."""
    n, h, w, c = images.shape
    if c > FEW_CHANNELS:
        return unfold(images, kernel, 1)
    # A column at a time: a row of a patch is too short to be copied quickly.
    before = (kernel - 1) // 2
    padded = np.zeros((c, n, h + kernel - 1, w + kernel - 1), images.dtype)
    padded[:, :, before : h + before, before : w + before] = np.moveaxis(images, -1, 0)
    columns = np.empty((kernel, kernel, c, n, h, w), images.dtype)
    for i in range(kernel):
        for j in range(kernel):
            columns[i, j] = padded[:, :, i : i + h, j : j + w]
    return columns.reshape(-1, n * h * w).T


def _image_blocks(
    images: Array, weights: Array, outputs: Array, kernel: int
) -> Iterator[tuple]:
    """Yield views: some images of a task, its weights, and the outputs of these images.

    The patches of the images take PATCH_BYTES. The caller writes into one of the three.
    """
    size = max(1, PATCH_BYTES // (kernel**2 * images[(0,) * (images.ndim - 3)].nbytes))
    images, outputs = (a.reshape(-1, *a.shape[-4:]) for a in (images, outputs))
    weights = weights.reshape(-1, *weights.shape[-2:])
    for x, w, y in zip(images, weights, outputs, strict=True):
        for i in range(0, len(x), size):
            yield x[i : i + size], w, y[i : i + size]


# ----- Max pooling -----


def pool(images: Array) -> tuple[Array, Array]:
    """The first maximum of each 2x2 window, and its index into flat `images`.

    Both (..., h//2, w//2, c). The images are read from memory once, some at a time.
    """
    *lead, h, w, c = images.shape
    images = images.reshape(-1, h, w, c)
    maxima = np.empty((len(images), h // 2, w // 2, c), images.dtype)
    choice = np.empty(maxima.shape, np.intp)
    rows, columns = 2 * np.arange(h // 2)[:, None, None], 2 * np.arange(w // 2)[:, None]
    upper_left = ((rows * w + columns) * c + np.arange(c)).astype(np.int32)
    size = max(1, IMAGE_BYTES // (h * w * c * images.itemsize))
    for i in range(0, len(images), size):
        even = images[i : i + size, : h // 2 * 2, : w // 2 * 2]
        below, right = _first_maximum(even, out=maxima[i : i + size])
        # Within an image int32 is enough, and takes half the time.
        place = below.astype(np.int32)
        place *= w
        place += right
        place *= c
        place += upper_left
        start = h * w * c * np.arange(i, i + len(even))
        np.add(place, start[:, None, None, None], out=choice[i : i + size])
    shape = *lead, h // 2, w // 2, c
    return maxima.reshape(shape), choice.reshape(shape)


def _first_maximum(images: Array, out: Array) -> tuple[Array, Array]:
    """Return whether the first maximum of each window ((a, b), (d, e)) is below, and right.

    images: (n, h, w, c), h and w even; out: gets the maxima
    """
    a, b, d, e = (images[:, y::2, x::2] for y in (0, 1) for x in (0, 1))
    top, bottom = np.maximum(a, b), np.maximum(d, e)
    nans = bool(np.isnan(np.maximum(top, bottom, out=out)).any())
    below = _exceeds(bottom, top, nans)
    right = _exceeds(b, a, nans)
    # right = (e > d where below, else b > a); np.where takes far longer.
    right ^= below & (right ^ _exceeds(e, d, nans))
    return below, right


def _exceeds(b: Array, a: Array, nans: bool) -> Array:
    # A nan exceeds all numbers, so that it is not lost. nans: whether there may be any.
    return (b > a) | ((b != b) & (a == a)) if nans else b > a


# ----- Batch normalisation and relu -----


def mean(x: Array) -> Array:
    """Mean over the rows."""
    return sum_rows(x) * (1.0 / x.shape[-2])


def mean_product(a: Array, b: Array) -> Array:
    """Mean of a b over the rows, without making a b whole."""
    sums = [sum_rows(_as_rows(x * y, a)) for x, y in _row_blocks((a, b))]
    return reduce(np.add, sums) * (1.0 / a.shape[-2])


def normalize_adjoint(g: Array, y: Array, r: Array) -> Array:
    """r (g - mean g - y mean(g y)), with means over the rows."""
    sums = [
        (sum_rows(_as_rows(g_rows, g)), sum_rows(_as_rows(g_rows * y_rows, g)))
        for g_rows, y_rows in _row_blocks((g, y))
    ]
    means = [reduce(np.add, each) * (1.0 / g.shape[-2]) for each in zip(*sums, strict=True)]
    out = np.empty_like(g)
    blocks = _row_blocks((g, y, out), (*means, r))
    for g_rows, y_rows, result, mean_g, mean_gy, r_row in blocks:
        np.multiply(y_rows, mean_gy, out=result)
        np.subtract(g_rows, result, out=result)
        result -= mean_g
        result *= r_row
    return out


def _row_blocks(arrays: Sequence[Array], rows: Sequence[Array] = ()) -> Iterator[tuple]:
    """Yield ROW_BYTES of each task's rows at a time, so that they stay in the caches.

    arrays: (..., m, k), of which it yields views; rows: (..., 1, k), which go with each of
    these. Both come in long runs.
    """
    run = _rows_in_a_run(*arrays)
    arrays = [_in_runs(x, run) for x in arrays]
    rows = [_tiled(row, run) for row in rows]
    *_, m, k = arrays[0].shape
    size = max(1, ROW_BYTES // (k * arrays[0].itemsize))
    for i in range(0, m, size):
        yield *(x[..., i : i + size, :] for x in arrays), *rows


def _as_rows(block: Array, x: Array) -> Array:
    """A block of x (..., m, k), which comes in long runs, as rows again."""
    return block.reshape(*x.shape[:-2], -1, x.shape[-1])


@lru_cache
def zeros(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """At most ZEROS zeros, of some last axes of the shape, for maximum.

    With an array of them it takes a third of the time that it takes with the number 0.
    """
    while prod(shape) > ZEROS:
        shape = shape[1:]
    return np.broadcast_to(np.zeros(shape, dtype), shape)  # read-only
