"""T-net: linear maps after the layers, which inner steps leave alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from families import family
from tinymaml import chain, maml, models, params
from tinymaml.algorithms import tnet
from tinymaml.algorithms.tnet import TNET
from tinymaml.chain import Linear
from tinymaml.check.differences import slopes_error
from tinymaml.fewshot import drawn
from tinymaml.ops import conv, normalize


ROUNDING = 1e-12
STEPS, SEEDS = st.integers(0, 3), st.integers(0, 2**32 - 1)
kinds = pytest.mark.parametrize("kind", ["sine", "images"])


def arrays_of(net, theta):
    """The arrays of theta by name, without tracing."""
    return {k: np.asarray(x) for k, x in params.unpack(theta, net.model.shapes).items()}


def generic(net, seed, tasks=2):
    """theta (tasks, P) off its zeros, with maps that are not the identity."""
    rng = np.random.default_rng(seed)
    theta = np.stack([TNET.init(rng, net) for _ in range(tasks)])
    return theta + 0.3 * rng.standard_normal(theta.shape)


def own(net):
    """(P,) True for the arrays that the net without T has too."""
    maps = [name for name in net.model.shapes if name.startswith("T")]
    return params.mask(net.model.shapes, maps) == 0


def difference(a, b):
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-3)


# ----- The identity is the net without T -----


@kinds
def test_the_identity_is_the_net_without_maps(kind):
    """Rejects maps that do not start as the identity, first arrays other than MAML's for
    the same seed, a map in front of the weights, and a gradient other than MAML's."""
    net, plain = family(kind, "t-net"), family(kind, "maml")
    first, without = (
        f.options.method.init(np.random.default_rng(3), f)[None] for f in (net, plain)
    )
    mask = own(net)
    np.testing.assert_array_equal(first[:, mask], without)
    for name, array in arrays_of(net, first).items():
        if name.startswith("T"):
            np.testing.assert_array_equal(array[0], np.eye(array.shape[-1]))
    assert mask.sum() < mask.size
    episode = drawn(net, 0, "train", 0, range(1))
    outputs = [
        f.model.apply(w, episode.x_query) for f, w in ((net, first), (plain, without))
    ]
    np.testing.assert_array_equal(*outputs)
    loss, found = TNET.gradient(first, net.task(episode), net)
    expected = maml.meta_gradient(
        without, plain.task(episode), plain.alpha, plain.options.inner_steps
    )
    assert loss == pytest.approx(expected[0], rel=ROUNDING)
    assert difference(found[:, mask], expected[1]) < ROUNDING
    slopes = arrays_of(net, found)
    assert all(np.any(slopes[name]) for name in slopes if name.startswith("T"))


# ----- What T does -----


@given(SEEDS)
def test_dense_layers_are_mapped_with_their_bias(seed):
    """Rejects W T + b, a transposed T, and a head without one: (x W + b) T throughout."""
    net = family("sine", "t-net")
    theta = generic(net, seed)
    x = np.random.default_rng(seed).standard_normal((2, 6, 1))
    p, expected = arrays_of(net, theta), x
    for i in range(3):
        expected = (expected @ p[f"w{i}"] + p[f"b{i}"]) @ p[f"T{i}"]
        expected = np.tanh(expected) if i < 2 else expected
    found = net.model.apply(theta, x)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@given(SEEDS)
def test_convolutions_are_mapped_before_batch_norm(seed):
    """Rejects a T behind batch norm or of its offsets: x (W T) = (x W) T is normalised."""
    net = family("images", "t-net")
    theta = generic(net, seed)
    p = arrays_of(net, theta)
    x = np.random.default_rng(seed).standard_normal((2, 3, 8, 8, 1))
    convolved = conv(x, p["w0"], stride=2)
    rows = convolved.reshape(2, -1, 3) @ p["T0"]
    expected = np.tanh(normalize(rows) + p["beta0"]).reshape(convolved.shape)
    first = net.model.blocks[0]
    np.testing.assert_allclose(first.apply(p, x), expected, rtol=1e-10, atol=1e-12)


