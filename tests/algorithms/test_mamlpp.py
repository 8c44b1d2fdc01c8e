"""MAML++: multi-step loss, rates, first-order epochs, and batch norm's arrays by step."""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from autograd.tracer import getval
from hypothesis import given
from hypothesis import strategies as st

from cases import ROUNDING, case, difference, small
from tinymaml import maml, params
from tinymaml.algorithms import multistep
from tinymaml.algorithms.mamlpp import MAMLPP, Options
from tinymaml.check.differences import slopes_error
from tinymaml.errors import UsageError
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.harness import loop, step
from tinymaml.speed.workers import engine
from trainings import results_of, train


PARTS = {"multi_step_loss": False, "step_norm": False, "rates": "fixed"}
NETS = {
    "conv": {},
    "scale": {"norm_scale": True},
    "pooled": {"net": "pooled", "norm_scale": True},
}


def plus(kind=Glyphs, iteration=0, **changes):
    """A case of MAML++ with generic rates and arrays, some epochs into its training."""
    options = {"inner_steps": 3, "epoch": 10, "alpha": 0.2} | changes
    return case(small(kind, "maml++", **options), iteration=iteration)


# ----- The weights of the losses -----


def official_weights(steps, last, epoch):
    """few_shot_learning_system.py:90-101, line by line."""
    loss_weights = np.ones(steps) * (1.0 / steps)
    decay_rate = 1.0 / steps / last
    min_value_for_non_final_losses = 0.03 / steps
    for i in range(steps - 1):
        loss_weights[i] = np.maximum(
            loss_weights[i] - (epoch * decay_rate), min_value_for_non_final_losses
        )
    loss_weights[-1] = np.minimum(
        loss_weights[-1] + (epoch * (steps - 1) * decay_rate),
        1.0 - ((steps - 1) * min_value_for_non_final_losses),
    )
    return loss_weights


@pytest.mark.parametrize("last", [1, 10, 15, 34, 50, 200])
@pytest.mark.parametrize("steps", [2, 3, 5, 10])
def test_weights_are_those_of_the_official_code(steps, last):
    """Rejects epochs counted from 1, a floor of 0.03 or none, a last weight that forgets
    the floor, and weights that leak mass or rise: at every epoch, where the floor is
    reached (more than 33 epochs) and where it is not."""
    options = plus(Sine, inner_steps=steps, multi_step_epochs=last).problem.options
    path = np.array([multistep.weights(options, epoch) for epoch in range(last)])
    for epoch, found in enumerate(path):
        expected = official_weights(steps, last, epoch)
        assert np.abs(found - expected).max() < ROUNDING
    assert np.abs(path.sum(1) - 1).max() < ROUNDING
    assert np.abs(path[0] - 1 / steps).max() < ROUNDING
    assert np.all(np.diff(path[:, :-1], axis=0) <= 0)
    assert np.all(np.diff(path[:, -1]) >= 0)
    assert path.min() >= 0.03 / steps
    reached = np.isclose(path[:, 0], 0.03 / steps, rtol=1e-9, atol=0).any()
    assert reached == (last >= 34)


