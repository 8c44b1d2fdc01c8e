"""Models: shapes, sizes of the paper's nets, initial values, symmetries, float32."""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st
from numpy.linalg import norm
from numpy.random import default_rng

from gradients import check_derivatives, watch
from test_ops import close, plain_batch_norm, plain_conv, plain_max_pool
from tinymaml import maml, models, params
from tinymaml.errors import UsageError
from tinymaml.losses import cross_entropy, mse
from tinymaml.maml import Task


seeds = st.integers(0, 2**32 - 1)

# Name -> (model, shape of one example). Small, with more than one hidden layer each.
NETS = {
    "mlp": (models.mlp([3, 5, 4, 2]), (3,)),
    "mlp tanh": (models.mlp([3, 5, 4, 2], activation=anp.tanh), (3,)),
    "mlp leaky": (models.mlp([3, 5, 4, 2], models.ACTIVATIONS["leaky-relu"]), (3,)),
    "mlp batch norm": (models.mlp([3, 5, 4, 2], batch_norm=True), (3,)),
    "conv": (models.conv_net((7, 6, 2), 3, filters=4, layers=2), (7, 6, 2)),
    "pooled conv": (models.pooled_conv_net((9, 8, 2), 3, filters=4, layers=2), (9, 8, 2)),
    "mlp scale": (models.mlp([3, 5, 4, 2], batch_norm=True, scale=True), (3,)),
    "mlp of images": (models.flat_images(models.mlp([12, 5, 4, 2])), (3, 2, 2)),
    "conv scale": (models.conv_net((7, 6, 2), 3, 4, 2, scale=True), (7, 6, 2)),
    "pooled scale": (models.pooled_conv_net((9, 8, 2), 3, 4, 2, scale=True), (9, 8, 2)),
    "mlp context": (models.with_context(models.mlp([5, 5, 4, 2]), (2,)), (3,)),
    "conv context": (
        models.with_context(models.conv_net((7, 6, 3), 3, filters=4, layers=2), (7, 6, 1)),
        (7, 6, 2),
    ),
    "pooled conv tanh": (
        models.pooled_conv_net((9, 8, 2), 3, 4, 2, anp.tanh, pool=models.mean_pool),
        (9, 8, 2),
    ),
}
FILM = {"conv film": "conv", "pooled film": "pooled conv", "conv scale film": "conv scale"}
NETS |= {
    name: (models.with_film(NETS[plain][0], "conv0", 3), NETS[plain][1])
    for name, plain in FILM.items()
}
every_net = pytest.mark.parametrize("name", NETS)
film_net = pytest.mark.parametrize("name", FILM)
WITHOUT_SCALE = {
    "mlp scale": "mlp batch norm",
    "conv scale": "conv",
    "pooled scale": "pooled conv",
}
scaled_net = pytest.mark.parametrize("name", WITHOUT_SCALE)
normalised_net = pytest.mark.parametrize("name", ["mlp batch norm", "conv", "pooled conv"])


def drawn(name, rng, lead=(), n=4):
    """Return the net, theta (..., P) with every entry random, and inputs (..., n, ...)."""
    model, example = NETS[name]
    theta = 0.5 * rng.standard_normal((*lead, params.count(model.shapes)))
    return model, theta, rng.standard_normal((*lead, n, *example))


def outputs_and_gradient(model, theta, x, w):
    """Return the outputs, and the gradient by theta of a loss that bends."""
    gradient = grad(lambda theta: anp.sum(w * anp.sin(model.apply(theta, x))))
    return model.apply(theta, x), gradient(theta)


# ----- Shapes and sizes -----


@given(data=st.data(), batch_norm=st.booleans(), seed=seeds)
def test_mlp_has_the_shapes_it_declares(data, batch_norm, seed):
    """Rejects a layer whose width is taken from its neighbour."""
    size = st.integers(1, 5)
    widths = data.draw(st.lists(size, min_size=2, max_size=5))
    model = models.mlp(widths, batch_norm=batch_norm)
    check_shapes(data, model, widths[:1], widths[-1], seed)


@given(data=st.data(), layers=st.integers(1, 3), seed=seeds)
def test_conv_net_has_the_shapes_it_declares(data, layers, seed):
    """Rejects channels in place of filters, and a head sized for another image."""
    image = tuple(data.draw(st.integers(1, high)) for high in (9, 9, 3))
    ways, filters = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    model = models.conv_net(image, ways, filters, layers)
    assert model.shapes["w"] == (filters, ways)
    check_shapes(data, model, image, ways, seed)


@given(data=st.data(), layers=st.integers(1, 3), seed=seeds)
def test_pooled_conv_net_has_the_shapes_it_declares(data, layers, seed):
    """Rejects an odd row or column that is counted as half a window more."""
    side = st.integers(2**layers, 2**layers + 9)
    image = data.draw(side), data.draw(side), data.draw(st.integers(1, 3))
    ways, filters = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    model = models.pooled_conv_net(image, ways, filters, layers)
    check_shapes(data, model, image, ways, seed)


