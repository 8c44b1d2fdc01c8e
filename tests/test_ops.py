"""Every primitive: derivatives to order 2, plain implementations, ties, float32."""

import re
from typing import NamedTuple

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from autograd.core import make_jvp, make_vjp
from hypothesis import given
from hypothesis import strategies as st
from numpy.linalg import norm
from numpy.random import default_rng

from gradients import check_derivatives, check_keeps_float32, watch
from tinymaml import kernels, ops


def close(a, b, tolerance):
    """Is a - b at most `tolerance` of b's norm? Shapes must be equal."""
    return np.shape(a) == np.shape(b) and norm(a - b) <= tolerance * norm(b)


# ----- Drawing -----


class Sizes(NamedTuple):
    lead: tuple[int, ...]
    n: int
    h: int
    w: int
    c: int
    m: int
    k: int
    f: int
    kernel: int
    stride: int

    @property
    def images(self):
        return (*self.lead, self.n, self.h, self.w, self.c)

    @property
    def rows(self):
        return (*self.lead, self.m, self.k)

    @property
    def patches(self):
        places = -(-self.h // self.stride) * -(-self.w // self.stride)
        return (*self.lead, self.n * places, self.kernel**2 * self.c)

    @property
    def weights(self):
        return (*self.lead, self.kernel**2 * self.c, self.f)

    @property
    def pooled(self):
        return (*self.lead, self.n, self.h // 2, self.w // 2, self.c)


def between(low, high):
    return st.integers(low, high)


sizes = st.builds(
    Sizes,
    lead=st.lists(between(1, 2), max_size=2).map(tuple),
    n=between(1, 2),
    h=between(2, 6),
    w=between(2, 6),
    c=between(1, 2),
    m=between(2, 6),
    k=between(1, 4),
    f=between(1, 3),
    kernel=st.sampled_from([1, 2, 3, 5]),
    stride=between(1, 3),
)
seeds = between(0, 2**32 - 1)


def spread(rng, shape):
    """Distinct values in random places, none within 0.01 of another or of zero."""
    size = int(np.prod(shape))
    values = np.arange(1, size + 1) * np.where(np.arange(size) % 2, 1, -1)
    return 0.01 * rng.permutation(values).reshape(shape)


def pool_choice(rng, s):
    """Which pixel of each window: that of random images' first maxima."""
    return ops._pool(rng.standard_normal(s.images))[1]


def _matmul(s, rng):
    shapes = (*s.lead, s.m, s.k), (*s.lead, s.k, s.f)
    return ops.matmul, *map(rng.standard_normal, shapes)


def _matmul_nt(s, rng):
    shapes = (*s.lead, s.m, s.k), (*s.lead, s.f, s.k)
    return ops.matmul_nt, *map(rng.standard_normal, shapes)


def _matmul_tn(s, rng):
    shapes = (*s.lead, s.m, s.k), (*s.lead, s.m, s.f)
    return ops.matmul_tn, *map(rng.standard_normal, shapes)


def _sum_rows(s, rng):
    return ops.sum_rows, rng.standard_normal(s.rows)


def _repeat_row(s, rng):
    return lambda row: ops.repeat_row(row, s.m), rng.standard_normal((*s.lead, 1, s.k))


def _add_row(s, rng):
    return ops.add_row, *map(rng.standard_normal, (s.rows, (*s.lead, 1, s.k)))


def _affine(s, rng):
    shapes = (*s.lead, s.m, s.k), (*s.lead, s.k, s.f), (*s.lead, 1, s.f)
    return ops.affine, *map(rng.standard_normal, shapes)


def _unfold(s, rng):
    return lambda x: ops.unfold(x, s.kernel, s.stride), rng.standard_normal(s.images)


def _fold(s, rng):
    def fold(patches):
        return ops.fold(patches, s.kernel, s.stride, s.images)

    return fold, rng.standard_normal(s.patches)


def _conv(s, rng):
    arrays = rng.standard_normal(s.images), rng.standard_normal(s.weights)
    return lambda x, w: ops.conv(x, w, s.stride), *arrays


def _conv_stride_1(s, rng):
    arrays = rng.standard_normal(s.images), rng.standard_normal(s.weights)
    return lambda x, w: ops._conv(x, w, s.kernel), *arrays


def _conv_images(s, rng):
    g = rng.standard_normal((*s.images[:-1], s.f))
    return lambda g, w: ops._conv_images(g, w, s.kernel), g, rng.standard_normal(s.weights)


def _conv_weights(s, rng):
    x, g = (rng.standard_normal((*s.images[:-1], k)) for k in (s.c, s.f))
    return lambda x, g: ops._conv_weights(x, g, s.kernel), x, g


def _max_pool(s, rng):
    return ops.max_pool, spread(rng, s.images)


def _pool_take(s, rng):
    choice = pool_choice(rng, s)
    return lambda x: ops._pool_take(x, choice), rng.standard_normal(s.images)


def _pool_put(s, rng):
    choice = pool_choice(rng, s)
    return lambda y: ops._pool_put(y, choice, s.images), rng.standard_normal(s.pooled)


def _normalize(s, rng):
    return ops.normalize, rng.standard_normal(s.rows)


def _normalize_wide(s, rng):
    return lambda x: ops.normalize(x, 0.5), rng.standard_normal(s.rows)


def _inverse_std(s, rng):
    return ops.inverse_std, rng.standard_normal(s.rows)


def _inverse_std_wide(s, rng):
    return lambda x: ops.inverse_std(x, 0.5), rng.standard_normal(s.rows)


def _normalize_adjoint(s, rng):
    g, y = rng.standard_normal(s.rows), rng.standard_normal(s.rows)
    return ops._normalize_adjoint, g, y, rng.uniform(0.3, 2, (*s.lead, 1, s.k))


def _center(s, rng):
    return ops.center, rng.standard_normal(s.rows)


def _relu(s, rng):
    return ops.relu, spread(rng, s.rows)


def _square(s, rng):
    return ops.square, spread(rng, s.rows)


def _leaky_relu(s, rng):
    return ops.leaky_relu, spread(rng, s.rows)


def _gate(s, rng):
    mask = ops._positive(spread(rng, s.rows).astype(np.float32))
    return lambda x: ops._gate(x, mask), rng.standard_normal(s.rows)


def _select(s, rng):
    mask = ops.one_hot(rng.integers(0, s.k, s.rows[:-1]), s.k)
    return lambda x: ops.select(x, mask), rng.standard_normal(s.rows)


def _log_softmax(s, rng):
    return ops.log_softmax, 3 * rng.standard_normal(s.rows)


CASES = [
    _matmul,
    _matmul_nt,
    _matmul_tn,
    _sum_rows,
    _repeat_row,
    _add_row,
    _affine,
    _unfold,
    _fold,
    _conv,
    _conv_stride_1,
    _conv_images,
    _conv_weights,
    _max_pool,
    _pool_take,
    _pool_put,
    _normalize,
    _normalize_wide,
    _inverse_std,
    _inverse_std_wide,
    _normalize_adjoint,
    _center,
    _relu,
    _square,
    _leaky_relu,
    _gate,
    _select,
    _log_softmax,
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__[1:])


# ----- Derivatives -----


@every_case
@given(s=sizes, seed=seeds)
def test_derivatives_are_right_to_order_two(case, s, seed):
    """Rejects a rule with a wrong sign, factor, axis or padding, and a wrong own rule."""
    rng = default_rng(seed)
    f, *arrays = case(s, rng)
    check_derivatives(f, *arrays, rng=rng)


@pytest.mark.parametrize(
    "case",
    [
        *(_matmul, _matmul_nt, _matmul_tn, _add_row, _affine, _normalize_adjoint),
        *(_conv, _conv_stride_1, _conv_images, _conv_weights),
    ],
    ids=lambda case: case.__name__[1:],
)
@given(s=sizes, seed=seeds)
def test_derivatives_by_each_argument_alone(case, s, seed):
    """Rejects two rules in each other's place, where a joint check could mix them up."""
    rng = default_rng(seed)
    f, *arrays = case(s, rng)
    for i, array in enumerate(arrays):
        before, after = arrays[:i], arrays[i + 1 :]
        check_derivatives(partial_by(f, before, after), array, rng=rng)


def partial_by(f, before, after):
    """Return f as a function of the argument between `before` and `after`."""
    return lambda array: f(*before, array, *after)


@every_case
@given(s=sizes, seed=seeds)
def test_float32_stays_float32(case, s, seed):
    """Rejects a rule that multiplies by a float64 scalar or makes float64 zeros."""
    rng = default_rng(seed)
    f, *arrays = case(s, rng)
    check_keeps_float32(f, *arrays, rng=rng)


def test_the_checker_rejects_a_wrong_second_derivative():
    """Rejects a checker that stops at the first derivative: this rule is right once."""

    @ops.primitive
    def cube(x):
        return x**3

    # 3 x^2 as a constant: exact to order 1, zero where the second derivative is 6 x.
    ops.defvjp(cube, lambda _, x: lambda g: g * 3 * ops._value(x) ** 2)
    ops.defjvp(cube, lambda g, _, x: g * 3 * ops._value(x) ** 2)
    rng = default_rng(0)
    x = rng.standard_normal(4)
    check_derivatives(cube, x, rng=rng, order=1)
    with pytest.raises(AssertionError):
        check_derivatives(cube, x, rng=rng, order=2)


def test_the_checker_rejects_a_vjp_that_is_not_the_jvp_transposed():
    """Rejects a checker that looks at the forward rule only."""

    @ops.primitive
    def double(x):
        return 2 * x

    ops.defvjp(double, lambda _, x: lambda g: 2.000001 * g)
    ops.defjvp(double, lambda g, _, x: 2 * g)
    rng = default_rng(0)
    with pytest.raises(AssertionError):
        check_derivatives(double, rng.standard_normal(4), rng=rng, order=1)


@pytest.mark.parametrize(
    "leaking",
    [
        anp.mean,
        lambda x: anp.maximum(x, 0),
        lambda x: anp.var(x, axis=0),
        lambda x: anp.max(x, axis=0),
        lambda x: x * np.float64(2),
    ],
    ids=["mean", "maximum", "var", "max", "float64 scalar"],
)
def test_the_float32_checker_rejects_what_leaks(leaking):
    """Rejects a watch that misses autograd's float64 backward passes."""
    rng = default_rng(0)
    with pytest.raises(AssertionError):
        check_keeps_float32(leaking, rng.standard_normal((3, 2)), rng=rng)


@given(s=sizes, seed=seeds)
def test_normalize_has_the_textbook_hessian(s, seed):
    """Rejects a second derivative that forgets how the statistics move with x."""
    rng = default_rng(seed)
    x, u, w = (rng.standard_normal(s.rows) for _ in range(3))

    def textbook(x):
        mean = anp.sum(x, axis=-2, keepdims=True) / s.m
        var = anp.sum((x - mean) ** 2, axis=-2, keepdims=True) / s.m
        return (x - mean) / anp.sqrt(var + 1e-3)

    def hessian_times_u(f):
        gradient = grad(lambda x: anp.sum(w * anp.sin(f(x))))
        return make_vjp(gradient, x)[0](u)

    # Absolute: two rows make the product cancel to a small part of its terms.
    difference = hessian_times_u(ops.normalize) - hessian_times_u(textbook)
    assert norm(difference) <= 1e-10 * max(1, norm(hessian_times_u(textbook)))


@given(s=sizes, seed=seeds)
def test_normalize_is_right_in_a_third_derivative(s, seed):
    """Rejects statistics taken as constant in the wrong one of three nested traces."""
    rng = default_rng(seed)
    check_derivatives(ops.normalize, rng.standard_normal(s.rows), rng=rng, order=3)


# ----- Linear maps and their adjoints -----


def check_adjoint(f, back, x, rng):
    """<f(x), y> = <x, back(y)> to 1e-12 of the norms: sums in another order."""
    fx = f(x)
    y = rng.standard_normal(fx.shape)
    assert abs(np.vdot(fx, y) - np.vdot(x, back(y))) <= 1e-12 * norm(x) * norm(y)


@given(s=sizes, seed=seeds)
def test_fold_is_the_adjoint_of_unfold(s, seed):
    """Rejects a fold that pads on the other side or writes where it must add."""
    rng = default_rng(seed)
    check_adjoint(
        lambda x: ops.unfold(x, s.kernel, s.stride),
        lambda y: ops.fold(y, s.kernel, s.stride, s.images),
        rng.standard_normal(s.images),
        rng,
    )


@pytest.mark.parametrize("place", range(4))
def test_max_pool_keeps_a_nan(place):
    """Rejects a diverged pixel that loses against its neighbours."""
    window = np.arange(4.0)
    window[place] = np.nan
    assert np.isnan(ops.max_pool(window.reshape(2, 2, 1))).all()


@pytest.mark.parametrize("shape", [(1, 0, 4, 2), (0, 4, 4, 2), (1, 1, 4, 2), (1, 4, 4, 0)])
def test_max_pool_of_nothing_is_refused(shape):
    """Rejects images without a pixel, which a head reads as nothing at all."""
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        ops.max_pool(np.ones(shape))


@pytest.mark.parametrize("case", [_conv_stride_1, _conv_images, _conv_weights])
@given(s=sizes, seed=seeds, few=st.integers(1, 3))
def test_a_few_images_at_a_time_are_all(case, s, seed, few):
    """Rejects images that are left out or counted twice between two parts."""
    f, *arrays = case(s, default_rng(seed))
    patches = kernels.PATCH_BYTES
    try:
        kernels.PATCH_BYTES = few * 8 * s.kernel**2 * s.c * s.h * s.w
        found = f(*arrays)
    finally:
        kernels.PATCH_BYTES = patches
    np.testing.assert_allclose(found, f(*arrays), atol=1e-12)


@pytest.mark.parametrize("piece", [1, 2**7, 2**8, 2**20])
def test_a_product_in_pieces_is_the_product(monkeypatch, piece):
    """Rejects rows after the last whole piece that are left out or computed twice."""
    images, weights = map(default_rng(0).standard_normal, [(2, 3, 5, 4, 2), (2, 18, 3)])
    whole = ops.conv(images, weights)
    monkeypatch.setattr(kernels, "PIECE", piece)
    monkeypatch.setattr(kernels, "PIECE_ROWS", 1)
    np.testing.assert_allclose(ops.conv(images, weights), whole, rtol=1e-12, atol=1e-12)
    kernels_of = weights.reshape(2, 3, 3, 2, 3)
    loop = [plain_conv(x, w, 1) for x, w in zip(images, kernels_of, strict=True)]
    np.testing.assert_allclose(whole, loop, rtol=1e-12, atol=1e-12)


@given(s=sizes, seed=seeds)
def test_pool_put_is_the_adjoint_of_pool_take(s, seed):
    """Rejects a put that writes to another pixel of the window than take reads."""
    rng = default_rng(seed)
    choice = pool_choice(rng, s)
    check_adjoint(
        lambda x: ops._pool_take(x, choice),
        lambda y: ops._pool_put(y, choice, s.images),
        rng.standard_normal(s.images),
        rng,
    )


@given(s=sizes, seed=seeds)
def test_center_is_its_own_adjoint(s, seed):
    """Rejects a mean over the wrong axis."""
    rng = default_rng(seed)
    check_adjoint(ops.center, ops.center, rng.standard_normal(s.rows), rng)


@given(s=sizes, seed=seeds)
def test_the_three_products_are_each_others_adjoints(s, seed):
    """Rejects a transposed factor in any of the six rules of the trio."""
    rng = default_rng(seed)
    a = rng.standard_normal((*s.lead, s.m, s.k))
    b = rng.standard_normal((*s.lead, s.k, s.f))
    g = rng.standard_normal((*s.lead, s.m, s.f))
    value = np.vdot(ops.matmul(a, b), g)
    allowed = 1e-12 * norm(a) * norm(b) * norm(g)
    assert abs(value - np.vdot(a, ops.matmul_nt(g, b))) <= allowed
    assert abs(value - np.vdot(b, ops.matmul_tn(a, g))) <= allowed


# ----- Plain implementations -----


def plain_padding(size, kernel, stride):
    """TensorFlow's SAME in its documentation's words: (outputs, pad before)."""
    over = size % stride
    pad = max(kernel - (stride if over == 0 else over), 0)
    return int(np.ceil(size / stride)), pad // 2


def plain_conv(images, weights, stride):
    """Cross-correlation of (n, h, w, c) with (kernel, kernel, c, f) by six loops."""
    (n, h, w, channels), (kernel, _, _, f) = images.shape, weights.shape
    rows, top = plain_padding(h, kernel, stride)
    cols, left = plain_padding(w, kernel, stride)
    out = np.zeros((n, rows, cols, f))
    for image in range(n):
        for row in range(rows):
            for col in range(cols):
                for i in range(kernel):
                    for j in range(kernel):
                        for c in range(channels):
                            y, x = row * stride + i - top, col * stride + j - left
                            if 0 <= y < h and 0 <= x < w:
                                out[image, row, col] += (
                                    images[image, y, x, c] * weights[i, j, c]
                                )
    return out


def plain_max_pool(images):
    """2x2 maxima of (n, h, w, c) by loops; an odd last row or column is dropped."""
    n, h, w, c = images.shape
    out = np.empty((n, h // 2, w // 2, c))
    for image, row, col, channel in np.ndindex(out.shape):
        corner = images[image, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2, channel]
        out[image, row, col, channel] = max(corner.ravel().tolist())
    return out


def plain_batch_norm(x, eps=1e-3):
    """Normalise (..., m, k) over its rows."""
    mean, var = np.mean(x, axis=-2, keepdims=True), np.var(x, axis=-2, keepdims=True)
    return (x - mean) / np.sqrt(var + eps)


@given(
    h=between(1, 7),
    w=between(1, 7),
    c=between(1, 3),
    kernel=st.sampled_from([1, 3, 5]),
    stride=between(1, 2),
    seed=seeds,
)
def test_conv_is_the_loop_with_tensorflow_padding(h, w, c, kernel, stride, seed):
    """Rejects padding on the wrong side, a flipped kernel, swapped rows and columns."""
    rng = default_rng(seed)
    images = rng.standard_normal((2, 2, h, w, c))
    weights = rng.standard_normal((2, kernel, kernel, c, 3))
    out = ops.conv(images, weights.reshape(2, kernel * kernel * c, 3), stride)
    # At most 75 products per sum: a few roundings of 2e-16.
    for task in range(2):
        plain = plain_conv(images[task], weights[task], stride)
        assert close(out[task], plain, 1e-12)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (28, 3, 2, (14, 0, 1)),
        (7, 3, 2, (4, 1, 1)),
        (84, 3, 1, (84, 1, 1)),
        (6, 2, 1, (6, 0, 1)),
        (5, 5, 2, (3, 2, 2)),
        (4, 1, 2, (2, 0, 0)),
        (1, 5, 1, (1, 2, 2)),
    ],
)
def test_same_padding_counted_by_hand(size, kernel, stride, expected):
    """Rejects the odd pixel of padding put first, as a centred convolution has it."""
    assert kernels.same_padding(size, kernel, stride) == expected


@given(n=between(1, 3), h=between(2, 7), w=between(2, 7), c=between(1, 3), seed=seeds)
def test_max_pool_is_the_loop(n, h, w, c, seed):
    """Rejects windows that overlap or wrap, and an odd last row that is kept."""
    images = default_rng(seed).standard_normal((2, n, h, w, c))
    plain = np.stack([plain_max_pool(task) for task in images])
    assert np.array_equal(ops.max_pool(images), plain)


@given(s=sizes, eps=st.sampled_from([1e-3, 0.5]), seed=seeds)
def test_normalize_is_the_textbook_expression(s, eps, seed):
    """Rejects a variance over m - 1, a missing eps and statistics across tasks."""
    x = 3 + 2 * default_rng(seed).standard_normal(s.rows)
    # A mean of 3 costs a digit of x - mean, and two close rows another.
    assert close(ops.normalize(x, eps), plain_batch_norm(x, eps), 1e-12)
    std = np.sqrt(np.var(x, axis=-2, keepdims=True) + eps)
    assert close(ops.inverse_std(ops.center(x), eps), 1 / std, 1e-12)


def test_the_default_eps_is_one_thousandth():
    """Rejects another library's default eps (1e-5)."""
    x = np.array([[-0.01], [0.01]])
    expected = x / np.sqrt(0.0001 + 0.001)
    assert close(ops.normalize(x), expected, 1e-14)  # a few roundings
    assert close(ops.inverse_std(x), 1 / np.sqrt([[0.0011]]), 1e-14)


@given(s=sizes, seed=seeds)
def test_log_softmax_is_the_logarithm_of_the_softmax(s, seed):
    """Rejects a sum over the wrong axis."""
    x = 3 * default_rng(seed).standard_normal(s.rows)
    shares = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    # Where a share is nearly 1 its logarithm keeps the share's absolute rounding, 2e-16.
    assert np.abs(ops.log_softmax(x) - np.log(shares)).max() <= 1e-13


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_softmax_is_finite_for_huge_logits(dtype):
    """Rejects exp without the maximum taken off, in the value and both derivatives."""
    x = np.array([[1e4, -1e4, 0], [1e4, 1e4, 1e4], [-1e4, -1e4, 1e4]], dtype)
    w = np.ones_like(x)
    w[:, 0] = 2
    gradient = grad(lambda x: anp.sum(w * ops.log_softmax(x)))
    hessian_times_w, _ = make_vjp(gradient, x)
    values = ops.log_softmax(x)
    expected = [[0, -2e4, -1e4], [-np.log(3)] * 3, [-2e4, -2e4, 0]]
    # -log 3 beside a shift of 1e4 that is exact: one rounding of the result's precision.
    assert np.allclose(values, expected, rtol=1e-6, atol=0)
    assert np.isfinite(gradient(x)).all()
    assert np.isfinite(hessian_times_w(w)).all()


# ----- Ties -----


def slopes(f, x):
    """The reverse and the forward derivative of sum f along a vector of ones."""
    vjp, y = make_vjp(f, x)
    return vjp(np.ones_like(y)), make_jvp(f, x)(np.ones_like(x))[1]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_relu_has_slope_zero_at_zero(zero):
    """Rejects relu'(0) = 1, and the 1/2 of autograd's maximum."""
    x = np.array([-1.0, zero, 2.0])
    assert np.array_equal(ops.relu(x), [0, 0, 2])
    for slope in slopes(ops.relu, x):
        assert np.array_equal(slope, [0, 0, 1])
    assert np.array_equal(ops._positive(x), [0, 0, 1])


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_leaky_relu_has_the_slope_of_its_left_side_at_zero(zero):
    """Rejects 0.2 or 0.1 for 0.01, slope 1 or 0 at zero, and a leak of the right side."""
    x = np.array([-3.0, zero, 2.0])
    np.testing.assert_array_equal(ops.leaky_relu(x), [-0.03, 0, 2])
    for slope in slopes(ops.leaky_relu, x):
        np.testing.assert_array_equal(slope, [0.01, 0.01, 1])


def test_leaky_relu_keeps_a_nan():
    """Rejects a comparison that turns nan into a number, and hides divergence."""
    assert np.isnan(ops.leaky_relu(np.array([np.nan]))).all()


@pytest.mark.parametrize(
    ("window", "first"),
    [
        ([[1, 1], [1, 1]], (0, 0)),
        ([[0, 1], [1, 1]], (0, 1)),
        ([[0, 1], [1, 0]], (0, 1)),
        ([[0, 0], [1, 1]], (1, 0)),
        ([[1, 0], [0, 1]], (0, 0)),
        ([[0, 1], [0, 1]], (0, 1)),
    ],
)
def test_max_pool_passes_the_gradient_to_the_first_maximum(window, first):
    """Rejects the last maximum, column by column order, and a gradient that is split."""
    images = np.zeros((1, 3, 5, 2))
    images[0, :2, 2:4, 1] = window
    vjp, y = make_vjp(ops.max_pool, images)
    cotangent = np.zeros_like(y)
    cotangent[0, 0, 1, 1] = 7
    expected = np.zeros_like(images)
    expected[0, first[0], 2 + first[1], 1] = 7
    assert np.array_equal(vjp(cotangent), expected)
    tangent = make_jvp(ops.max_pool, images)(expected)[1]
    assert np.array_equal(tangent, cotangent)


# ----- Errors -----


# The shapes of the last axes of each product's arguments.
PRODUCTS = {
    ops.matmul: lambda s: ((s.m, s.k), (s.k, s.f)),
    ops.matmul_nt: lambda s: ((s.m, s.k), (s.f, s.k)),
    ops.matmul_tn: lambda s: ((s.m, s.k), (s.m, s.f)),
}
BROADCAST = ((), (0,), (1,), (0, 1))  # leading axes along which an argument is repeated


@pytest.mark.parametrize("of_b", BROADCAST)
@pytest.mark.parametrize("of_a", BROADCAST)
@pytest.mark.parametrize("product", PRODUCTS)
@given(s=sizes, seed=seeds)
def test_repeated_matrices_are_as_good_as_their_copies(product, of_a, of_b, s, seed):
    """Rejects one large product whose rows come back to another task, and the first
    matrix for all tasks where it is repeated along some of the leading axes only."""
    rng, arguments = default_rng(seed), []
    for shape, axes in zip(PRODUCTS[product](s), (of_a, of_b), strict=True):
        counts = [1 if axis in axes else size for axis, size in enumerate((3, 2))]
        matrices = rng.standard_normal((*counts, *shape))
        arguments.append(np.broadcast_to(matrices, (3, 2, *shape)))
    expected = product(*(x.copy() for x in arguments))
    assert close(product(*arguments), expected, 1e-14)


@pytest.mark.parametrize("product", [ops.matmul, ops.matmul_nt, ops.matmul_tn])
def test_products_refuse_to_broadcast_leading_axes(product):
    """Rejects a silent broadcast, whose vjp would have the wrong shape."""
    with pytest.raises(ValueError, match=r"not \(2, 3, 3\) and \(3, 3\)"):
        product(np.ones((2, 3, 3)), np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"not \(2, 3, 3\) and \(1, 3, 3\)"):
        product(np.ones((2, 3, 3)), np.ones((1, 3, 3)))


@pytest.mark.parametrize("product", [ops.matmul.fun, kernels.product])
def test_products_refuse_to_broadcast_inner_axes(product):
    """Rejects an outer product where one of two inner axes is 1."""
    for one, other in (((4, 1), (4, 5)), ((4, 4), (1, 4)), ((1, 1), (3, 1))):
        with pytest.raises(ValueError, match=r"size|mismatch|aligned"):
            product(np.ones((2, *one)), np.ones((2, *other)))


@pytest.mark.parametrize("rows", [8, 18, 10])
def test_conv_refuses_weights_that_are_no_square_kernel(rows):
    """Rejects a kernel size that is rounded and then used."""
    with pytest.raises(ValueError, match=f"{rows} rows of weights for 1 channels"):
        ops.conv(np.ones((1, 5, 5, 1)), np.ones((rows, 2)))


@every_case
def test_arguments_and_cotangents_are_left_alone(case):
    """Rejects work done in place on arrays that the caller holds."""
    rng = default_rng(0)
    s = Sizes((2,), n=2, h=5, w=4, c=2, m=3, k=2, f=3, kernel=3, stride=2)
    f, *arrays = case(s, rng)
    before = [array.copy() for array in arrays]
    for i, array in enumerate(arrays):
        vjp, y = make_vjp(partial_by(f, arrays[:i], arrays[i + 1 :]), array)
        w = np.ones_like(y)
        vjp(w)
        assert (w == 1).all()
    assert all(map(np.array_equal, arrays, before))


def test_the_watch_sees_values_cotangents_and_tangents():
    """Rejects a watch that is deaf to the forward or to the backward pass."""
    with watch() as seen:
        vjp, _ = make_vjp(ops.relu, np.ones(2))
        vjp(np.ones(2))
        make_jvp(ops.relu, np.ones(2))(np.ones(2))
    assert seen["float64"] == {"_relu: value", "_relu: cotangent", "_relu: tangent"}


# ----- What is refused -----

ONES = np.ones((2, 3))
IMAGE = np.ones((1, 4, 4, 2))
CALLS = {
    "matmul": lambda x: ops.matmul(x, ONES.T),
    "matmul_nt": lambda x: ops.matmul_nt(x, ONES),
    "matmul_tn": lambda x: ops.matmul_tn(x, ONES),
    "sum_rows": ops.sum_rows,
    "repeat_row": lambda x: ops.repeat_row(x[:1], 2),
    "add_row": lambda x: ops.add_row(x, ONES[:1]),
    "affine": lambda x: ops.affine(x, ONES.T, ONES[:1, :2]),
    "unfold": lambda x: ops.unfold(x[None, ..., None], 1, 1),
    "fold": lambda x: ops.fold(x.reshape(-1, 1), 1, 1, (1, 2, 3, 1)),
    "conv": lambda x: ops.conv(x[None, ..., None], np.ones((9, 1))),
    "max_pool": lambda x: ops.max_pool(x[..., None]),
    "normalize": ops.normalize,
    "center": ops.center,
    "inverse_std": ops.inverse_std,
    "relu": ops.relu,
    "leaky_relu": ops.leaky_relu,
    "log_softmax": ops.log_softmax,
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool, object])
def test_only_floating_point_is_taken(name, dtype):
    """Rejects sums of bytes that wrap around, and a leak of 0 for integers."""
    CALLS[name](ONES)
    with pytest.raises(
        TypeError, match=f"takes floating-point arrays, not {ONES.astype(dtype).dtype}"
    ):
        CALLS[name](ONES.astype(dtype))


@pytest.mark.parametrize("name", CALLS)
def test_empty_arrays_are_refused(name):
    """Rejects an IndexError from the inside, and a result made of no number."""
    with pytest.raises(ValueError, match=r"takes shapes .*, none of them empty, not .*0"):
        CALLS[name](np.ones((2, 0)))


@pytest.mark.parametrize(
    ("f", "shapes"),
    [
        (ops.add_row, [(2, 3), (3,)]),
        (ops.add_row, [(2, 3), (2, 3)]),
        (ops.add_row, [(2, 3), (1, 1)]),
        (ops.affine, [(2, 3), (3, 4), (4,)]),
        (ops.affine, [(2, 3), (3, 4), (2, 4)]),
        (ops.affine, [(2, 3), (3, 4), (1, 1)]),
        (ops.affine, [(5, 2, 3), (5, 3, 4), (1, 4)]),
        (ops.matmul, [(2, 3), (2, 3)]),
        (ops.matmul, [(3,), (3, 2)]),
        (lambda row: ops.repeat_row(row, 3), [(2, 3)]),
        (ops.conv, [(5, 1, 4, 4, 2), (18, 3)]),
        (ops.conv, [(4, 4, 2), (18, 3)]),
    ],
)
def test_shapes_that_only_broadcast_are_refused(f, shapes):
    """Rejects a value that is right beside a gradient of another shape."""
    with pytest.raises(ValueError, match=re.escape(" and ".join(map(str, shapes)))):
        f(*map(np.ones, shapes))


def test_arrays_only():
    """Rejects a list, which NumPy would take and autograd would not differentiate."""
    with pytest.raises(TypeError, match="log_softmax takes NumPy arrays, not a list"):
        ops.log_softmax([1.0, 2.0])


@pytest.mark.parametrize("sizes", [(0, 3, 1), (5, 0, 1), (5, 3, 0), (5, 3, -1)])
def test_convolutions_have_sizes(sizes):
    """Rejects a stride of 0 and a negative one, which would give outputs of some size."""
    with pytest.raises(ValueError, match="sizes of 1 or more"):
        kernels.same_padding(*sizes)
    with pytest.raises(ValueError, match=r"sizes of 1 or more|none of them empty"):
        ops.unfold(np.ones((1, sizes[0], 4, 1)), *sizes[1:])


@pytest.mark.parametrize("eps", [-1e-3, float("nan")])
def test_a_negative_eps_is_refused(eps):
    """Rejects the square root of a variance made negative."""
    with pytest.raises(ValueError, match="eps must be 0 or more"):
        ops.normalize(ONES, eps)


# ----- Extreme values -----


def test_relu_of_infinities_and_nan():
    """Rejects -inf * 0, which is nan, and a nan that becomes 0."""
    x = np.array([-np.inf, -1.0, -0.0, 2.0, np.inf])
    assert ops.relu(x).tolist() == [0, 0, 0, 2, np.inf]
    assert grad(lambda x: anp.sum(ops.relu(x)[:4]))(x).tolist() == [0, 0, 0, 1, 0]
    assert np.isnan(ops.relu(np.array([np.nan]))).all()
    assert np.isneginf(ops.leaky_relu(x)[0])


def test_conv_has_the_precision_of_both():
    """Rejects float64 weights whose products are rounded to the images' float32."""
    rng = default_rng(0)
    images, weights = rng.standard_normal((1, 4, 4, 2)), rng.standard_normal((18, 3))
    single = images.astype(np.float32)
    for stride in (1, 2):
        found = ops.conv(single, weights, stride)
        assert found.dtype == np.float64
        assert close(found, ops.conv(single.astype(float), weights, stride), 1e-14)


@given(k=between(2, 5), seed=seeds)
def test_a_class_at_minus_infinity_is_no_class(k, seed):
    """Rejects nan for a class that a mask of -inf excludes."""
    x = default_rng(seed).standard_normal((3, k))
    masked = np.concatenate([x, np.full((3, 1), -np.inf)], axis=-1)
    assert close(ops.log_softmax(masked)[:, :-1], ops.log_softmax(x), 1e-14)
    assert np.isneginf(ops.log_softmax(masked)[:, -1]).all()


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [1, 2, 3]])
def test_labels_out_of_range_are_refused(labels):
    """Rejects a row of zeros, which a loss counts as an example that is right."""
    with pytest.raises(ValueError, match=r"a label of 3 classes is 0 to 2, not (3|-1)"):
        ops.one_hot(np.array(labels), 3)


