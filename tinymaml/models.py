"""Models: lists of named blocks, whose composition is the net.

    blocks   context? flatten?  conv0 conv1 ... | dense0 dense1 ...  mean? flatten?  head
    theta    [z, w0, gamma0?, beta0, w1, ..., w, b]: the blocks' arrays, in their order

A model takes theta (..., P) and inputs with theta's leading axes. It has no state. Batch
normalisation uses the statistics of the batch, as the official code does (utils.py:41), so
support and query sets are normalised separately.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import autograd.numpy as anp
import numpy as np
from numpy.random import Generator

from tinymaml import params
from tinymaml.contracts import check, takes
from tinymaml.errors import UsageError
from tinymaml.ops import (
    EPSILON,
    add_row,
    affine,
    conv,
    leaky_relu,
    matmul,
    max_pool,
    normalize,
    relu,
)
from tinymaml.params import Array, Shapes


Draw = Callable[[Generator, tuple[int, ...]], Array]
Map = Callable[[Array], Array]
Arrays = Mapping[str, Array]
Matrix = tuple[int, int]
Norm = tuple[float, bool]
Product = Callable[[Array, Array], Array]


@takes("hwc")
def mean_pool(x: Array) -> Array:
    """2x2 means (..., h//2, w//2, c) of (..., h, w, c); drops an odd last row or column.

    Raises as `ops.max_pool` does.
    """
    *lead, h, w, c = x.shape
    if min(h, w) < 2:
        raise ValueError(f"mean_pool needs 2x2 pixels or more, not {x.shape}")
    x = x[..., : h // 2 * 2, : w // 2 * 2, :]
    x = anp.reshape(x, (*lead, h // 2, 2, w // 2, 2, c))
    return anp.sum(x, axis=(-4, -2)) * 0.25


# The paper's nets have relu and maxima. Some checks need tanh and means: they are smooth.
ACTIVATIONS: dict[str, Map] = {"relu": relu, "leaky-relu": leaky_relu, "tanh": anp.tanh}
POOLS: dict[str, Map] = {"relu": max_pool, "leaky-relu": max_pool, "tanh": mean_pool}


def same(x: Array) -> Array:
    """Return x."""
    return x


class Block(NamedTuple):
    """One step of a net. before(arrays by name, input) -> what its activation takes."""

    name: str
    shapes: Shapes  # in theta's order; no two blocks of a net share a name
    draws: Mapping[str, Draw]  # initial values; zeros for arrays without an entry
    before: Callable[[Arrays, Array], Any]  # an array, but at the end of a policy
    norm: tuple[str, ...] = ()  # the arrays of batch norm
    activation: Map = same

    def apply(self, p: Arrays, x: Array) -> Any:
        """Return the output for arrays by name and an input."""
        return self.activation(self.before(p, x))


@dataclass(frozen=True)
class Model:
    """A net: its blocks, each applied to the output of the one before.

    Raises ValueError when two blocks have arrays of the same name: they would share them.
    """

    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        names = [name for block in self.blocks for name in block.shapes]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two blocks have arrays {sorted(twice)}")

    @cached_property
    def shapes(self) -> Shapes:
        """Array name -> shape, in theta's order."""
        return {n: shape for block in self.blocks for n, shape in block.shapes.items()}

    @property
    def head(self) -> tuple[str, ...]:
        """Names of the arrays of the last block that has any."""
        return next((tuple(b.shapes) for b in reversed(self.blocks) if b.shapes), ())

    @property
    def body(self) -> tuple[str, ...]:
        """Names of all other arrays."""
        return tuple(self.shapes)[: -len(self.head)]

    @property
    def norm(self) -> tuple[str, ...]:
        """Names of batch norm's arrays: offsets, and learned scales."""
        return tuple(n for block in self.blocks for n in block.norm)

    def init(self, rng: Generator) -> Array:
        """Draw theta (P,) in float64."""
        draws = {n: draw for block in self.blocks for n, draw in block.draws.items()}
        zeros = lambda _, shape: np.zeros(shape)  # noqa: E731
        arrays = {n: draws.get(n, zeros)(rng, shape) for n, shape in self.shapes.items()}
        return params.pack(arrays, self.shapes)

    def apply(self, theta: Array, x: Array) -> Any:
        """Return the output of the last block."""
        return self.through(params.unpack(theta, self.shapes), x)

    def through(self, arrays: Arrays, x: Array) -> Any:
        """Return the output for arrays by name, among which there may be others."""
        for block in self.blocks:
            x = block.apply(arrays, x)
        return x

    def activations(self, theta: Array, x: Array) -> dict[str, Array]:
        """Return block name -> output, for every block."""
        p, found = params.unpack(theta, self.shapes), {}
        for block in self.blocks:
            found[block.name] = x = block.apply(p, x)
        return found

    def split(self, name: str) -> tuple[Model, Model]:
        """Return the net below the named block, and the rest. They cut theta in two."""
        at = [block.name for block in self.blocks].index(name)
        return Model(self.blocks[:at]), Model(self.blocks[at:])


# ----- Initial values -----


def truncated_normal(rng: Generator, shape: tuple[int, ...]) -> Array:
    """Draw from N(0, 0.01^2), redrawn beyond two deviations (maml.py:168-177)."""
    draws = rng.standard_normal(shape)
    while (outside := np.abs(draws) > 2).any():
        draws[outside] = rng.standard_normal(outside.sum())
    return 0.01 * draws


def glorot_uniform(rng: Generator, shape: tuple[int, ...]) -> Array:
    """Draw the weights (9 c, f) of a 3x3 convolution as the official code does.

    They are uniform on +-sqrt(6 / (fan in + fan out)), and both fans count the kernel.
    """
    rows, f = shape
    return rng.uniform(-1, 1, shape) * np.sqrt(6 / (rows + 9 * f))


def uniform(inputs: int) -> Draw:
    """Return a draw that is uniform on +-1 / sqrt(inputs).

    For a linear layer with so many inputs it is PyTorch's default, for weights and biases
    alike (torch/nn/modules/linear.py, reset_parameters).
    """
    return lambda rng, shape: rng.uniform(-1, 1, shape) / np.sqrt(inputs)


def glorot_dense(rng: Generator, shape: tuple[int, ...]) -> Array:
    """Draw uniformly on +-sqrt(6 / (rows + columns)): heads."""
    return rng.uniform(-1, 1, shape) * np.sqrt(6 / sum(shape))


# "normal", N(0, 1), is official for Omniglot (maml.py, construct_conv_weights).
HEADS: dict[str, Draw] = {"glorot": glorot_dense, "normal": Generator.standard_normal}


# ----- Blocks -----


def linear(
    name: str, i: int | str, shape: Matrix, draw: Draw | None, then: Map = same
) -> Block:
    """then(x w{i} + b{i}): (..., n, k) -> (..., n, f), where shape is (k, f).

    draw: initial weights, with zeros as biases; None draws both by `uniform`
    """
    w, b = f"w{i}", f"b{i}"
    shapes = {w: shape, b: (1, shape[1])}
    draws = {w: draw} if draw else dict.fromkeys((w, b), uniform(shape[0]))
    return Block(name, shapes, draws, lambda p, x: affine(x, p[w], p[b]), (), then)


def normed(
    name: str,
    i: int,
    shape: Matrix,
    draw: Draw,
    then: Map,
    product: Product,
    norm: Norm,
    pool: Map | None = None,
) -> Block:
    """then(pool(gamma{i} * batch norm of product(x, w{i})) + beta{i}), a statistic per
    channel.

    norm: eps, and whether there is a gamma, which starts at 1. There is no bias: it would
    be normalised away. theta has w, gamma, beta in this order.
    """
    eps, scale = norm
    w, gamma, beta = f"w{i}", f"gamma{i}", f"beta{i}"
    names = (gamma, beta) if scale else (beta,)

    def apply(p: Arrays, x: Array) -> Array:
        x = product(x, p[w])
        lead, images = p[w].shape[:-2], x.ndim > p[w].ndim
        rows = normalize(anp.reshape(x, (*lead, -1, shape[1])) if images else x, eps)
        rows = rows * p[gamma] if scale else rows
        if pool:  # before the offset, which gives the same numbers from fewer sums
            x = pool(anp.reshape(rows, x.shape))
            rows = anp.reshape(x, (*lead, -1, shape[1]))
        rows = add_row(rows, p[beta])
        return anp.reshape(rows, x.shape) if images else rows

    shapes = {w: shape, **dict.fromkeys(names, (1, shape[1]))}
    draws = {w: draw, gamma: lambda _, shape: np.ones(shape)}
    return Block(name, shapes, draws, apply, names, then)


def _check_sizes(what: str, *sizes: int) -> None:
    if not all(isinstance(n, int | np.integer) and n >= 1 for n in sizes):
        raise ValueError(f"{what} must be whole numbers from 1, not {sizes}")


def _mean(_: Arrays, x: Array) -> Array:
    *lead, h, w, f = x.shape
    return anp.sum(anp.reshape(x, (*lead, h * w, f)), axis=-2) * (1.0 / (h * w))


MEAN = Block("mean", {}, {}, _mean)  # over positions
FLATTEN = Block("flatten", {}, {}, lambda _, x: anp.reshape(x, (*x.shape[:-3], -1)))


# ----- The nets -----


def mlp(
    widths: Sequence[int],
    activation: Map = relu,
    batch_norm: bool = False,
    eps: float = EPSILON,
    draw: Draw | None = truncated_normal,
    scale: bool = False,
) -> Model:
    """Fully connected net: (..., n, widths[0]) -> (..., n, widths[-1]).

    batch_norm: normalise each hidden layer over the examples, in place of a bias
    draw: initial weights, as in `linear`; batch norm needs one
    eps, scale: options of batch norm, as in `normed`
    Raises ValueError unless there are two widths or more, all positive.
    Sources: sine 1-40-40-1 and Omniglot without convolution 256-128-64-64 (maml.py:168-177)
    """
    _check_sizes("widths", *widths)
    if len(widths) < 2:
        raise ValueError(f"a net has two widths or more, its inputs and outputs: {widths}")
    if batch_norm and draw is None:
        raise ValueError("batch norm needs `draw`, initial weights")
    layer: Callable[..., Block] = linear
    if batch_norm:
        layer = partial(normed, product=matmul, norm=(eps, scale))
    *hidden, last = itertools.pairwise(widths)
    body = [layer(f"dense{i}", i, kf, draw, activation) for i, kf in enumerate(hidden)]
    return Model((*body, linear("head", len(hidden), last, draw)))


def with_context(model: Model, shape: tuple[int, ...]) -> Model:
    """Return the model with free parameters z appended to every input (..., n, *x).

    shape: that of z, which all examples share. `model` must take inputs with shape[-1] more
    entries; for images these are channels. Raises ValueError for an empty shape.
    Source: appendix C.2
    """
    _check_sizes("the sizes of a context", *shape)

    def apply(p: Arrays, x: Array) -> Array:
        check("a net with a context", "", x)
        examples = (x.shape[-len(shape) - 1], *(1 for _ in shape))
        z = p["z"] + np.zeros(examples, p["z"].dtype)
        return anp.concatenate([x, z], axis=-1)

    return Model((Block("free inputs", {"z": (1, *shape)}, {}, apply), *model.blocks))


def with_film(model: Model, after: str, size: int) -> Model:
    """Return the model with parameters z (size,) that modulate a block of channels.

    [gamma | beta] = z W + c scale and shift each channel of the block named `after`, before
    its activation (FiLM). gamma starts at 1 and beta at 0. Raises UsageError without it,
    ValueError for a size below 1.
    """
    _check_sizes("the size of a context", size)
    names = [block.name for block in model.blocks]
    if after not in names:
        raise UsageError("a net with a context needs convolutions: --net conv or pooled")
    at = names.index(after)
    block = model.blocks[at]
    channels = block.shapes[next(iter(block.shapes))][-1]

    def apply(p: Arrays, x: Array) -> Array:
        both = affine(p["z"], p["w_film"], p["b_film"])
        rows = anp.reshape(x, (*both.shape[:-2], -1, channels)) * both[..., :channels]
        return anp.reshape(add_row(rows, both[..., channels:]), x.shape)

    shapes = {"z": (1, size), "w_film": (size, 2 * channels), "b_film": (1, 2 * channels)}
    one = np.repeat([[1.0, 0.0]], channels, axis=-1)
    draws = {"w_film": glorot_dense, "b_film": lambda rng, shape: one}
    film = Block("film", shapes, draws, apply, (), block.activation)
    bare = block._replace(activation=same)
    return Model((*model.blocks[:at], bare, film, *model.blocks[at + 1 :]))


def flat_images(model: Model) -> Model:
    """Return a model of vectors (..., n, h w c) as one of images (..., n, h, w, c)."""
    return Model((FLATTEN, *model.blocks))


def conv_net(
    image: tuple[int, int, int],
    ways: int,
    filters: int,
    layers: int = 4,
    activation: Map = relu,
    head: Draw = glorot_dense,
    eps: float = EPSILON,
    pool: Map | None = None,
    scale: bool = False,
) -> Model:
    """The Omniglot net: `layers` x [3x3 conv of stride 2, batch norm, relu], then the
    mean over positions, then linear: (..., n, h, w, c) -> (..., n, ways).

    image: height, width, channels
    eps, scale: options of batch norm, as in `normed`; pool: see `pooled_conv_net`
    Raises ValueError when a size is below 1 or missing, or the pools leave no pixel.
    Source: section 5.2 of the paper, 64 filters. The official head is drawn from N(0, 1);
    it learns about half as fast as Glorot's in the first thousand iterations.
    """
    _check_sizes("image, ways, filters and layers", *image, ways, filters, layers)
    if len(image) != 3:
        raise ValueError(f"an image has a height, a width and channels, not {image}")
    if pool and min(image[:2]) >> layers == 0:
        least = f"{2**layers}x{2**layers} pixels or more"
        raise ValueError(f"{layers} 2x2 pools need {least}, not {image[0]}x{image[1]}")
    product: Product = partial(conv, stride=2)
    last, features = MEAN, filters
    if pool:
        # The paper pools last. For relu and maxima this gives the same numbers faster.
        product, last = conv, FLATTEN
        features *= (image[0] >> layers) * (image[1] >> layers)
    how = glorot_uniform, activation, product, (eps, scale), pool
    shapes = [(9 * (filters if i else image[2]), filters) for i in range(layers)]
    body = [normed(f"conv{i}", i, kf, *how) for i, kf in enumerate(shapes)]
    return Model((*body, last, linear("head", "", (features, ways), head)))


# The mini-ImageNet net: `layers` x [3x3 conv, batch norm, relu, 2x2 max-pool], then linear.
# Source: section 5.2 of the paper and Ravi & Larochelle 2017: 32 filters, 84x84x3 images,
# of which 5x5x32 = 800 features are left.
pooled_conv_net = partial(conv_net, pool=max_pool)