def check_shapes(data, model, example, outputs, seed):
    """Theta has the declared size, and examples with any leading axes come out right."""
    rng = default_rng(seed)
    theta = model.init(rng)
    assert theta.shape == (sum(int(np.prod(s)) for s in model.shapes.values()),)
    assert theta.dtype == np.float64
    lead = tuple(data.draw(st.lists(st.integers(1, 2), max_size=2)))
    n = data.draw(st.integers(1, 3))
    theta = np.tile(theta, (*lead, 1))
    x = rng.standard_normal((*lead, n, *example))
    assert model.apply(theta, x).shape == (*lead, n, outputs)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        # 1*40 + 40 + 40*40 + 40 + 40*1 + 1
        (models.mlp([1, 40, 40, 1]), 1761),
        # (784+1)*256 + (256+1)*128 + (128+1)*64 + (64+1)*64 + (64+1)*5
        (models.mlp([784, 256, 128, 64, 64, 5], batch_norm=True), 246597),
        # (9*1 + 1)*64 + 3*(9*64 + 1)*64 + (64 + 1)*5
        (models.conv_net((28, 28, 1), 5, 64), 111749),
        # (9*1 + 1)*64 + 3*(9*64 + 1)*64 + (64 + 1)*20
        (models.conv_net((28, 28, 1), 20, 64), 112724),
        # (9*3 + 1)*32 + 3*(9*32 + 1)*32 + (5*5*32 + 1)*5
        (models.pooled_conv_net((84, 84, 3), 5, 32), 32645),
    ],
    ids=["sine", "omniglot dense", "omniglot", "omniglot 20-way", "mini-imagenet"],
)
def test_the_nets_of_the_paper_counted_by_hand(model, parameters):
    """Rejects a bias or a scale too many, and a head on another number of features."""
    assert params.count(model.shapes) == parameters
    assert model.init(default_rng(0)).shape == (parameters,)


def test_mini_imagenet_leaves_800_features():
    """Rejects pooling that rounds up: 84, 42, 21, 10, 5."""
    assert models.pooled_conv_net((84, 84, 3), 5, 32).shapes["w"] == (800, 5)


@every_net
def test_every_declared_array_is_used(name):
    """Rejects an array that is declared and drawn and then left out of the sum."""
    rng = default_rng(0)
    model, theta, x = drawn(name, rng)
    w = rng.standard_normal(model.apply(theta, x).shape)
    _, gradient = outputs_and_gradient(model, theta, x, w)
    for array, g in params.unpack(gradient, model.shapes).items():
        assert norm(g) > 1e-3, array


# ----- Values -----


@given(seed=seeds)
def test_mlp_is_the_plain_expression(seed):
    """Rejects a relu after the last layer, and a bias added after the relu."""
    model, theta, x = drawn("mlp", default_rng(seed))
    p = params.unpack(theta, model.shapes)
    x1 = plain_relu(x @ p["w0"] + p["b0"])
    x2 = plain_relu(x1 @ p["w1"] + p["b1"])
    # A dozen products per sum: a few roundings, here and below.
    assert close(model.apply(theta, x), x2 @ p["w2"] + p["b2"], 1e-13)


@given(seed=seeds)
def test_mlp_with_batch_norm_is_the_plain_expression(seed):
    """Rejects an offset inside the normalisation, which takes it away again."""
    model, theta, x = drawn("mlp batch norm", default_rng(seed))
    p = params.unpack(theta, model.shapes)
    x1 = plain_relu(plain_batch_norm(x @ p["w0"]) + p["beta0"])
    x2 = plain_relu(plain_batch_norm(x1 @ p["w1"]) + p["beta1"])
    assert close(model.apply(theta, x), x2 @ p["w2"] + p["b2"], 1e-12)


def plain_relu(x):
    return np.maximum(x, 0)


def plain_layer(x, p, i, stride, activation):
    """Convolution, batch norm over images and positions, offset, activation."""
    kernel = p[f"w{i}"].reshape(3, 3, x.shape[-1], -1)
    x = plain_conv(x, kernel, stride)
    rows = plain_batch_norm(x.reshape(-1, x.shape[-1])) + p[f"beta{i}"]
    return activation(rows).reshape(x.shape)


def with_activation(seed, name, builder, *arguments):
    """Return the net with relu by default and with tanh, and the plain activations."""
    relu, tanh = builder(*arguments), builder(*arguments, activation=anp.tanh)
    _, theta, x = drawn(name, default_rng(seed), n=3)
    p = params.unpack(theta, relu.shapes)
    return [(relu, plain_relu, theta, p, x), (tanh, np.tanh, theta, p, x)]


@given(seed=seeds)
def test_conv_net_is_the_plain_expression(seed):
    """Rejects another stride, statistics per image, and a sum where a mean is due."""
    nets = with_activation(seed, "conv", models.conv_net, (7, 6, 2), 3, 4, 2)
    for net, activation, theta, p, images in nets:
        x = plain_layer(images, p, 0, 2, activation)
        x = plain_layer(x, p, 1, 2, activation)
        plain = x.mean((1, 2)) @ p["w"] + p["b"]
        assert close(net.apply(theta, images), plain, 1e-12)


@given(seed=seeds)
def test_pooled_conv_net_is_the_plain_expression(seed):
    """Rejects a stride of two, and pooling before the statistics are taken."""
    nets = with_activation(seed, "pooled conv", models.pooled_conv_net, (9, 8, 2), 3, 4, 2)
    for net, activation, theta, p, images in nets:
        x = plain_max_pool(plain_layer(images, p, 0, 1, activation))
        x = plain_max_pool(plain_layer(x, p, 1, 1, activation))
        plain = x.reshape(len(x), -1) @ p["w"] + p["b"]
        assert close(net.apply(theta, images), plain, 1e-12)