@pytest.mark.parametrize("labels", [[0.0, 1.0], [True, False], ["a", "b"]])
def test_labels_are_integers(labels):
    """Rejects floats, which are compared for equality, and truth values."""
    with pytest.raises(TypeError, match="labels must be integers"):
        ops.one_hot(np.array(labels), 3)


# ----- What gives a plausible figure unless it is refused -----

NAMED = {
    "relu": lambda: ops.relu(x=np.array([1, 2])),
    "max_pool": lambda: ops.max_pool(images=np.ones((2, 2, 1), int)),
    "conv": lambda: ops.conv(
        images=np.full((1, 4, 4, 1), 200, "uint8"), weights=np.ones((9, 1), "uint8")
    ),
    "add_row": lambda: ops.add_row(np.ones((2, 3)), row=np.ones((2, 3))),
    "affine": lambda: ops.affine(np.ones((2, 3)), np.ones((3, 2)), b=np.ones((2, 2))),
}


@pytest.mark.parametrize("name", NAMED)
def test_arrays_are_given_by_position(name):
    """Rejects an array that is not checked, nor traced, because it is given by name."""
    with pytest.raises(TypeError, match=f"{name} takes its arrays by position"):
        NAMED[name]()


@pytest.mark.parametrize("kind", [np.ma.array, np.asmatrix])
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_an_array_is_neither_masked_nor_a_matrix(kind):
    """Rejects masked entries that count, and the product of matrices for a square."""
    with pytest.raises(TypeError, match=r"NumPy arrays, not a (MaskedArray|matrix)"):
        ops.relu(kind(ONES))


