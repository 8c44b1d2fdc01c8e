"""BOIL: inner steps change all but the head."""

import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st

from cases import ROUNDING, case, difference, small, unrolled
from tinymaml import params
from tinymaml.algorithms.boil import BOIL
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine


NETS = {
    "conv": (Glyphs, {}),
    "scale": (Glyphs, {"norm_scale": True, "adapt_norm": True}),
    "pooled": (Glyphs, {"net": "pooled"}),
    "mlp": (Sine, {}),
}
every_net = pytest.mark.parametrize("net", NETS)


def boil(net, **changes):
    """A case of BOIL on a net."""
    kind, options = NETS[net]
    return case(small(kind, "boil", **options | changes))


def places(found, names):
    """Where theta holds the named arrays (P,)."""
    return params.mask(found.problem.model.shapes, names) > 0


@every_net
@pytest.mark.parametrize("rates", ["fixed", "parameter", "tensor"])
def test_its_head_stays_and_is_meta_learned(net, rates):
    """Rejects a head that steps move by as little as a rounding, and an outer mask that
    is the inner one: the head's displacement is exactly 0, its meta-gradient is not."""
    found = boil(net, rates=rates, inner_steps=2)
    head = places(found, found.problem.model.head)
    for theta in BOIL.adapt(*found.args, 4):
        np.testing.assert_array_equal(theta[:, head], found.w[:, : head.size][:, head])
    assert found.gradient[:, : head.size][:, head].all()


@every_net
@given(steps=st.integers(1, 4))
def test_it_is_a_loop_with_a_mask(net, steps):
    """Rejects a mask of the head, and H_{body, head} that is dropped: against autograd
    through the loop."""
    found = boil(net, inner_steps=steps)
    model, options = found.problem.model, found.problem.options
    fixed = () if getattr(options, "adapt_norm", False) else model.norm
    mask = params.mask(model.shapes, {*model.body} - {*fixed})
    alphas = np.tile(options.alpha * mask, (steps, 1))
    expected = grad(unrolled)(found.w, alphas, found.task, np.eye(steps)[-1])
    assert difference(found.gradient, expected) < ROUNDING


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("adapt", [False, True])
def test_batch_norm_moves_when_it_is_asked_to(scale, adapt):
    """Rejects gamma or beta that stays under --adapt-norm, as the official code adapts
    both, and either that moves without it."""
    found = boil("conv", norm_scale=scale, adapt_norm=adapt)
    before, after = BOIL.adapt(*found.args, 1)
    shapes = found.problem.model.shapes
    named = [n for n in shapes if n.startswith(("gamma", "beta"))]
    assert len(named) == (8 if scale else 4)
    for name in named:
        moved = (before != after)[:, places(found, [name])]
        assert moved.all() if adapt else not moved.any(), name


def test_it_has_one_step_as_the_official_code():
    """Rejects the number of steps of another algorithm, or of the experiment."""
    for kind in (Sine, Glyphs):
        assert kind(algorithm="boil").inner_steps == 1
        assert kind(algorithm="anil").inner_steps == 5