@pytest.mark.parametrize("name", ["mlp batch norm", "conv", "pooled conv"])
def test_batch_norm_adds_the_eps_it_is_given(name):
    """Rejects a layer that keeps the usual eps: with a huge one its inputs vanish."""
    builders = {
        "mlp batch norm": lambda eps: models.mlp((3, 4, 5, 2), batch_norm=True, eps=eps),
        "conv": lambda eps: models.conv_net((7, 6, 2), 3, 4, 2, eps=eps),
        "pooled conv": lambda eps: models.pooled_conv_net((9, 8, 2), 3, 4, 2, eps=eps),
    }
    size = {"mlp batch norm": (3,), "conv": (7, 6, 2), "pooled conv": (9, 8, 2)}[name]
    usual, vast = builders[name](1e-3), builders[name](1e12)
    theta, x = usual.init(default_rng(0)), default_rng(1).standard_normal((6, *size))
    assert np.abs(np.diff(vast.apply(theta, x), axis=0)).max() < 1e-5
    assert np.abs(np.diff(usual.apply(theta, x), axis=0)).max() > 1e-5
    for array, span in params.spans(usual.shapes).items():
        if array.startswith("beta"):  # what is left of a layer is its offset
            theta[span] = 1
    assert vast.apply(theta, x).any()


@pytest.mark.parametrize("builder", [models.conv_net, models.pooled_conv_net])
def test_a_head_is_drawn_as_asked(builder):
    """Rejects a head that is read but not used, and another array drawn with it."""
    nets = [builder((16, 16, 1), 20, 32, head=draw) for draw in models.HEADS.values()]
    drawn = [params.unpack(n.init(default_rng(0)), n.shapes) for n in nets]
    # 640 draws or more: the standard deviation of N(0, 1) comes within 10 %.
    assert 0.9 < drawn[1]["w"].std() < 1.1
    assert drawn[0]["w"].std() == pytest.approx(np.sqrt(2 / (32 + 20)), rel=0.1)
    for array in drawn[0]:
        if array != "w":
            np.testing.assert_array_equal(drawn[0][array], drawn[1][array])


@pytest.mark.parametrize("shape", [(2,), (7, 6, 1)], ids=["vectors", "images"])
def test_context_stands_beside_every_input(shape):
    """Rejects z in front of the inputs, z that differs between examples or tasks' z
    that are mixed up, and parameters of the net that are shifted by it."""
    rng, n, tasks = default_rng(0), 4, 3
    vectors = len(shape) == 1
    inner = models.mlp([5, 4, 2]) if vectors else models.conv_net((7, 6, 3), 3, 4, 2)
    model = models.with_context(inner, shape)
    size = int(np.prod(shape))
    assert [*model.shapes] == ["z", *inner.shapes]
    theta = rng.standard_normal((tasks, size + params.count(inner.shapes)))
    x = rng.standard_normal((tasks, n, *shape[:-1], 3 if vectors else 2))
    found = model.apply(theta, x)
    for task in range(tasks):
        z = np.stack([theta[task, :size].reshape(shape)] * n)
        wide = np.concatenate([x[task], z], axis=-1)
        expected = inner.apply(theta[task, size:], wide)
        np.testing.assert_allclose(found[task], expected, rtol=1e-10, atol=1e-12)


def test_context_starts_at_zero():
    """Rejects z drawn like a weight, and a net that is drawn otherwise beside it."""
    inner = models.mlp([5, 4, 2])
    theta = models.with_context(inner, (2,)).init(default_rng(0))
    assert not theta[:2].any()
    np.testing.assert_array_equal(theta[2:], inner.init(default_rng(0)))


# ----- FiLM -----


def film_parts(name, rng, **arrays):
    """Return a net with FiLM, its theta with some arrays set, inputs, and the plain
    net's outputs of every block."""
    model, theta, x = drawn(name, rng, (2,))
    p = params.unpack(theta, model.shapes)
    p |= {n: np.broadcast_to(a, p[n].shape) for n, a in arrays.items()}
    plain, _ = NETS[FILM[name]]
    rest = params.pack({n: p[n] for n in plain.shapes}, plain.shapes)
    return model, params.pack(p, model.shapes), x, p, plain, rest


@film_net
@pytest.mark.parametrize("off", [{"w_film": 0.0}, {"z": 0.0}], ids=["no W", "no z"])
def test_film_of_one_and_zero_is_the_plain_net(name, off):
    """Rejects offsets that are not zero, a scale 1 + gamma, an activation taken twice or
    never, and a block that lost an array: to the last bit."""
    one = np.repeat([[1.0, 0.0]], 4, axis=-1)
    model, theta, x, _, plain, rest = film_parts(name, default_rng(0), b_film=one, **off)
    np.testing.assert_array_equal(model.apply(theta, x), plain.apply(rest, x))