def test_weights_are_constant_within_an_epoch_and_end_with_it():
    """Rejects weights of every iteration, and an end one iteration or one epoch off."""
    options = plus(epoch=5, multi_step_epochs=2, first_order_epochs=1).problem.options
    phases = [MAMLPP.phase(options, i) for i in range(12)]
    assert [key for key, _ in phases] == (
        [(True, False)] * 5 + [(True, True)] * 5 + [(False, True)] * 2
    )
    for i, (_, arrays) in enumerate(phases[:10]):
        expected = official_weights(3, 2, i // 5)
        np.testing.assert_allclose(arrays[0], expected, rtol=ROUNDING)
    assert not any(arrays for _, arrays in phases[10:])


def with_weights(found, u):
    """The case at other weights of the losses."""
    return found._replace(problem=found.problem._replace(arrays=(np.asarray(u),)))


@pytest.mark.parametrize("kind", [Sine, Glyphs])
def test_it_is_linear_in_the_weights(kind):
    """Rejects weights that are normalised, or that multiply more than their loss."""
    found = plus(kind)
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((2, 3))
    a, b, both = (
        MAMLPP.gradient(*with_weights(found, u).args) for u in (one, two, 2 * one - two)
    )
    assert both[0] == pytest.approx(float(2 * a[0] - b[0]), rel=1e-11)
    assert difference(both[1], 2 * a[1] - b[1]) < 1e-11


@pytest.mark.parametrize("kind", [Sine, Glyphs])
def test_the_last_weight_alone_is_the_last_loss(kind):
    """Rejects a loss of theta_0, and losses that are one step off."""
    found = plus(kind)
    last = MAMLPP.gradient(*with_weights(found, [0.0, 0, 1]).args)
    plain = plus(kind, multi_step_loss=False)
    expected = MAMLPP.gradient(found.w, found.task, plain.problem)
    assert last[0] == expected[0]
    np.testing.assert_array_equal(last[1], expected[1])


def test_without_its_parts_it_is_maml_to_the_bit():
    """Rejects an option that is not switched off."""
    found = plus(**PARTS)
    loss, gradient = MAMLPP.gradient(*found.args)
    expected = maml.meta_gradient(found.w, found.task, found.problem.alpha, 3)
    assert loss == expected[0]
    np.testing.assert_array_equal(gradient, expected[1])


# ----- Batch norm's arrays of each step -----


def split(found):
    """theta (T, P), step sizes (K, T, P) and b (T, K, n) of a case, read by hand."""
    family, options = found.problem, found.problem.options
    shapes, steps = family.model.shapes, options.inner_steps
    size, places = params.count(shapes), norm_places(family)
    theta, rest = found.w[:, :size], found.w[:, size:]
    alphas = np.stack([np.broadcast_to(family.alpha, theta.shape)] * steps)
    if options.rates == "tensor":
        rates, rest = np.split(rest, [steps * len(shapes)], axis=-1)
        lengths = [int(np.prod(shape)) for shape in shapes.values()]
        table = rates.reshape(-1, steps, len(shapes))
        spread = [np.repeat(table[:, k], lengths, -1) for k in range(steps)]
        alphas = np.stack(spread) * (np.broadcast_to(family.alpha, size) != 0)
    later = rest.reshape(len(theta), steps - 1, len(places))
    b = np.concatenate([theta[:, None, places], later], axis=1)
    return theta, alphas, b


def norm_places(family):
    """Where theta holds batch norm's arrays."""
    return np.flatnonzero(params.mask(family.model.shapes, family.model.norm))


def reference(theta, alphas, b, found, u, first_order):
    """The loss of an unrolled loop over the plain net, with the arrays of each step put
    into theta: by autograd alone."""
    places, size = norm_places(found.problem), theta.shape[-1]
    rows, others = np.eye(size)[places], 1 - np.eye(size)[places].sum(0)
    total = 0.0
    for k, weight in enumerate(u):
        plug = lambda at, k=k: at * others + anp.dot(b[:, k], rows)  # noqa: E731
        support = lambda at, plug=plug: found.task.support(None)(plug(at))  # noqa: E731
        g = grad(support)(theta)
        theta = theta - alphas[k] * (getval(g) if first_order else g)
        if weight:
            total = total + weight * found.task.query(None)(plug(theta))
    return anp.sum(total)


@pytest.mark.parametrize(
    ("net", "adapts"), [*((net, "all") for net in NETS), ("conv", "head"), ("conv", "body")]
)
@pytest.mark.parametrize("many", [True, False])
@pytest.mark.parametrize("rates", ["fixed", "tensor"])
@pytest.mark.parametrize("order", ["exact", "first"])
def test_it_is_a_loop_with_the_arrays_of_each_step(net, many, rates, order, adapts):
    """Rejects a query that reads b_k for b_{k-1}, a step that reads another's arrays,
    products with b that are dropped, rates that move b, and weights of another step."""
    options = {"multi_step_loss": many, "rates": rates, "order": order, "adapts": adapts}
    found = plus(**NETS[net], **options, iteration=40)
    u = official_weights(3, 10, 4) if many else [0, 0, 1]
    theta, alphas, b = split(found)
    first = order == "first"
    loss, gradient = MAMLPP.gradient(*found.args)
    args = found, u, first
    assert loss == pytest.approx(float(reference(theta, alphas, b, *args)), rel=ROUNDING)
    by_theta, by_alpha, by_b = (
        grad(reference, i)(theta, alphas, b, *args) for i in (0, 1, 2)
    )
    places = norm_places(found.problem)
    assert not by_theta[:, places].any()  # they are b_0
    by_theta[:, places] = by_b[:, 0]
    parts = [by_theta]
    if rates == "tensor":
        moved = alphas != 0
        spans = params.spans(found.problem.model.shapes).values()
        parts += [
            np.stack([slope[:, span].sum(-1) for span in spans], -1)
            for slope in moved * by_alpha
        ]
    parts.append(by_b[:, 1:].reshape(len(theta), -1))
    assert difference(gradient, np.concatenate(parts, -1)) < ROUNDING
    assert by_b[:, 1:].any()


def test_derivatives_by_the_arrays_are_central_differences():
    """Rejects rules that the gradient and autograd share: along every axis of b."""
    found = plus(norm_scale=True, inner_steps=2)
    size = found.w.shape[-1] - 24
    axes = np.eye(found.w.shape[-1])[size:]
    ways = [np.stack([axis, 0 * axis]) for axis in axes]
    value = lambda at: float(found.objective(at))  # noqa: E731
    assert slopes_error(value, found.w, ways, found.gradient) < 1e-8
    assert found.gradient[:, size:].any()


@pytest.mark.parametrize("many", [True, False])
def test_equal_arrays_are_shared_arrays(many):
    """Rejects a gradient that is lost or counted twice: where all b_k are equal, their
    gradients sum to that of the one b of a net without step norm."""
    found = plus(norm_scale=True, multi_step_loss=many, rates="fixed")
    _, _, b = split(found)
    size, places = params.count(found.problem.model.shapes), norm_places(found.problem)
    w = found.w.copy()
    w[:, size:] = np.tile(w[:, places], (1, 2))
    loss, gradient = MAMLPP.gradient(w, found.task, found.problem)
    shared = plus(norm_scale=True, multi_step_loss=many, rates="fixed", step_norm=False)
    assert shared.w.shape[-1] == size
    expected = MAMLPP.gradient(w[:, :size], found.task, shared.problem)
    assert loss == pytest.approx(float(expected[0]), rel=ROUNDING)
    summed = gradient[:, :size].copy()
    summed[:, places] += gradient[:, size:].reshape(len(w), 2, -1).sum(1)
    assert difference(summed, expected[1]) < ROUNDING
    assert b.shape == (2, 3, 24)


def test_adaptation_reads_the_arrays_of_each_step():
    """Rejects a query that reads b_K, thetas that keep b_0, and a step after training's
    last that has no arrays: theta_k holds b_{k-1}, the last ones continue, and so do the
    last rates."""
    found = plus()
    theta, alphas, b = split(found)
    places = norm_places(found.problem)
    thetas = MAMLPP.adapt(*found.args, 5)
    plain = theta.copy()
    for k, at in enumerate(thetas):
        expected = plain.copy()
        expected[:, places] = b[:, min(max(k - 1, 0), 2)]
        np.testing.assert_allclose(at, expected, rtol=0, atol=1e-14)
        step_k = min(k, 2)
        seen = plain.copy()
        seen[:, places] = b[:, step_k]
        g = grad(found.task.support(seen))(seen)
        plain = plain - alphas[step_k] * g


@pytest.mark.parametrize(
    ("kind", "changes"),
    [(Sine, {}), (Glyphs, {"step_norm": False}), (Glyphs, {"inner_steps": 1})],
    ids=["no batch norm", "switched off", "one step"],
)
def test_without_steps_or_batch_norm_there_are_no_arrays(kind, changes):
    """Rejects rows that nothing reads, and an empty array in a checkpoint."""
    found = plus(kind, **changes)
    shapes = MAMLPP.shapes(found.problem)
    assert [*shapes] == [*found.problem.model.shapes, "rates"]
    assert params.count(shapes) == found.w.shape[-1]


def test_arrays_begin_equal_in_every_step():
    """Rejects gamma that begins at 0 in later steps."""
    found = plus(norm_scale=True)
    w = MAMLPP.init(np.random.default_rng(0), found.problem)
    _, _, b = split(found._replace(w=w[None]))
    for k in range(3):
        np.testing.assert_array_equal(b[:, k], b[:, 0])
    assert {*np.unique(b)} == {0.0, 1.0}


def test_adapted_batch_norm_needs_arrays_that_steps_share():
    """Rejects --adapt-norm that moves b_0 alone, of which the later steps see nothing."""
    with pytest.raises(UsageError, match="--adapt-norm: add --no-step-norm"):
        Glyphs(algorithm="maml++", adapt_norm=True)
    assert Glyphs(algorithm="maml++", adapt_norm=True, step_norm=False).adapt_norm
    assert Glyphs(algorithm="maml++", adapt_norm=True, inner_steps=1).adapt_norm


# ----- Epochs -----


RUN = {
    **{"hidden": (3,), "tasks": 3, "chunk": 2, "iterations": 11, "epoch": 3},
    **{"multi_step_epochs": 3, "first_order_epochs": 2, "inner_steps": 2},
    **{"checkpoint_every": 4, "dtype": "float32"},
}
PHASES = {0: (True, False), 5: (True, False), 6: (True, True), 9: (False, True)}


@pytest.mark.parametrize(("iteration", "phase"), PHASES.items())
@pytest.mark.parametrize("replay", [True, False])
def test_each_epoch_has_the_gradient_of_its_phase(iteration, phase, replay):
    """Rejects a first-order epoch too few or too many, a multi-step loss that goes on, and
    a recording that is replayed in another phase: the bits of an algorithm that is in
    this phase for ever."""
    config = small(Sine, "maml++", **RUN, replay=replay)
    state = loop.initial_state(config)
    many, exact = phase
    steady = {
        "first_order_epochs": 0,
        "order": "exact" if exact else "first",
        "multi_step_loss": many,
    }
    whole = {"multi_step_loss": False, "multi_step_epochs": Options.multi_step_epochs}
    steady |= {} if many else whole
    other = config.with_changes(steady)
    for _ in range(3):  # recorded, compared, replayed
        found = step.chunk_gradient(config, state.theta, iteration, range(3))
        expected = step.chunk_gradient(other, state.theta, iteration, range(3))
        assert found[0] == expected[0]
        np.testing.assert_array_equal(found[1], expected[1])
    another = whole if many else {"multi_step_loss": True, "multi_step_epochs": 100}
    for change in (another, {"order": "first" if exact else "exact"}):
        wrong = config.with_changes(steady | change)
        gradient = step.chunk_gradient(wrong, state.theta, iteration, range(3))[1]
        assert np.any(gradient != found[1])


@pytest.mark.parametrize("stops", [(6, 9), (2, 5, 7, 10)])
def test_a_run_that_stops_between_epochs_has_the_same_bytes(stops, tmp_path):
    """Rejects a phase that is counted from the resume, and weights that a recording keeps
    from another epoch."""
    config = small(Sine, "maml++", **RUN)
    straight = results_of(tmp_path / "straight", config)
    eager = config.with_changes({"replay": False})
    assert results_of(tmp_path / "eager", eager) == straight
    for stop in stops:
        train(tmp_path / "parts", config.with_changes({"iterations": stop}))
    assert results_of(tmp_path / "parts", config) == straight


def test_arrays_of_each_step_are_part_of_a_run(tmp_path):
    """Rejects arrays that a checkpoint, a recording or a worker process loses or orders
    otherwise: with batch norm, the same bytes after a stop and in two processes."""
    shape = {"filters": 2, "ways": 2, "norm_scale": True, "validate_every": 0}
    options = {"iterations": 5, "epoch": 2, "multi_step_epochs": 2, "inner_steps": 2}
    sizes = {"tasks": 3, "chunk": 2, "checkpoint_every": 3}
    config = Glyphs(algorithm="maml++", **shape, **options, **sizes)
    straight = results_of(tmp_path / "straight", config)
    eager = config.with_changes({"replay": False})
    assert results_of(tmp_path / "eager", eager) == straight
    train(tmp_path / "parts", config.with_changes({"iterations": 3}))
    assert results_of(tmp_path / "parts", config) == straight
    with engine(2) as pool:
        assert results_of(tmp_path / "workers", config, pool) == straight
    state = train(tmp_path / "parts", config)
    later = state.theta[-4 * 2 * 2 :].reshape(4, -1)  # scale and offset of four layers
    assert len(np.unique(later)) > 8


def test_epochs_of_another_length_change_the_run(tmp_path):
    """Rejects an --epoch that has no effect."""
    config = small(Sine, "maml++", **RUN)
    other = config.with_changes({"epoch": 4})
    assert results_of(tmp_path / "a", config) != results_of(tmp_path / "b", other)


def test_a_first_order_epoch_has_no_objective():
    """Rejects a check that finds a first-order epoch's gradient wrong, or right."""
    found = plus(Sine, first_order_epochs=1)
    with pytest.raises(UsageError, match="that of no function"):
        found.objective(found.w)
    later = plus(Sine, first_order_epochs=1, iteration=10)
    expected = grad(later.objective)(later.w)
    assert difference(later.gradient, expected) < ROUNDING


@given(steps=st.integers(2, 5), epoch=st.integers(0, 9))
def test_losses_after_every_step_are_weighted_by_the_epoch(steps, epoch):
    """Rejects an objective that is not the weighted sum of the losses of `adapt`."""
    found = plus(Sine, iteration=10 * epoch, inner_steps=steps)
    thetas = MAMLPP.adapt(*found.args, steps)[1:]
    u = official_weights(steps, 10, epoch)
    losses = [float(found.task.query(at)(at)) for at in thetas]
    loss, _ = MAMLPP.gradient(*found.args)
    assert loss == pytest.approx(np.dot(u, losses), rel=ROUNDING)
    assert float(found.objective(found.w)) == pytest.approx(np.dot(u, losses), rel=ROUNDING)
