"""One flat vector read by name: views, round trips, derivatives, errors."""

from math import prod

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from autograd.core import make_vjp
from hypothesis import given
from hypothesis import strategies as st
from numpy.linalg import norm
from numpy.random import default_rng

from gradients import check_derivatives, check_keeps_float32
from tinymaml import params
from tinymaml.maml import hvp_and_gradient


shape = st.lists(st.integers(1, 3), max_size=3).map(tuple)
layouts = st.lists(shape, min_size=1, max_size=4).map(
    lambda shapes: {f"array{i}": shape for i, shape in enumerate(shapes)}
)
leads = st.lists(st.integers(1, 2), max_size=2).map(tuple)
seeds = st.integers(0, 2**32 - 1)

LAYOUT = {"a": (2, 3), "b": (), "c": (4,)}


# ----- Reading and writing -----


@given(shapes=layouts, lead=leads, seed=seeds)
def test_pack_undoes_unpack(shapes, lead, seed):
    """Rejects overlapping or shifted pieces and a lost leading axis."""
    theta = default_rng(seed).standard_normal((*lead, params.count(shapes)))
    arrays = params.unpack(theta, shapes)
    assert {name: array.shape for name, array in arrays.items()} == {
        name: lead + shape for name, shape in shapes.items()
    }
    assert np.array_equal(params.pack(arrays, shapes), theta)


@given(shapes=layouts, lead=leads, seed=seeds)
def test_unpack_undoes_pack_in_any_order_of_names(shapes, lead, seed):
    """Rejects a pack that follows the order of the arrays and not that of the shapes."""
    rng = default_rng(seed)
    arrays = {n: rng.standard_normal(lead + shape) for n, shape in shapes.items()}
    shuffled = dict(reversed(arrays.items()))
    unpacked = params.unpack(params.pack(shuffled, shapes), shapes)
    assert list(unpacked) == list(shapes)
    assert all(np.array_equal(unpacked[name], arrays[name]) for name in shapes)


@given(shapes=layouts, lead=leads, seed=seeds)
def test_spans_and_count_agree_with_unpack(shapes, lead, seed):
    """Rejects spans that name another array's entries."""
    theta = default_rng(seed).standard_normal((*lead, params.count(shapes)))
    arrays, spans = params.unpack(theta, shapes), params.spans(shapes)
    assert list(spans) == list(shapes)
    for name, array in arrays.items():
        assert np.array_equal(theta[..., spans[name]].ravel(), array.ravel())
    assert params.count(shapes) == sum(a[(0,) * len(lead)].size for a in arrays.values())