@film_net
def test_film_without_weights_does_not_depend_on_z(name):
    """Rejects z that reaches the net by another way than W, and a W that is not read."""
    one = np.repeat([[1.0, 0.0]], 4, axis=-1)
    for w, moves in ((0.0, False), (1.0, True)):
        parts = film_parts(name, default_rng(0), b_film=one, w_film=w)
        model, theta, x = parts[:3]
        gradient = grad(lambda theta, m=model, x=x: anp.sum(anp.sin(m.apply(theta, x))))
        found = params.unpack(gradient(theta), model.shapes)
        assert np.any(found["z"]) == moves


@film_net
def test_film_starts_as_the_plain_net(name):
    """Rejects gamma that starts at 0 or is drawn near it, as in the official code."""
    model, example = NETS[name]
    plain, _ = NETS[FILM[name]]
    p = params.unpack(model.init(default_rng(0)), model.shapes)
    assert not p["z"].any()
    assert p["b_film"].tolist() == [[1] * 4 + [0] * 4]
    # 24 uniform draws within +-sqrt(6 / (3 + 8)).
    assert 0.4 < np.abs(p["w_film"]).max() <= np.sqrt(6 / 11)
    rest = params.pack({n: p[n] for n in plain.shapes}, plain.shapes)
    x = default_rng(1).standard_normal((3, *example))
    theta = params.pack(p, model.shapes)
    np.testing.assert_array_equal(model.apply(theta, x), plain.apply(rest, x))


@film_net
@given(seed=seeds)
def test_film_scales_and_shifts_channels_before_the_activation(name, seed):
    """Rejects FiLM after the activation or before pooling and batch norm, gamma and beta
    that change places, and the channels of another block or task."""
    model, theta, x, p, plain, rest = film_parts(name, default_rng(seed))
    linear = plain.blocks[0]._replace(activation=models.same)
    before = linear.apply(params.unpack(rest, plain.shapes), x)
    both = p["z"] @ p["w_film"] + p["b_film"]  # (tasks, 1, 2 channels)
    gamma, beta = both[:, None, None, :, :4], both[:, None, None, :, 4:]
    expected = plain_relu(gamma * before + beta)
    found = model.activations(theta, x)["film"]
    assert close(found, expected, 1e-13)
    assert [*model.activations(theta, x)][:2] == ["conv0", "film"]


@film_net
def test_derivatives_by_film_are_central_differences(name):
    """Rejects a modulation whose gradient is summed over tasks or lost by z."""
    rng = default_rng(0)
    nets = {
        "conv film": models.conv_net((7, 6, 2), 3, 4, 2, anp.tanh),
        "conv scale film": models.conv_net((7, 6, 2), 3, 4, 2, anp.tanh, scale=True),
        "pooled film": NETS["pooled conv tanh"][0],
    }
    model = models.with_film(nets[name], "conv0", 3)
    _, theta, x = drawn(name, rng, (2,))
    check_derivatives(lambda theta: model.apply(theta, x), theta, rng=rng)


def test_film_needs_the_block_that_it_modulates():
    """Rejects a traceback, and a context that modulates nothing: one line that names nets
    that have it."""
    for name in ("mlp of images", "conv"):
        with pytest.raises(UsageError, match="needs convolutions: --net conv or pooled"):
            models.with_film(NETS[name][0], "conv2", 5)


@given(seed=seeds)
def test_mean_pool_is_the_mean_of_each_window(seed):
    """Rejects a sum, windows that overlap, and an odd row or column that counts."""
    x = default_rng(seed).standard_normal((2, 3, 5, 7, 2))
    plain = np.zeros((2, 3, 2, 3, 2))
    for i in range(2):
        for j in range(3):
            plain[..., i, j, :] = x[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, :].mean(
                (2, 3)
            )
    assert close(models.mean_pool(x), plain, 1e-14)
    assert models.mean_pool(x.astype(np.float32)).dtype == np.float32


def test_flat_images_reads_pixels_row_by_row():
    """Rejects pixels in another order than NumPy's, and mixed examples."""
    rng = default_rng(0)
    model = models.mlp([12, 4, 2])
    theta, x = rng.standard_normal((2, 62)), rng.standard_normal((2, 3, 2, 3, 2))
    rows = np.stack([[image.ravel() for image in task] for task in x])
    flat = models.flat_images(model)
    assert np.array_equal(flat.apply(theta, x), model.apply(theta, rows))
    assert flat.shapes == model.shapes
    assert np.array_equal(flat.init(default_rng(1)), model.init(default_rng(1)))


# ----- Blocks -----


@every_net
def test_a_net_is_the_composition_of_its_blocks(name):
    """Rejects a block left out, taken twice or out of order, activations before a block
    in place of after it, and a block that changes the output of the one before."""
    model, theta, x = drawn(name, default_rng(0), (2,))
    p, y, outputs = params.unpack(theta, model.shapes), x, []
    for block in model.blocks:
        y = block.apply(p, y)
        outputs.append(y.copy())
    found = model.activations(theta, x)
    assert [*found] == [block.name for block in model.blocks]
    assert all(map(np.array_equal, found.values(), outputs))
    assert np.array_equal(found["head"], model.apply(theta, x))


