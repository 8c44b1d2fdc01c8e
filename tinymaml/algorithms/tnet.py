"""T-net: a linear map T after each layer, which is meta-learned and not adapted.

    x W + b   becomes   (x W + b) T,   before batch norm and the activation

T (f, f) starts as the identity. Every layer has one, the head too. Inner steps change all
other arrays. Let G be the gradient by the product W T. One step changes it by

    W T  ->  W T - alpha G T'T

So T learns the metric of steepest descent. It is a part of the model and stays in inner
steps; nothing else is new, and MAML's gradient serves. MT-net also draws masks of units at
random; they are left out.

Source: Lee, Choi, "Gradient-Based Meta-Learning with Learned Layerwise Metric and
Subspace", ICML 2018; forward_fc_withT and forward_conv_withT in maml.py of its official
code, run with --use_T=True --use_M=False.
"""

from typing import Any

import numpy as np

from tinymaml.algorithms import learned
from tinymaml.algorithms.learned import PartOptions
from tinymaml.errors import UsageError
from tinymaml.models import Block, Model
from tinymaml.ops import matmul


T = "T"  # T0, T1, ... beside w0, w1, ...; no array of another block begins with it


def with_map(block: Block) -> Block:
    """Return the block with T after its weights and its bias; one without weights as it is.

    The arrays of batch norm come after T and have none.
    """
    before_t = [name for name in block.shapes if name not in block.norm]
    if not before_t:
        return block
    weight = before_t[0]
    for name in before_t:
        if len(block.shapes[name]) != 2:
            has = f"{name} of the model has shape {block.shapes[name]}"
            raise UsageError(f"T-net multiplies matrices (rows, columns) by T; {has}")
    t, width = T + weight[1:], block.shapes[weight][-1]

    def before(p, x):
        mapped = {name: matmul(p[name], p[t]) for name in before_t}
        return block.before({**p, **mapped}, x)

    return block._replace(
        shapes={**block.shapes, t: (width, width)},
        draws={**block.draws, t: lambda rng, shape: np.eye(shape[0], shape[1])},
        before=before,
    )


def build(model: Model, options: Any) -> Model:
    """Return the net with a T in every layer."""
    return Model(tuple(map(with_map, model.blocks)))


def moved(model: Model, options: Any) -> list[str]:
    """Return the names of all arrays that `--adapts` names but the Ts.

    Raises UsageError for a model without T, as of a `setup` that does not call `build`.
    """
    if not any(name.startswith(T) for name in model.shapes):
        built = "model = config.method.build(model, config)"
        raise UsageError(f"T-net needs its maps T in the model: {built}")
    return [name for name in learned.parts(model, options) if not name.startswith(T)]


TNET = learned.LEARNED._replace(
    name="t-net",
    label="T-net",
    learns="theta and a linear map T per layer; step sizes with --rates",
    adapts="theta without T",
    cost="1 on images; 3 on sine",
    source="Lee & Choi 2018, without masks",
    options=PartOptions,
    not_in_rl="the policy has no linear maps",
    build=build,
    moved=moved,
)