def test_masked_labels_are_refused():
    """Rejects a label that counts although it is masked."""
    with pytest.raises(TypeError, match="integers, not masked"):
        ops.one_hot(np.ma.array([0, 1], mask=[False, True]), 2)


@pytest.mark.parametrize("stride", [0, -1])
def test_a_stride_is_one_or_more(stride):
    """Rejects a division by zero where the docstring has a ValueError."""
    with pytest.raises(ValueError, match=f"stride {stride}"):
        ops.conv(np.ones((1, 4, 4, 1)), np.ones((9, 1)), stride)


@pytest.mark.parametrize(
    ("patches", "shape"), [((2, 16, 9), (1, 4, 8, 1)), ((16, 9), (1, 5, 5, 1))]
)
def test_patches_belong_to_the_images(patches, shape):
    """Rejects the patches of two tasks that are read as those of one wider image."""
    with pytest.raises(ValueError, match=re.escape(f"not {patches}")):
        ops.fold(np.ones(patches), 3, 1, shape)


MASKS = [
    np.array([[True, False]]),
    np.ones((3, 2)),
    np.ones((2, 2), bool),
]


@pytest.mark.parametrize("mask", MASKS)
def test_a_mask_has_a_truth_value_for_each_entry(mask):
    """Rejects a mask that broadcasts, whose adjoint has another shape, and weights."""
    with pytest.raises(
        ValueError, match=r"a mask of \(3, 2\) is booleans of the same shape"
    ):
        ops.select(np.ones((3, 2)), mask)