@every_net
def test_a_net_splits_at_every_block(name):
    """Rejects a split one block off, parameters that are not end to end, and halves that
    are drawn otherwise than the whole: all equal to the last bit."""
    model, theta, x = drawn(name, default_rng(0), (2,))
    for at, block in enumerate(model.blocks):
        lower, upper = model.split(block.name)
        assert (lower.blocks, upper.blocks) == (model.blocks[:at], model.blocks[at:])
        size = params.count(lower.shapes)
        middle = lower.apply(theta[:, :size], x)
        assert np.array_equal(upper.apply(theta[:, size:], middle), model.apply(theta, x))
        if lower.shapes:
            rng = default_rng(1)
            halves = np.concatenate([lower.init(rng), upper.init(rng)])
            assert np.array_equal(halves, model.init(default_rng(1)))


def test_a_split_needs_a_block_that_exists():
    """Rejects a misspelt name that gives the whole net, which would freeze nothing."""
    with pytest.raises(ValueError, match="'dense2'"):
        NETS["mlp"][0].split("dense2")


@every_net
def test_head_and_body_are_all_arrays(name):
    """Rejects a head that is another block's, and one that lacks its bias."""
    model, theta, x = drawn(name, default_rng(0))
    assert (*model.body, *model.head) == tuple(model.shapes)
    assert len(model.head) == 2
    other = theta + params.mask(model.shapes, model.head)
    before, after = model.activations(theta, x), model.activations(other, x)
    changed = [n for n in before if not np.array_equal(before[n], after[n])]
    assert changed == ["head"]


def test_the_head_is_the_last_block_with_arrays():
    """Rejects a head that is empty when a net ends in a block without arrays."""
    model = NETS["mlp"][0]
    flat = models.Model((*model.blocks, models.FLATTEN))
    assert (flat.head, flat.body) == (model.head, model.body)


def test_norm_names_batch_norms_arrays():
    """Rejects biases among them, scales that are forgotten, and another order in theta."""
    named = {name: model.norm for name, (model, _) in NETS.items()}
    assert named["mlp"] == named["mlp context"] == ()
    assert named["mlp batch norm"] == named["conv context"] == ("beta0", "beta1")
    scaled = ["w0", "gamma0", "beta0", "w1", "gamma1", "beta1", "w", "b"]
    assert [*NETS["conv scale"][0].shapes] == scaled
    assert (
        named["mlp scale"] == named["conv scale"] == ("gamma0", "beta0", "gamma1", "beta1")
    )


@every_net
def test_a_step_size_of_zero_freezes_a_block(name):
    """Rejects arrays that a mask finds in another block's place."""
    model, theta, x = drawn(name, default_rng(0))
    task = Task(*[lambda _: lambda theta: anp.sum(anp.sin(model.apply(theta, x)))] * 2)
    for block in model.blocks:
        alpha = 0.1 * (1 - params.mask(model.shapes, block.shapes))
        adapted = params.unpack(maml.adapt(theta, task, alpha, 2), model.shapes)
        for array, before in params.unpack(theta, model.shapes).items():
            frozen = array in block.shapes
            assert np.array_equal(adapted[array], before) == frozen, array


@scaled_net
def test_a_scale_of_one_is_no_scale(name):
    """Rejects a scale that starts at zero or multiplies the offset: to the last bit."""
    plain, _ = NETS[WITHOUT_SCALE[name]]
    model, theta, x = drawn(name, default_rng(0))
    p = params.unpack(theta, model.shapes)
    ones = {n: np.ones_like(a) if n.startswith("gamma") else a for n, a in p.items()}
    without = {n: a for n, a in p.items() if not n.startswith("gamma")}
    assert np.array_equal(
        model.apply(params.pack(ones, model.shapes), x),
        plain.apply(params.pack(without, plain.shapes), x),
    )
    # The scales take no draw from the weights either.
    drawn_without = params.unpack(plain.init(default_rng(2)), plain.shapes)
    for array, values in params.unpack(model.init(default_rng(2)), model.shapes).items():
        assert np.array_equal(values, drawn_without.get(array, np.ones_like(values)))


@scaled_net
@given(seed=seeds)
def test_a_scale_multiplies_before_the_offset(name, seed):
    """Rejects a scale after the offset, of the inputs, or of another layer: where the
    scale is zero, a layer gives the activation of its offset."""
    model, theta, x = drawn(name, default_rng(seed))
    for i, block in enumerate(model.blocks[:2]):
        p = params.unpack(theta, model.shapes)
        p[f"gamma{i}"] = np.zeros_like(p[f"gamma{i}"])
        found = model.activations(params.pack(p, model.shapes), x)[block.name]
        expected = plain_relu(p[f"beta{i}"][0])
        assert np.array_equal(found, np.broadcast_to(expected, found.shape))


@scaled_net
def test_derivatives_by_a_scale_are_central_differences(name):
    """Rejects a scale whose gradient is summed over tasks, or not over positions."""
    rng = default_rng(0)
    model = {
        "mlp scale": models.mlp([3, 5, 4, 2], anp.tanh, batch_norm=True, scale=True),
        "conv scale": models.conv_net((7, 6, 2), 3, 4, 2, anp.tanh, scale=True),
        "pooled scale": models.pooled_conv_net(
            (9, 8, 2), 3, 4, 2, anp.tanh, pool=models.mean_pool, scale=True
        ),
    }[name]
    _, theta, x = drawn(name, rng, (2,))
    check_derivatives(lambda theta: model.apply(theta, x), theta, rng=rng)


# ----- Initial values -----


