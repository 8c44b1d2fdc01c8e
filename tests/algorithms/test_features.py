"""One pass through the layers below: the same as the chain through all layers."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases import ROUNDING, case, difference, small
from tinymaml import chain, maml, params
from tinymaml.algorithms import features
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.fewshot import Episode
from tinymaml.maml import Task
from tinymaml.speed.tape import taped


SEEDS, STEPS = st.integers(0, 2**32 - 1), st.integers(0, 4)
NETS = {
    "conv": (Glyphs, {}),
    "conv relu": (Glyphs, {"activation": "relu"}),
    "scale": (Glyphs, {"norm_scale": True, "adapt_norm": True}),
    "pooled": (Glyphs, {"net": "pooled", "activation": "leaky-relu"}),
    "mlp": (Sine, {}),
}
every_net = pytest.mark.parametrize("net", NETS)


def moving(net, first, steps, seed, **changes):
    """A case whose steps change the first block named and all above, and step sizes
    (steps, T, P) that differ in every entry."""
    kind, options = NETS[net]
    found = case(small(kind, "maml", inner_steps=steps, **options | changes), 2)
    model = found.problem.model
    lower, _ = model.split(first)
    moved = 1 - params.mask(model.shapes, lower.shapes)
    family = found.problem._replace(alpha=moved.astype(found.w.dtype))
    rng = np.random.default_rng(seed)
    alphas = moved * rng.uniform(0.02, 0.3, (steps, *found.w.shape))
    return found._replace(problem=family), [*alphas.astype(found.w.dtype)], rng


def both(found, alphas, weights=None, second_order=True):
    """(loss, v, slopes) by features, and by the chain on the whole theta."""
    w, task, family = found.args
    short = features.gradient(w, task, family, alphas, weights, second_order)
    return short, chain.gradient(w, task, alphas, weights, second_order)


@every_net
@pytest.mark.parametrize("second_order", [True, False])
@given(seed=SEEDS, steps=STEPS, weighted=st.booleans())
def test_it_is_the_chain_through_all_layers(net, second_order, seed, steps, weighted):
    """Rejects a missing term H_{body, head}, features of the query set in the place of
    the support set's, weights or slopes that are lost, and parts out of order."""
    found, alphas, rng = moving(net, "head", steps, seed)
    weights = rng.standard_normal(steps) if weighted and steps else None
    short, whole = both(found, alphas, weights, second_order)
    assert short[0] == pytest.approx(whole[0], rel=ROUNDING)
    assert difference(short[1], whole[1]) < ROUNDING
    assert len(short[2]) == len(whole[2]) == steps
    for one, other in zip(short[2], whole[2], strict=True):
        # A slope is of use where steps change something; below it is not computed.
        moved = found.problem.alpha > 0
        assert difference(moved * one, moved * other) < ROUNDING
        assert not one[:, ~moved].any()


@pytest.mark.parametrize("net", ["conv", "pooled"])
@pytest.mark.parametrize("first", ["conv1", "conv2", "conv3", "head"])
def test_the_cut_may_be_at_any_layer(net, first):
    """Rejects a cut that is one block off, or always at the head."""
    found, alphas, _ = moving(net, first, 3, 0)
    lower, upper = features.cut(found.problem)
    assert upper.blocks[0].name == first
    assert (*lower.blocks, *upper.blocks) == found.problem.model.blocks
    short, whole = both(found, alphas)
    assert difference(short[1], whole[1]) < ROUNDING


def test_the_cut_is_below_every_array_that_moves():
    """Rejects a cut at the first block whose first array moves: an offset alone is
    enough, and what stays in the upper layers stays."""
    found, alphas, _ = moving("conv", "head", 2, 0)
    shapes = found.problem.model.shapes
    moved = params.mask(shapes, ["beta1", "w"])
    found = found._replace(problem=found.problem._replace(alpha=moved))
    assert features.cut(found.problem)[1].blocks[0].name == "conv1"
    alphas = [moved * np.random.default_rng(1).uniform(0.1, 0.3, moved.shape)] * 2
    short, whole = both(found, alphas)
    assert difference(short[1], whole[1]) < ROUNDING


@every_net
def test_without_layers_below_it_is_maml_to_the_bit(net):
    """Rejects a detour that changes the bits of an algorithm which adapts all layers."""
    first = "dense0" if net == "mlp" else "conv0"
    found, alphas, _ = moving(net, first, 3, 0)
    short, whole = both(found, alphas)
    assert short[0] == whole[0]
    np.testing.assert_array_equal(short[1], whole[1])
    expected = maml.meta_gradient(found.w, found.task, np.stack(alphas), 3)
    np.testing.assert_array_equal(short[1], expected[1])


@every_net
def test_without_anything_that_moves_it_is_the_query_gradient(net):
    """Rejects a crash where no layer moves, and a product that is left over."""
    found, alphas, _ = moving(net, "head", 3, 0)
    family = found.problem._replace(alpha=0 * found.problem.alpha)
    loss, v, _ = features.gradient(found.w, found.task, family, [0 * a for a in alphas])
    query = found.task.query(found.w)
    expected = maml.value_and_gradient(query, found.w)
    assert loss == expected[0]
    np.testing.assert_array_equal(v, expected[1])


@pytest.mark.parametrize("net", ["conv relu", "pooled"])
@pytest.mark.parametrize("second_order", [True, False])
def test_single_precision_is_close_and_stays(net, second_order):
    """Rejects a step size, zeros or features in float64, and sums that lose digits."""
    found, alphas, _ = moving(net, "head", 5, 0, dtype="float32")
    assert {a.dtype.name for a in (found.w, *alphas)} == {"float32"}
    short, whole = both(found, alphas, None, second_order)
    assert {x.dtype.name for x in (short[0], short[1], *short[2])} == {"float32"}
    assert difference(short[1], whole[1]) < 1e-5


@pytest.mark.parametrize("net", ["conv", "pooled"])
def test_the_layers_below_are_passed_once(net):
    """Rejects a pass through the body for each step: the calls of convolutions and of
    batch norm in a recording are the same for one step and for five."""
    calls = {}
    for steps in (1, 5):
        found, alphas, _ = moving(net, "head", steps, 0)
        task, family = found.problem.task, found.problem

        def gradient(w, *arrays, alphas=alphas, task=task, family=family):
            return features.gradient(w, task(Episode(*arrays)), family, alphas)[:2]

        episode = found.task.episode
        tape, _, _ = taped(gradient, found.w, *episode)
        names = Counter(call.function.__name__ for call in tape)
        calls[steps] = [names[x] for x in ("unfold", "_conv", "_normalize", "fold")]
    assert calls[1] == calls[5]
    assert sum(calls[1]) > 8


def test_a_task_without_an_episode_takes_the_chain():
    """Rejects a crash for a task that draws its data: a policy's, which has no inputs."""
    found, alphas, _ = moving("mlp", "head", 2, 0)
    plain = Task(found.task.support, found.task.query)
    short, whole = both(found._replace(task=plain), alphas)
    assert short[0] == whole[0]
    np.testing.assert_array_equal(short[1], whole[1])
