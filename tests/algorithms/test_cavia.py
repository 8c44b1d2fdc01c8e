"""CAVIA: inner steps change a context that starts at 0 and is not meta-learned."""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st

from cases import ROUNDING, case, difference, small
from tinymaml import maml, params
from tinymaml.algorithms.cavia import CAVIA
from tinymaml.errors import UsageError
from tinymaml.experiments import problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.harness import loop
from trainings import train


NETS = {
    "mlp": (Sine, {}),
    "conv": (Glyphs, {}),
    "pooled": (Glyphs, {"net": "pooled", "norm_scale": True}),
}
every_net = pytest.mark.parametrize("net", NETS)


def cavia(net, algorithm="cavia", **changes):
    """A case of CAVIA with a generic z, and where w holds z (M,)."""
    kind, options = NETS[net]
    options = {"context": 2, "alpha": 0.5} | options
    found = case(small(kind, algorithm, **options | changes))
    here = params.mask(found.method.shapes(found.problem), ["z"]) > 0
    return found, here


def by_its_own_argument(found, here, steps):
    """The gradient by theta where z is an argument of its own that starts at 0."""
    task, alpha = found.task, found.problem.options.alpha
    rows = np.eye(here.size)[here]

    def loss(w):
        z = np.zeros((len(w), here.sum()))
        whole = lambda z: w * ~here + anp.dot(z, rows)  # noqa: E731
        for _ in range(steps):
            z = z - alpha * grad(lambda z: task.support(None)(whole(z)))(z)
        return anp.sum(task.query(None)(whole(z)))

    return grad(loss)(found.w)


@every_net
@given(steps=st.integers(0, 4))
def test_it_is_the_gradient_by_a_separate_context(net, steps):
    """Rejects the initial z among what is differentiated, steps of theta, and the mixed
    term d2S / dtheta dz that is dropped."""
    found, here = cavia(net, inner_steps=steps)
    expected = by_its_own_argument(found, here, steps)
    assert difference(found.gradient, expected) < ROUNDING


@every_net
@pytest.mark.parametrize("order", ["exact", "first"])
@pytest.mark.parametrize("rates", ["fixed", "parameter", "tensor"])
def test_z_has_no_gradient_and_its_value_does_not_matter(net, order, rates):
    """Rejects a learned z_0, adaptation that starts from the z in w, and a twin or a
    first step that does: exactly 0, and the same bits for any z."""
    found, here = cavia(net, order=order, rates=rates, inner_steps=2)
    loss, gradient = found.method.gradient(*found.args)
    assert not gradient[:, here].any()
    other = np.where(here, np.random.default_rng(0).standard_normal(here.size), found.w)
    args = other, found.task, found.problem
    for function, expected in (
        (CAVIA.gradient, (loss, gradient)),
        (CAVIA.twin, CAVIA.twin(*found.args)),
    ):
        again = function(*args)
        assert again[0] == expected[0]
        np.testing.assert_array_equal(again[1], expected[1])
    thetas, same = CAVIA.adapt(*found.args, 3), CAVIA.adapt(*args, 3)
    for one, two in zip(thetas, same, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not thetas[0][:, here[: thetas[0].shape[-1]]].any()
    start = CAVIA.start(other[0], found.problem)
    np.testing.assert_array_equal(start, np.where(here, 0, found.w[0]))


@every_net
def test_steps_change_z_alone(net):
    """Rejects steps that change theta, W or c of FiLM, or not all of z."""
    found, here = cavia(net)
    here = here[: found.w.shape[-1]]
    before, *_, after = CAVIA.adapt(*found.args, 3)
    np.testing.assert_array_equal(after[:, ~here], found.w[:, ~here])
    assert (after != before)[:, here].all()


def test_a_rate_per_parameter_is_of_z():
    """Rejects rates that are lost because theta does not move, and rates of theta."""
    found, here = cavia("mlp", rates="parameter")
    size = params.count(found.problem.model.shapes)
    rates = found.gradient[:, size:]
    np.testing.assert_array_equal(rates != 0, np.tile(here[:size], (len(rates), 1)))


def test_it_is_not_the_context_vector_of_finn():
    """Rejects CAVIA that is `context` under another name: that one learns the first z,
    adapts from it, and puts a channel beside an image."""
    found, here = cavia("mlp")
    other, _ = cavia("mlp", "context", inner_steps=1)
    np.testing.assert_array_equal(found.w, other.w)
    assert other.gradient[:, here].all()
    assert difference(other.gradient[:, ~here], found.gradient[:, ~here]) > 1e-3
    zero = np.where(here, 0, found.w)
    same = maml.meta_gradient(zero, other.task, other.problem.alpha, 1)[1]
    assert difference(found.gradient, np.where(here, 0, same)) < ROUNDING
    images, _ = cavia("conv", "context")
    assert images.problem.model.blocks[0].name == "free inputs"


@pytest.mark.parametrize("net", ["conv", "pooled"])
def test_film_comes_after_the_third_convolution(net):
    """Rejects FiLM of another layer, and z that also joins the images."""
    found, _ = cavia(net, context=7)
    names = [block.name for block in found.problem.model.blocks]
    assert names[:5] == ["conv0", "conv1", "conv2", "film", "conv3"]
    assert found.problem.model.shapes["z"] == (1, 7)
    assert found.problem.model.shapes["w0"] == (9, 3)


def test_a_dense_net_of_images_is_refused():
    """Rejects a traceback for a net that has no third convolution."""
    with pytest.raises(UsageError, match="needs convolutions: --net conv or pooled"):
        case(small(Glyphs, "cavia", net="dense"))


@pytest.mark.parametrize("options", [{}, {"rates": "parameter"}], ids=["fixed", "rates"])
def test_z_stays_exactly_zero_while_theta_is_trained(options, tmp_path):
    """Rejects an outer step that moves z: its moments are those of a gradient of 0."""
    config = small(Sine, "cavia", iterations=9, tasks=3, dtype="float32", **options)
    state = train(tmp_path, config)
    here = params.mask(CAVIA.shapes(problem(config)), ["z"]) > 0
    assert here.sum() == 5
    for vector in (state.theta, *state.moments):
        assert not vector[here].any()
    changed = state.theta != loop.initial_state(config).theta
    size = params.count(problem(config).model.shapes)
    assert changed[:size][~here[:size]].all()
    assert changed[size:].any() == bool(options)