def test_truncated_normal_is_redrawn_and_not_clipped():
    """Rejects clipping at two scales (deviation 0.00978) and no truncation (0.01)."""
    draws = models.truncated_normal(default_rng(0), (400, 250))
    assert np.abs(draws).max() <= 0.02
    # A normal variable within two deviations has deviation 0.87963 (closed form). Of
    # 100,000 draws the mean errs by 0.0028 of a scale, the deviation by less: 4 sigma.
    assert abs(draws.mean()) <= 4 * 0.01 * 0.0028
    assert abs(draws.std() - 0.01 * 0.87963) <= 4 * 0.01 * 0.0028


@pytest.mark.parametrize(
    ("draw", "shape", "bound"),
    [
        # TensorFlow: fan in 3*3*32, fan out 3*3*64.
        (models.glorot_uniform, (288, 64), np.sqrt(6 / (288 + 576))),
        (models.glorot_dense, (800, 20), np.sqrt(6 / 820)),
        (models.uniform(64), (64, 300), 1 / 8),
    ],
)
def test_glorot_is_uniform_up_to_its_bound(draw, shape, bound):
    """Rejects a normal draw, a fan out without the kernel, a bound on one side only."""
    draws = draw(default_rng(0), shape)
    assert draws.shape == shape
    # Of n uniform draws the extremes miss the bound by 2/n of it on average; n > 16,000.
    assert bound * 0.999 <= draws.max() <= bound
    assert -bound <= draws.min() <= -bound * 0.999
    # The deviation is bound/sqrt(3) but for 0.45/sqrt(n) = 0.4 % (one sigma).
    assert abs(draws.std() / bound - 3**-0.5) <= 0.01


def test_pytorchs_draw_is_of_weights_and_biases():
    """Rejects zero biases, with which a tanh net begins as an odd function, and a bound by
    the number of outputs: both are uniform on +-1 / sqrt(inputs)."""
    model = models.mlp((9, 400, 1), anp.tanh, draw=None)
    arrays = params.unpack(model.init(default_rng(0)), model.shapes)
    for name, inputs in (("w0", 9), ("b0", 9), ("w1", 400), ("b1", 400)):
        values, bound = arrays[name], inputs**-0.5
        assert np.abs(values).max() <= bound, name
        assert np.unique(values).size == values.size
        if values.size > 1:
            assert np.abs(values).max() >= 0.95 * bound, name
            assert abs(values.std() / bound - 3**-0.5) <= 0.05, name


@every_net
def test_weights_are_drawn_and_offsets_start_at_zero(name):
    """Rejects an array drawn by the wrong rule: a zero weight or a random offset."""
    model, _ = NETS[name]
    for array, values in params.unpack(model.init(default_rng(0)), model.shapes).items():
        if array == "b_film":  # gamma, then beta
            assert np.array_equal(values, np.repeat([[1.0, 0.0]], 4, axis=-1))
        elif array.startswith(("b", "z")):
            assert not values.any(), array
        elif array.startswith("gamma"):
            assert (values == 1).all(), array
        else:
            assert np.unique(values).size == values.size, array


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("mlp", {"w0": 0.02, "w1": 0.02, "w2": 0.02}),
        ("mlp batch norm", {"w0": 0.02, "w1": 0.02, "w2": 0.02}),
        (
            "conv",
            {
                "w0": np.sqrt(6 / (18 + 36)),
                "w1": np.sqrt(6 / (36 + 36)),
                "w": np.sqrt(6 / (4 + 3)),
            },
        ),
        (
            "pooled conv",
            {
                "w0": np.sqrt(6 / (18 + 36)),
                "w1": np.sqrt(6 / (36 + 36)),
                "w": np.sqrt(6 / (2 * 2 * 4 + 3)),
            },
        ),
    ],
)
def test_every_weight_fills_its_own_bounds(name, bounds):
    """Rejects one layer's scale used for another's."""
    model, _ = NETS[name]
    rng = default_rng(0)
    thetas = np.stack([model.init(rng) for _ in range(500)])
    for array, bound in bounds.items():
        largest = np.abs(thetas[:, params.spans(model.shapes)[array]]).max()
        # 4,000 draws or more come within 2 % of the bound.
        assert 0.98 * bound <= largest <= bound, array


@every_net
def test_the_same_seed_draws_the_same_theta(name):
    """Rejects a draw from NumPy's global generator."""
    model, _ = NETS[name]
    assert np.array_equal(model.init(default_rng(3)), model.init(default_rng(3)))
    assert not np.array_equal(model.init(default_rng(3)), model.init(default_rng(4)))


# ----- Tasks side by side -----


@every_net
@given(tasks=st.integers(1, 3), n=st.integers(2, 5), seed=seeds)
def test_tasks_side_by_side_are_a_loop_over_tasks(name, tasks, n, seed):
    """Rejects statistics, weights or gradients shared between tasks."""
    rng = default_rng(seed)
    model, theta, x = drawn(name, rng, (tasks,), n)
    w = rng.standard_normal(model.apply(theta, x).shape)
    together = outputs_and_gradient(model, theta, x, w)
    alone = [outputs_and_gradient(model, *task) for task in zip(theta, x, w, strict=True)]
    for stacked, loop in zip(together, zip(*alone, strict=True), strict=True):
        # Products of other sizes round in another order.
        assert close(stacked, np.stack(loop), 1e-12)