def test_sizes_are_whole_and_positive():
    """Rejects three columns for 2.5 classes, no row, and a variance made negative."""
    with pytest.raises(TypeError, match="integer"):
        ops.one_hot(np.array([2]), 2.5)
    with pytest.raises(ValueError, match="once or more often, not 0 times"):
        ops.repeat_row(np.ones((1, 3)), 0)
    with pytest.raises(ValueError, match="eps must be 0 or more, not -1"):
        ops.inverse_std(ONES, -1.0)


# ----- Blocks -----


@pytest.mark.parametrize("lead", [(), (2,)])
@pytest.mark.parametrize("nans", [False, True])
def test_images_are_pooled_alike_in_blocks(monkeypatch, lead, nans):
    """Rejects indices of the first block for a later one, and a nan that only some see."""
    images = np.random.default_rng(0).standard_normal((*lead, 5, 5, 4, 3)).round()
    if nans:
        images[..., 3, 1, 1, 1] = np.nan
    whole = ops.max_pool(images)
    monkeypatch.setattr(kernels, "IMAGE_BYTES", 2 * images[(0,) * len(lead)][0].nbytes)
    maxima, choice = ops._pool(images)
    assert np.array_equal(maxima, whole, equal_nan=True)
    assert np.array_equal(images.reshape(-1)[choice], whole, equal_nan=True)
    assert np.isnan(whole).sum() == nans * np.prod(lead, dtype=int)


