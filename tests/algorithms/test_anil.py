"""ANIL: inner steps change the head only."""

import numpy as np
import pytest
from autograd import grad, jacobian
from hypothesis import given
from hypothesis import strategies as st

from cases import ROUNDING, case, difference, small, unrolled
from tinymaml import maml, params
from tinymaml.algorithms import learned
from tinymaml.algorithms.anil import ANIL
from tinymaml.experiments import problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.pointnav import PointNav
from tinymaml.experiments.sine import Sine
from tinymaml.harness import loop, policy_step
from tinymaml.harness.metrics import read_metrics
from tinymaml.maml import Task
from tinymaml.rl import trpo
from trainings import train


SMALL_POLICY = {
    **{"hidden": (3,), "tasks": 3, "chunk": 2, "trajectories": 3, "horizon": 4},
    **{"iterations": 3, "checkpoint_every": 1},
}
NETS = {
    "conv": (Glyphs, {}),
    "scale": (Glyphs, {"norm_scale": True}),
    "pooled": (Glyphs, {"net": "pooled"}),
    "mlp": (Sine, {}),
}
every_net = pytest.mark.parametrize("net", NETS)


def anil(net, **changes):
    """A case of ANIL on a net."""
    kind, options = NETS[net]
    return case(small(kind, "anil", **options | changes))


@every_net
@pytest.mark.parametrize("rates", ["fixed", "parameter", "tensor"])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_it_is_the_masked_chain(net, rates, steps):
    """Rejects a cut that loses what the head's steps owe to the features, and rates that
    get the slopes of other arrays."""
    found = anil(net, rates=rates, inner_steps=steps)
    expected = learned.masked(*found.args)
    loss, gradient = found.method.gradient(*found.args)
    assert loss == pytest.approx(float(expected[0]), rel=ROUNDING)
    assert difference(gradient, expected[1]) < ROUNDING


@every_net
@given(steps=st.integers(1, 4))
def test_the_masked_chain_is_a_loop_with_a_mask(net, steps):
    """Rejects a mask of the body, a mask on the outer gradient, and H_{head, body} that
    is dropped: against autograd through the loop."""
    found = anil(net, inner_steps=steps)
    shapes = found.problem.model.shapes
    mask = found.problem.options.alpha * params.mask(shapes, found.problem.model.head)
    alphas, last = np.tile(mask, (steps, 1)), np.eye(steps)[-1]
    expected = grad(unrolled)(found.w, alphas, found.task, last)
    assert difference(found.gradient, expected) < ROUNDING
    assert np.count_nonzero(found.gradient) > 0.5 * found.gradient.size


@every_net
def test_its_first_order_is_that_of_the_mask(net):
    """Rejects a first-order gradient by features that keeps a product with the support
    features: it is grad Q at the adapted theta."""
    found = anil(net, order="first", inner_steps=3)
    theta = ANIL.adapt(*found.args, 3)[-1]
    expected = grad(found.task.query(theta))(theta)
    assert difference(found.gradient, expected) < ROUNDING
    same = ANIL.first_order(*anil(net, inner_steps=3).args)[1]
    np.testing.assert_array_equal(found.gradient, same)
    assert difference(anil(net, inner_steps=3).gradient, expected) > 1e-3


@pytest.mark.parametrize("net", ["mlp", "conv"])
def test_with_a_head_of_all_layers_it_is_maml(net):
    """Rejects an ANIL with other operations than MAML's: to the bit."""
    kind, options = NETS[net]
    found = case(small(kind, "meta-sgd", rates="fixed", inner_steps=3, **options))
    expected = maml.meta_gradient(found.w, found.task, found.problem.alpha, 3)
    loss, gradient = learned.gradient(*found.args)
    assert loss == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])


@every_net
@pytest.mark.parametrize("adapt_norm", [False, True])
def test_first_steps_of_anil_and_boil_add_up_to_maml(net, adapt_norm):
    """Rejects an array that is in both masks, or in neither: to the bit."""
    kind, options = NETS[net]
    norm = {"adapt_norm": adapt_norm} if kind is Glyphs else {}
    first = {}
    for name in ("maml", "boil", "anil"):
        changes = options if name == "anil" else {**options, **norm}
        found = case(small(kind, name, inner_steps=1, **changes))
        before, after = found.method.adapt(*found.args, 1)
        first[name] = np.where(after == before, 0.0, after - before)
    np.testing.assert_array_equal(first["anil"] + first["boil"], first["maml"])
    assert not np.any((first["anil"] != 0) & (first["boil"] != 0))
    head = params.mask(found.problem.model.shapes, found.problem.model.head) > 0
    assert not first["anil"][:, ~head].any()
    assert first["anil"][:, head].all()


def test_its_body_stays_for_any_number_of_steps():
    """Rejects steps that move the body by as little as a rounding."""
    found = anil("conv", rates="parameter")
    body = params.mask(found.problem.model.shapes, found.problem.model.body) > 0
    for theta in ANIL.adapt(*found.args, 7):
        np.testing.assert_array_equal(theta[:, body], found.w[:, : body.size][:, body])


# ----- Policies -----


@pytest.mark.parametrize("name", ["anil", "boil"])
@pytest.mark.parametrize("outer", ["trpo", "adam"])
def test_a_policy_is_trained(name, outer, tmp_path):
    """Rejects a mask that the rollouts, the line search or the outer step cannot take,
    and a policy that no step moves."""
    config = PointNav(algorithm=name, outer=outer, inner_steps=2, **SMALL_POLICY)
    state = train(tmp_path, config)
    assert np.any(state.theta != loop.initial_state(config).theta)
    records = read_metrics(tmp_path)
    assert len(records) == 3
    assert all(np.isfinite(record["loss"]) for record in records)
    if outer == "trpo":
        assert any(not record["refused"] for record in records)
        assert all(record["kl"] <= config.max_kl for record in records)


def metric(config, tasks):
    """A policy's path, and the adapted theta as a function of theta (P,) on its data."""
    family = problem(config)
    start = loop.initial_state(config).theta
    found = policy_step.collect(config, start, 0, tasks)
    losses = policy_step.inner_losses(config, trpo.side_by_side(found.path)[:-1])

    def adapted(theta):
        makers = iter(losses)
        task = Task(lambda _: next(makers), None)
        return maml.path(theta[None], task, family.alpha, len(losses))[-1][0]

    return found.path, start, adapted


@pytest.mark.parametrize("name", ["maml", "anil", "boil"])
def test_the_metric_of_trpo_respects_the_mask(name):
    """Rejects the Jacobian of MAML's adaptation in the metric of another: J'FJ v by
    autograd's own Jacobian of the masked loop, with MAML's F between."""
    options = {"dtype": "float64", "activation": "tanh", "inner_steps": 2, "alpha": 0.5}
    config = PointNav(algorithm=name, **SMALL_POLICY | options)
    path, start, adapted = metric(config, range(1))
    jacobi = jacobian(adapted)(start)
    plain = config.with_changes({"algorithm": "fomaml"})  # there J is the identity
    v = np.random.default_rng(0).standard_normal(start.shape)
    fisher = policy_step.curvature(plain, jacobi @ v, path)
    found = policy_step.curvature(config, v, path)
    assert difference(found, jacobi.T @ fisher) < 1e-10
    model = problem(config).model
    head = params.mask(model.shapes, model.head) > 0
    still = {"maml": ~(head | ~head), "anil": ~head, "boil": head}[name]
    np.testing.assert_array_equal(jacobi[still], np.eye(start.size)[still])
    assert np.abs(jacobi - np.eye(start.size))[~still].max() > 1e-3