@every_net
def test_another_tasks_inputs_change_nothing(name):
    """Rejects batch statistics taken over all the tasks: equal to the last bit."""
    rng = default_rng(0)
    model, theta, x = drawn(name, rng, (3,))
    before = model.apply(theta, x)
    x[1] = 10 * rng.standard_normal(x[1].shape)
    after = model.apply(theta, x)
    assert np.array_equal(after[[0, 2]], before[[0, 2]])
    assert not np.allclose(after[1], before[1])


@normalised_net
def test_batch_statistics_are_those_of_the_call(name):
    """Rejects running averages: a call in between must leave no trace."""
    rng = default_rng(0)
    model, theta, x = drawn(name, rng)
    before = model.apply(theta, x)
    other = model.apply(theta, 5 + 3 * rng.standard_normal(x.shape))
    assert not np.allclose(other, before)
    assert np.array_equal(model.apply(theta, x), before)


@normalised_net
def test_an_example_is_judged_by_its_companions(name):
    """Rejects stored statistics, and normalisation of every example alone."""
    rng = default_rng(0)
    model, theta, x = drawn(name, rng)
    others = np.concatenate([x[:1], rng.standard_normal(x[1:].shape)])
    assert not np.allclose(model.apply(theta, x)[0], model.apply(theta, others)[0])
    # Twice the same batch has the same mean and variance; sums round differently.
    twice = model.apply(theta, np.concatenate([x, x]))
    assert close(twice[: len(x)], model.apply(theta, x), 1e-12)


def test_leading_axes_that_differ_are_refused():
    """Rejects one task's theta silently used for every task."""
    model, theta, x = drawn("mlp", default_rng(0), (2,))
    with pytest.raises(ValueError, match=r"affine takes shapes .* not \(2, 4, 3\)"):
        model.apply(theta[0], x)


# ----- Symmetries -----


@every_net
@given(n=st.integers(2, 5), seed=seeds)
def test_the_order_of_the_examples_is_carried_through(name, n, seed):
    """Rejects a net in which an example's place in the batch means something."""
    rng = default_rng(seed)
    model, theta, x = drawn(name, rng, n=n)
    w = rng.standard_normal(model.apply(theta, x).shape)
    order = rng.permutation(n)
    y, gradient = outputs_and_gradient(model, theta, x, w)
    moved_y, moved_gradient = outputs_and_gradient(model, theta, x[order], w[order])
    # Sums over the batch in another order; two rows that nearly agree lose three digits.
    assert close(moved_y, y[order], 1e-11)
    assert close(moved_gradient, gradient, 1e-11)


def permute_hidden(vectors, shapes, layer, order):
    """Return theta with the units of one hidden layer in another order."""
    p = params.unpack(vectors, shapes)
    offset = f"beta{layer}" if f"beta{layer}" in shapes else f"b{layer}"
    following = f"w{layer + 1}" if f"w{layer + 1}" in shapes else "w"
    # Rows of the layer that follows run over (position, unit).
    rows = p[following].reshape(-1, len(order), shapes[following][1])
    moved = {
        f"w{layer}": p[f"w{layer}"][:, order],
        offset: p[offset][:, order],
        following: rows[:, order].reshape(shapes[following]),
    }
    if (scale := f"gamma{layer}") in shapes:
        moved[scale] = p[scale][:, order]
    if "w_film" in shapes and layer == 0:  # which modulates the first block
        both = np.concatenate([order, len(order) + order])
        moved |= {name: p[name][:, both] for name in ("w_film", "b_film")}
    return params.pack(p | moved, shapes)


@every_net
@given(layer=st.integers(0, 1), seed=seeds)
def test_hidden_units_may_change_places(name, layer, seed):
    """Rejects rows of weights read as (unit, position), and a unit that is special."""
    rng = default_rng(seed)
    model, theta, x = drawn(name, rng)
    w = rng.standard_normal(model.apply(theta, x).shape)
    order = rng.permutation(model.shapes[f"w{layer}"][1])
    moved = permute_hidden(theta, model.shapes, layer, order)
    y, gradient = outputs_and_gradient(model, theta, x, w)
    moved_y, moved_gradient = outputs_and_gradient(model, moved, x, w)
    # Sums over the units in another order; near-equal rows lose digits, as above.
    assert close(moved_y, y, 1e-11)
    expected = permute_hidden(gradient, model.shapes, layer, order)
    assert close(moved_gradient, expected, 1e-11)


# ----- A whole meta-gradient in float32 -----


ALGORITHMS = [maml.meta_gradient, maml.meta_gradient_low_memory, maml.first_order]
STEP_SIZES = {
    "python float": lambda theta: 0.1,
    "float64 array": lambda theta: np.full(theta.shape, 0.1),
    "float64 scalar": lambda theta: np.float64(0.1),
}


def watched_meta_gradient(algorithm, alpha, name, loss):
    """Return the dtypes seen during two steps of two tasks, and the results' dtypes."""
    rng = default_rng(0)
    model, theta, x = drawn(name, rng, (2,))
    theta, x = theta.astype(np.float32), x.astype(np.float32)

    def of_theta(_):
        return lambda theta: loss(model.apply(theta, x))

    with watch() as seen:
        value, gradient = algorithm(theta, Task(of_theta, of_theta), alpha(theta), 2)
    return seen, {value.dtype.name, gradient.dtype.name}