def test_blocks_without_weights_stay():
    """Rejects a map of a pooling or flattening block, and names that do not pair up."""
    plain = models.conv_net((8, 8, 1), 5, 3, layers=2)
    mapped = tnet.build(plain, None)
    assert [b.name for b in mapped.blocks] == [b.name for b in plain.blocks]
    assert list(mapped.shapes) == ["w0", "beta0", "T0", "w1", "beta1", "T1", "w", "b", "T"]
    assert mapped.shapes["T1"] == (3, 3)
    assert mapped.shapes["T"] == (5, 5)
    assert mapped.norm == plain.norm
    assert mapped.head == ("w", "b", "T")


@given(SEEDS, STEPS)
def test_steps_are_preconditioned_by_t(seed, steps):
    """Rejects a T that inner steps change or that they do not see: the products W T and
    b T take the steps of a net without T whose gradients G are multiplied to G T'T."""
    net, plain = family("sine", "t-net"), family("sine", "maml")
    theta = generic(net, seed)
    episode = drawn(net, seed, "train", 0, range(2))
    shapes = plain.model.shapes

    def products(theta):
        p = arrays_of(net, theta)
        return params.pack({n: p[n] @ p["T" + n[1:]] for n in shapes}, shapes)

    maps = arrays_of(net, theta)

    def multiplied(g):
        p = arrays_of(plain, g)
        rows = {n: p[n] @ maps["T" + n[1:]].swapaxes(-1, -2) @ maps["T" + n[1:]] for n in p}
        return 0.01 * params.pack(rows, shapes)

    thetas = TNET.adapt(theta, net.task(episode), net, steps)
    step = Linear(multiplied, multiplied)
    expected = chain.path(products(theta), plain.task(episode), [step] * steps)
    for at, other in zip(thetas, expected, strict=True):
        assert difference(products(at), other) < ROUNDING


@kinds
@pytest.mark.parametrize("adapts", ["all", "head", "body"])
@pytest.mark.parametrize("rates", ["fixed", "tensor"])
def test_inner_steps_leave_the_maps(kind, adapts, rates):
    """Rejects a T that moves, with whatever else moves and however it is learned."""
    net = family(kind, "t-net", adapts=adapts, rates=rates)
    rng = np.random.default_rng(0)
    w = np.stack([TNET.init(rng, net) for _ in range(2)])
    task = net.task(drawn(net, 0, "train", 0, range(2)))
    before, *_, after = TNET.adapt(w, task, net, 3)
    changed = {name for name, x in arrays_of(net, abs(before - after)).items() if x.any()}
    assert changed <= {*tnet.moved(net.model, net.options)}
    assert not any(name.startswith("T") for name in changed)
    assert ("w0" in changed) == (adapts != "head")
    assert any(n in net.model.head for n in changed) == (adapts != "body")


@kinds
@pytest.mark.parametrize("rates", ["fixed", "parameter", "tensor"])
def test_the_gradient_of_the_maps_is_that_of_differences(kind, rates):
    """Rejects a T without a gradient, with that of the last layers alone, or with one
    through the query loss alone."""
    net = family(kind, "t-net", rates=rates, inner_steps=2)
    rng = np.random.default_rng(1)
    w = np.stack([TNET.init(rng, net) for _ in range(2)])
    task = net.task(drawn(net, 1, "train", 0, range(2)))
    spans = params.spans(TNET.shapes(net))
    _, found = TNET.gradient(w, task, net)
    ways = []
    for name in [n for n in spans if n.startswith("T")]:
        way = np.zeros_like(w)
        way[:, spans[name]] = rng.standard_normal((2, spans[name].stop - spans[name].start))
        ways.append(way / np.linalg.norm(way))
    value = lambda at: float(TNET.objective(at, task, net))  # noqa: E731
    assert slopes_error(value, w, ways, found) < 1e-7