def test_a_layout_by_hand():
    """Rejects a layout in another order, which old checkpoints would be misread by."""
    theta = np.arange(11.0)
    arrays = params.unpack(theta, LAYOUT)
    assert arrays["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["b"].tolist() == 6
    assert arrays["c"].tolist() == [7, 8, 9, 10]
    assert params.count(LAYOUT) == 11
    assert params.spans(LAYOUT) == {"a": slice(0, 6), "b": slice(6, 7), "c": slice(7, 11)}


def test_a_mask_by_hand():
    """Rejects a mask of the others, and one that is shifted."""
    assert params.mask(LAYOUT, ["a", "c"]).tolist() == [1] * 6 + [0] + [1] * 4
    assert params.mask(LAYOUT, []).tolist() == [0] * 11


@given(shapes=layouts, lead=leads)
def test_unpack_gives_views(shapes, lead):
    """Rejects copies: a write through every piece must reach all of theta."""
    theta = np.zeros((*lead, params.count(shapes)))
    for array in params.unpack(theta, shapes).values():
        array[...] = 1
    assert (theta == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pack_keeps_the_precision(dtype):
    """Rejects a buffer of zeros of NumPy's default type."""
    arrays = {name: np.ones(shape, dtype) for name, shape in LAYOUT.items()}
    assert params.pack(arrays, LAYOUT).dtype == dtype


# ----- One number per array, and parameters in another order -----


def maps_of(shapes, rng):
    """Name -> (map, its adjoint, shape of the input, shape of the output)."""
    p, n = params.count(shapes), len(shapes)
    places = rng.permutation(p)[: rng.integers(1, p + 1)]
    return {
        "spread": (
            lambda x: params.spread(x, shapes),
            lambda y: params.totals(y, shapes),
            *((n,), (p,)),
        ),
        "take": (
            lambda x: params.take(x, places),
            lambda y: params.put(y, places, p),
            *((p,), (len(places),)),
        ),
    }


maps = pytest.mark.parametrize("name", ["spread", "take"])


@given(shapes=layouts, lead=leads, seed=seeds)
def test_spread_and_totals_are_loops_over_arrays(shapes, lead, seed):
    """Rejects the number of a neighbouring array, a mean in place of a sum, and axes of
    tasks that are mixed up."""
    rng = default_rng(seed)
    numbers = rng.standard_normal((*lead, len(shapes)))
    theta = rng.standard_normal((*lead, params.count(shapes)))
    each = dict(zip(shapes, np.moveaxis(numbers, -1, 0), strict=True))
    for name, array in params.unpack(params.spread(numbers, shapes), shapes).items():
        expected = each[name].reshape((*lead, *(1 for _ in shapes[name])))
        np.testing.assert_array_equal(array, np.broadcast_to(expected, array.shape))
    sums = [
        array.reshape(*lead, -1).sum(-1) for array in params.unpack(theta, shapes).values()
    ]
    # At most 27 numbers in another order: a few roundings.
    expected = np.stack(sums, -1)
    np.testing.assert_allclose(params.totals(theta, shapes), expected, atol=1e-14)


def test_take_and_put_by_hand():
    """Rejects places that are sorted, a vector of another size, and tasks mixed up."""
    vector = np.array([[0.0, 1, 2, 3], [10, 11, 12, 13]])
    taken = params.take(vector, np.array([3, 1]))
    assert taken.tolist() == [[3, 1], [13, 11]]
    assert params.put(taken, np.array([3, 1]), 5).tolist() == [
        [0, 1, 0, 3, 0],
        [0, 11, 0, 13, 0],
    ]


@maps
@given(shapes=layouts, lead=leads, seed=seeds)
def test_each_map_has_its_adjoint(name, shapes, lead, seed):
    """Rejects rules that swap the places: <map x, y> = <x, adjoint y>."""
    rng = default_rng(seed)
    there, back, before, after = maps_of(shapes, rng)[name]
    x, y = rng.standard_normal((*lead, *before)), rng.standard_normal((*lead, *after))
    left, right = np.vdot(there(x), y), np.vdot(x, back(y))
    assert abs(left - right) <= 1e-14 * norm(x) * norm(y) * len(shapes)


@maps
@given(shapes=layouts, lead=leads, seed=seeds)
def test_derivatives_of_the_maps_are_right_to_order_two(name, shapes, lead, seed):
    """Rejects a rule of a map that is the map itself, or that a second trace loses."""
    rng = default_rng(seed)
    there, back, before, after = maps_of(shapes, rng)[name]
    for f, shape in ((there, before), (back, after)):
        x = rng.standard_normal((*lead, *shape))
        check_derivatives(f, x, rng=rng)
        check_derivatives(lambda x, f=f: anp.sin(f(x)), x, rng=rng)
        check_keeps_float32(f, x, rng=rng)


# ----- Errors -----


@pytest.mark.parametrize("columns", [0, 10, 12])
def test_unpack_refuses_another_size(columns):
    """Rejects a tail of theta that is silently ignored."""
    with pytest.raises(ValueError, match=f"theta has {columns} columns, not 11"):
        params.unpack(np.zeros((2, columns)), LAYOUT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c": None}, "expected arrays"),
        ({"d": np.zeros(4)}, "expected arrays"),
        ({"a": np.zeros((3, 2))}, r"a must end in \(2, 3\), not \(3, 2\)"),
        ({"a": np.zeros(6)}, r"a must end in \(2, 3\), not \(6,\)"),
        ({"a": np.zeros(3)}, r"a must end in \(2, 3\), not \(3,\)"),
        ({"c": np.zeros(())}, r"c must end in \(4,\), not \(\)"),
    ],
)
def test_pack_refuses_other_names_and_shapes(change, message):
    """Rejects arrays that fit by size alone, and missing or unknown names."""
    arrays = {name: np.zeros(shape) for name, shape in LAYOUT.items()} | change
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with pytest.raises(ValueError, match=message):
        params.pack(arrays, LAYOUT)


def test_pack_refuses_leading_axes_that_differ():
    """Rejects a broadcast of one task's array to all."""
    arrays = {name: np.zeros((2, *shape)) for name, shape in LAYOUT.items()}
    for other in np.zeros((3, 4)), np.zeros(4):
        with pytest.raises(ValueError, match="dimension"):
            params.pack(arrays | {"c": other}, LAYOUT)


# ----- Derivatives -----


def curved(shapes, lead, rng):
    """A function of theta that bends, and reads each piece twice."""
    weights = {name: rng.standard_normal(lead + shapes[name]) for name in shapes}

    def f(theta):
        p = params.unpack(theta, shapes)
        return sum(
            anp.sum(anp.sin(p[name]) * weights[name].astype(theta.dtype))
            + anp.sum(p[name] ** 2)
            for name in shapes
        )

    return f


@given(shapes=layouts, lead=leads, seed=seeds)
def test_derivatives_are_right_to_order_two(shapes, lead, seed):
    """Rejects a piece put at the wrong place, or that overwrites where it must add."""
    rng = default_rng(seed)
    theta = rng.standard_normal((*lead, params.count(shapes)))
    check_derivatives(curved(shapes, lead, rng), theta, rng=rng)


@given(shapes=layouts, lead=leads, seed=seeds)
def test_a_piece_alone_is_right_to_order_two(shapes, lead, seed):
    """Rejects a lone piece's adjoint that reads another span than was written."""
    rng = default_rng(seed)
    theta = rng.standard_normal((*lead, params.count(shapes)))
    for name in shapes:
        check_derivatives(
            lambda theta, name=name: params.unpack(theta, shapes)[name], theta, rng=rng
        )


@given(shapes=layouts, lead=leads, seed=seeds, data=st.data())
def test_the_hessian_is_zero_where_the_loss_is_linear(shapes, lead, seed, data):
    """Rejects second derivatives handed to other arrays than those that bend."""
    rng = default_rng(seed)
    theta, u = rng.standard_normal((2, *lead, params.count(shapes)))
    bent = data.draw(st.sets(st.sampled_from([*shapes]), min_size=1))

    def loss(theta):
        p = params.unpack(theta, shapes)
        return sum(anp.sum(anp.sin(p[n]) if n in bent else p[n]) for n in shapes)

    hvp, _ = hvp_and_gradient(loss, theta)
    expected = -np.sin(theta) * u * params.mask(shapes, bent)
    np.testing.assert_allclose(hvp(u), expected, atol=1e-15)


@given(shapes=layouts, lead=leads, seed=seeds)
def test_float32_stays_float32(shapes, lead, seed):
    """Rejects a cotangent collected in float64 zeros."""
    rng = default_rng(seed)
    theta = rng.standard_normal((*lead, params.count(shapes)))
    check_keeps_float32(curved(shapes, lead, rng), theta, rng=rng)


@given(shapes=layouts, lead=leads, seed=seeds)
def test_the_gradient_of_reading_everything_is_the_packed_cotangent(shapes, lead, seed):
    """Rejects an adjoint other than pack: reading all of theta is the identity."""
    rng = default_rng(seed)
    theta = rng.standard_normal((*lead, params.count(shapes)))
    w = {name: rng.standard_normal(lead + shape) for name, shape in shapes.items()}

    def read(theta):
        p = params.unpack(theta, shapes)
        return sum(anp.sum(w[name] * p[name]) for name in shapes)

    assert np.array_equal(grad(read)(theta), params.pack(w, shapes))


@given(uses=st.integers(1, 4), lead=leads, seed=seeds)
def test_one_theta_used_many_times_collects_every_gradient(uses, lead, seed):
    """Rejects a cotangent that overwrites an earlier one, or that is added twice.

    theta is read by name several times, and whole, in between.
    """
    rng = default_rng(seed)
    theta = rng.standard_normal((*lead, params.count(LAYOUT)))
    weights = rng.standard_normal((2 * uses, *theta.shape))

    def f(theta):
        total = 0.0
        for read, whole in zip(weights[::2], weights[1::2], strict=True):
            w, p = params.unpack(read, LAYOUT), params.unpack(theta, LAYOUT)
            total = total + sum(anp.sum(w[name] * p[name]) for name in LAYOUT)
            total = total + anp.sum(whole * theta)
        return total

    # Eight terms in another order: a few roundings.
    difference = grad(f)(theta) - weights.sum(0)
    assert norm(difference) <= 1e-14 * np.abs(weights).sum()


def test_an_unread_array_has_gradient_zero():
    """Rejects a gradient that spills over into the neighbours of what was read."""
    theta = np.arange(11.0)
    gradient = grad(lambda theta: anp.sum(params.unpack(theta, LAYOUT)["b"]))(theta)
    assert gradient.tolist() == [0] * 6 + [1] + [0] * 4


def test_a_gradient_does_not_change_the_cotangent():
    """Rejects adding into an array that the caller holds."""
    w = np.ones(4)
    vjp, _ = make_vjp(lambda theta: params.unpack(theta, LAYOUT)["c"], np.zeros(11))
    first, second = vjp(w), vjp(w)
    assert np.array_equal(first, second)
    assert first.sum() == prod(LAYOUT["c"])
    assert (w == 1).all()


# ----- What is refused -----


def test_numbers_and_columns_are_counted():
    """Rejects one number for all arrays, and a last array that takes what is left over."""
    with pytest.raises(ValueError, match="1 numbers for 3 arrays"):
        params.spread(np.ones((2, 1)), LAYOUT)
    with pytest.raises(ValueError, match="theta has 12 columns, not 11"):
        params.totals(np.ones((2, 12)), LAYOUT)


@pytest.mark.parametrize("places", [[1, 1], [-1, 3], [0, 4]])
def test_no_place_is_taken_twice(places):
    """Rejects a gradient that keeps the last of two, and places from the end."""
    for take in (
        lambda: params.take(np.ones(4), np.array(places)),
        lambda: params.put(np.ones(2), np.array(places), 4),
    ):
        with pytest.raises(ValueError, match=r"different and in 0..3"):
            take()


def test_a_mask_names_arrays():
    """Rejects zeros for a name that is misspelt."""
    with pytest.raises(ValueError, match=r"no arrays \['heda'\]"):
        params.mask(LAYOUT, ["a", "heda"])


@pytest.mark.parametrize("places", [[False, True], [[0, 1], [2, 3]], 1, [0.0, 1.0]])
def test_places_are_a_list_of_integers(places):
    """Rejects truth values that are read as a selection, and another shape."""
    with pytest.raises(ValueError, match="a list of integers, not"):
        params.take(np.arange(4.0), np.array(places))


def test_every_place_has_its_number():
    """Rejects one number for three places, whose gradient has another shape."""
    with pytest.raises(ValueError, match="1 numbers for 3 places"):
        params.put(np.ones(1), np.array([0, 1, 2]), 4)


@pytest.mark.parametrize("last", [(1,), (0,)])
def test_a_sum_over_no_entry_is_refused(last):
    """Rejects the first entry of the next array in place of a sum over none."""
    shapes = {"a": (2,), "b": (0,), "c": last}
    with pytest.raises(ValueError, match="arrays without an entry: \\['b'"):
        params.totals(np.ones(params.count(shapes)), shapes)


def test_options_of_a_map_may_have_names():
    """Rejects "missing argument" of a check that is not given what the function is."""
    shapes = {"a": (2,), "b": (1,)}
    assert params.spread(np.array([1.0, 2.0]), shapes=shapes).tolist() == [1, 1, 2]
    assert params.take(np.arange(3.0), places=np.array([2])).tolist() == [2]