def entropy(outputs):
    return cross_entropy(outputs, np.array([[0, 1, 1, 0], [1, 0, 0, 1]]))


def squares(outputs):
    return mse(outputs, np.ones(outputs.shape, np.float32))


@every_net
@pytest.mark.parametrize("alpha", STEP_SIZES.values(), ids=STEP_SIZES)
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("loss", [entropy, squares])
def test_a_float32_meta_gradient_has_no_float64_in_it(algorithm, alpha, name, loss):
    """Rejects a float64 step size, constant or rule anywhere between theta and v_0."""
    seen, results = watched_meta_gradient(algorithm, alpha, name, loss)
    assert results == {"float32"}
    assert any("value" in place for place in seen["float32"])
    assert any("cotangent" in place for place in seen["float32"])
    assert not seen["float64"]


LEAKS = {
    "mean": lambda outputs: anp.mean(outputs**2),
    "float64 scalar": lambda outputs: np.float64(0.5) * anp.sum(outputs**2),
    "float64 targets": lambda outputs: mse(outputs, np.ones(outputs.shape)),
    "maximum": lambda outputs: anp.sum(anp.maximum(outputs, 0)),
}


@pytest.mark.parametrize("loss", LEAKS.values(), ids=LEAKS)
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda f: f.__name__)
def test_the_watch_finds_a_loss_that_leaks(algorithm, loss):
    """Rejects a watch that looks at results only.

    The gradient itself comes back in float32: unpack's adjoint adds into zeros of
    theta's type, whatever the cotangents were.
    """
    seen, _ = watched_meta_gradient(algorithm, STEP_SIZES["python float"], "mlp", loss)
    assert seen["float64"]


def test_the_watch_finds_an_activation_that_leaks():
    """Rejects a watch that sees the forward values only: maximum leaks on the way back."""
    model = models.mlp([3, 5, 4, 2], activation=lambda x: anp.maximum(x, 0))
    theta, x = model.init(default_rng(0)).astype(np.float32), np.ones((4, 3), np.float32)
    with watch() as seen:
        grad(lambda theta: squares(model.apply(theta, x)))(theta)
    places = {place for place in seen["float64"] if not place.startswith("_join")}
    assert not any("value" in place for place in places)
    assert any("cotangent" in place for place in places)


# ----- What is refused -----


def test_pools_leave_pixels():
    """Rejects a head without inputs, which gives all images the same answer."""
    with pytest.raises(ValueError, match="4 2x2 pools need 16x16 pixels or more, not 8x8"):
        models.pooled_conv_net((8, 8, 1), 5, 4)
    with pytest.raises(ValueError, match="not 16x15"):
        models.pooled_conv_net((16, 15, 1), 5, 4)
    assert models.pooled_conv_net((16, 16, 1), 5, 4).shapes["w"] == (4, 5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.conv_net((28, 28, 0), 5, 4),
        lambda: models.conv_net((28, 28, 1), 0, 4),
        lambda: models.conv_net((28, 28, 1), 5, 0),
        lambda: models.conv_net((28, 28, 1), 5, 4, layers=0),
        lambda: models.conv_net((28, 28, 1), 5, 2.5),
        lambda: models.mlp((1, 0, 1)),
        lambda: models.mlp((1,)),
        lambda: models.mlp(()),
        lambda: models.with_context(models.mlp((1, 3, 1)), (0,)),
        lambda: models.with_film(models.conv_net((28, 28, 1), 5, 4), "conv3", 0),
        lambda: models.mlp((1, 3, 1), batch_norm=True, draw=None),
    ],
)
def test_sizes_are_whole_and_positive(make):
    """Rejects a net with an empty layer, which learns its biases only."""
    with pytest.raises(ValueError, match=r"whole numbers from 1|two widths|needs `draw`"):
        make()


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 3)])
def test_means_need_pixels_as_maxima_do(shape):
    """Rejects a net of a smooth check that is left without a pixel."""
    with pytest.raises(ValueError, match="needs 2x2 pixels or more"):
        models.mean_pool(np.ones(shape))


def test_a_context_does_not_make_floats_of_bytes():
    """Rejects images of 0..255 that pass, since z beside them is floating point."""
    net = models.with_context(models.mlp((3, 4, 1)), (2,))
    with pytest.raises(TypeError, match="takes floating-point arrays, not uint8"):
        net.apply(net.init(default_rng(0)), np.ones((5, 1), np.uint8))


def test_blocks_do_not_share_arrays():
    """Rejects two contexts in one z, and a net that repeats a block with its weights."""
    with pytest.raises(ValueError, match=r"two blocks have arrays \['z'\]"):
        models.with_context(models.with_context(models.mlp((5, 4, 1)), (2,)), (2,))


def test_an_image_has_three_sizes():
    """Rejects an IndexError from the inside for an image without channels."""
    with pytest.raises(ValueError, match=r"height, a width and channels, not \(8, 8\)"):
        models.conv_net((8, 8), 5, 4)


@pytest.mark.parametrize("theta", [[0.0] * 10, np.zeros(10, int), np.float64(0)])
def test_theta_of_a_net_is_an_array(theta):
    """Rejects an AttributeError from the inside, and a theta of integers."""
    with pytest.raises(TypeError, match="theta must be"):
        models.mlp((1, 3, 1)).apply(theta, np.ones((5, 1)))