@pytest.mark.parametrize("lead", [(), (2,)])
def test_rows_are_normalised_alike_in_blocks(monkeypatch, lead):
    """Rejects a mean over some blocks only, and a block that is left as it was."""
    x, g = np.random.default_rng(0).standard_normal((2, *lead, 7, 3))
    function = grad(lambda at: anp.sum(g * ops.normalize(at)))
    whole = ops.normalize(x), function(x)
    monkeypatch.setattr(kernels, "ROW_BYTES", 2 * 3 * x.itemsize)
    for one, other in zip(whole, (ops.normalize(x), function(x)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lead", [(), (2,)])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
def test_rows_meet_a_row_alike_in_long_runs(monkeypatch, lead, layout):
    """Rejects entries of another column, and a result that is written to a copy."""
    x, g = map(layout, np.random.default_rng(0).standard_normal((2, *lead, 12, 3)))
    row = np.array([[[1.0, 20.0, 300.0]]] if lead else [[1.0, 20.0, 300.0]])

    def found():
        return (
            *(ops.add_row.fun(x, row), ops.center.fun(x), ops._normalize.fun(x, x, row)),
            ops._normalize_adjoint.fun(g, x, row),
        )

    whole = found()
    assert np.array_equal(whole[0], x + row)
    monkeypatch.setattr(kernels, "LARGE", 1)
    for run in (6, 12, 100):
        monkeypatch.setattr(kernels, "RUN_ENTRIES", run)
        for one, other in zip(whole, found(), strict=True):
            assert np.array_equal(one, other)
