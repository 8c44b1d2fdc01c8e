"""Reptile: its formula by hand, its expansion, minibatches, and kept second moments."""

import os
import signal
from itertools import count

import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st

from processes import here, one_error
from tinymaml import chain, maml, params
from tinymaml.algorithms import minibatch
from tinymaml.algorithms.reptile import ORDER, REPTILE, gradient, phase
from tinymaml.errors import Interrupted, UsageError
from tinymaml.experiments import problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.fewshot import Episode, drawn
from tinymaml.harness import loop, step
from tinymaml.harness.evaluation import chunk_scores
from tinymaml.maml import Task
from tinymaml.optim import State
from tinymaml.options import MOST
from tinymaml.speed.workers import Here, engine
from trainings import results_of, train


# Two exact ways to one result differ by rounding only: some hundred operations of 1e-16.
ROUNDING = 1e-12
SMALL = {
    **{"algorithm": "reptile", "hidden": (5, 4), "shots": 6, "activation": "tanh"},
    **{"weights": "uniform", "dtype": "float64", "alpha": 0.05, "iterations": 8},
}
RMS = {"inner": "rms", "alpha": 0.01}
STEPS, TASKS, SEEDS = st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1)
BATCHES = st.integers(0, 7)  # 0 and 6 or more: all six examples


def case(seed=0, tasks=3, **options):
    """Return a problem, w (tasks, M) with generic moments, and a task."""
    config = Sine(**SMALL | {"seed": seed, "tasks": tasks} | options)
    family, rng = problem(config), np.random.default_rng(seed)
    w = np.stack([REPTILE.init(rng, family) for _ in range(tasks)])
    size = params.count(family.model.shapes)
    w[:, size:] = rng.uniform(1e-4, 1e-2, w[:, size:].shape)
    if w.shape[-1] > size:
        w[:, -1] = rng.integers(1, 50)
    return family, w, family.task(drawn(family, seed, "train", 0, range(tasks)))


def task_of(task, rows):
    """Return the task whose support examples are some of another's."""
    x, y = (array[:, rows] for array in task.episode[:2])
    loss = lambda theta: task.support_loss(task.apply(theta, x), y)  # noqa: E731
    return Task(lambda _: loss, task.query)


def by_hand(w, task, problem):
    """Return phi, v and t after a loop over the minibatches, with Adam of beta1 = 0."""
    size, rms = params.count(problem.model.shapes), problem.options.inner == "rms"
    theta, v, t = w[:, :size], w[:, size:-1], w[:, -1:]
    losses = []
    for rows in problem.arrays[0]:
        loss = task_of(task, rows).support(theta)
        losses.append(loss(theta))
        g = grad(loss)(theta)
        if rms:
            t = t + 1
            v = 0.999 * v + 0.001 * g**2
            g = np.sqrt(1 - 0.999**t) * g / (np.sqrt(v) + 1e-8)
        theta = theta - problem.alpha * g
    return np.mean(losses), theta, np.concatenate([v, t], axis=-1)


def difference(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


# ----- One iteration -----


@given(SEEDS, STEPS, BATCHES, st.sampled_from(["sgd", "rms"]))
def test_gradient_is_the_way_back_from_the_end(seed, steps, batch, inner):
    """Rejects phi - theta, the gradient at phi (first-order MAML), the last loss in place
    of the mean, and second moments of another formula."""
    options = {"inner_steps": steps, "inner_batch": batch, "inner": inner}
    family, w, task = case(seed, **options)
    loss, found = gradient(w, task, family)
    expected, phi, rest = by_hand(w, task, family)
    size = phi.shape[-1]
    assert loss == pytest.approx(expected, rel=ROUNDING)
    assert difference(found[:, :size], w[:, :size] - phi) < 1e-10  # a small difference
    if inner == "rms":
        assert difference(w[:, size:] - found[:, size:], rest) < ROUNDING  # beta is 1


@given(SEEDS, st.integers(1, 5), BATCHES)
def test_it_is_the_first_order_chain_with_a_loss_at_every_step(seed, steps, batch):
    """Rejects a minibatch used at another step, and steps from theta_0 throughout:
    (theta - phi) / alpha is the sum of grad S_k(theta_k), k = 0..K-1."""
    family, w, task = case(seed, inner_steps=steps, inner_batch=batch)
    _, found = gradient(w, task, family)
    losses = [task_of(task, rows) for rows in family.arrays[0]]
    support, query = count(), count(1)
    steps_of = Task(
        lambda at: losses[next(support)].support(at),
        lambda at: losses[next(query)].support(at),
    )
    sizes = [family.alpha] * (steps - 1)
    expected = grad(losses[0].support(w))(w)
    if sizes:
        ones = [1.0] * len(sizes)
        _, v, _ = chain.gradient(w, steps_of, sizes, ones, second_order=False)
        expected = expected + v
    assert difference(found / family.alpha, expected) < ROUNDING


@given(SEEDS, TASKS)
def test_one_step_on_all_examples_is_joint_training(seed, tasks):
    """Rejects a first step that is not a gradient step, to the bit, and a sum of the tasks
    in place of their mean."""
    family, w, task = case(seed, tasks, inner_steps=1, schedule="constant", beta=0.5)
    g = grad(task.support(w))(w)
    np.testing.assert_array_equal(gradient(w, task, family)[1], family.alpha * g)
    config, state = family.options, loop.initial_state(family.options)
    after, record = step.iterate(config, state, Here())
    theta = np.tile(state.theta, (tasks, 1))
    loss, slope = maml.value_and_gradient(task.support(theta), theta)
    joint = state.theta - 0.5 * family.alpha * slope.mean(axis=0)
    assert difference(after.theta, joint) < ROUNDING
    assert record["loss"] == pytest.approx(loss / tasks, rel=ROUNDING)


@given(SEEDS, st.sampled_from([1, 2, 3]))
def test_one_step_on_a_minibatch_is_joint_training_on_average(seed, batch):
    """Rejects minibatches that favour some examples: over one cycle of a shuffle, the mean
    of theta - phi is the step on all examples."""
    family, w, task = case(seed, inner_steps=1)
    rng, steps = np.random.default_rng(seed), 6 // batch
    found = []
    for rows in minibatch.shuffled(rng, 6, batch, steps):
        arrays = rows[None], family.arrays[1]
        found.append(gradient(w, task, family._replace(arrays=arrays))[1])
    assert difference(np.mean(found, axis=0), gradient(w, task, family)[1]) < ROUNDING


@given(SEEDS, STEPS, BATCHES)
def test_a_full_outer_step_gives_phi_and_none_gives_theta(seed, steps, batch):
    """Rejects an outer step of Adam, a momentum, and a step away from phi."""
    family, w, task = case(seed, 1, inner_steps=steps, inner_batch=batch)
    state = loop.initial_state(family.options)
    after, _ = step.iterate(family.options, state, Here())  # the first beta is 1
    _, phi, _ = by_hand(state.theta[None], task, family)
    assert difference(after.theta, phi[0]) < ROUNDING
    ended = State(family.options.iterations, *state[1:])  # where beta is 0
    same = step.update(family.options, ended, gradient(w, task, family)[1][0])
    np.testing.assert_array_equal(same.theta, state.theta)


@given(SEEDS, st.integers(2, 5), st.sampled_from(["sgd", "rms"]))
def test_a_batch_is_the_mean_of_serial_steps_from_one_theta(seed, tasks, inner):
    """Rejects tasks that run one after another, each from where the last one ended, also
    with the second moments; and a result that depends on the order of tasks."""
    options = {"inner": inner, "inner_batch": 4, "inner_steps": 3}
    family, _, task = case(seed, tasks, **options)
    state = loop.initial_state(family.options)
    after, _ = step.iterate(family.options, state, Here())
    ends = []
    for i in reversed(range(tasks)):
        one = family.task(Episode(*(array[i : i + 1] for array in task.episode)))
        _, phi, rest = by_hand(state.theta[None], one, family)
        ends.append(np.concatenate([phi[0], rest[0]] if inner == "rms" else [phi[0]]))
    assert difference(after.theta, np.mean(ends, axis=0)) < ROUNDING


# ----- The expansion in the step size -----


@given(SEEDS)
def test_leading_terms(seed):
    """Rejects first-order MAML in place of Reptile, and a missing or doubled Hessian term.

    With gbar and Hbar of two minibatches at theta, to O(a^2):
    Reptile / a = gbar1 + gbar2 - a Hbar2 gbar1, first-order MAML = gbar2 - a Hbar2 gbar1,
    MAML = gbar2 - a Hbar2 gbar1 - a Hbar1 gbar2. Halving a divides the rest by 2^1.9..2.1.
    """
    family, w, task = case(seed, 1, inner_steps=2, inner_batch=3)
    parts = [task_of(task, rows) for rows in family.arrays[0]]
    (hvp1, g1), (hvp2, g2) = (maml.hvp_and_gradient(p.support(w), w) for p in parts)
    both = Task(parts[0].support, parts[1].support)
    rests = []
    for a in (2e-3, 1e-3):
        found = {
            "reptile": gradient(w, task, family._replace(alpha=a))[1] / a,
            "fomaml": maml.first_order(w, both, a, 1)[1],
            "maml": maml.meta_gradient(w, both, a, 1)[1],
        }
        leading = {
            "reptile": g1 + g2 - a * hvp2(g1),
            "fomaml": g2 - a * hvp2(g1),
            "maml": g2 - a * hvp2(g1) - a * hvp1(g2),
        }
        rests.append([np.linalg.norm(found[name] - leading[name]) for name in found])
    rates = np.log2(np.divide(*rests))
    assert (rates > 1.9).all()
    assert (rates < 2.1).all()


# ----- Minibatches -----


@given(SEEDS, st.integers(1, 9), st.integers(0, 12), st.integers(0, 12))
def test_minibatches_are_cycles_of_shuffles(seed, examples, batch, steps):
    """Rejects draws with replacement, a shuffle that is used twice, and an example that a
    cycle leaves out."""
    found = minibatch.shuffled(np.random.default_rng(seed), examples, batch, steps)
    size = batch if 0 < batch < examples else examples
    assert found.shape == (steps, size)
    cycles = np.split(found.ravel(), range(examples, found.size, examples))
    for cycle in cycles:
        assert len(np.unique(cycle)) == len(cycle)
        assert set(cycle) <= {*range(examples)}
    more = minibatch.shuffled(np.random.default_rng(seed), examples, batch, steps + 3)
    np.testing.assert_array_equal(more[:steps], found)
    if size == examples:
        np.testing.assert_array_equal(found, np.arange(examples) * np.ones((steps, 1)))


def test_every_iteration_and_seed_has_its_own_minibatches():
    """Rejects one order for all iterations or seeds, an order in which every cycle is the
    same, and one from the stream of a task."""
    config = Sine(**SMALL, inner_batch=3, inner_steps=8)
    orders = [phase(config, i)[1][0] for i in range(3)]
    orders += [phase(config.with_changes({"seed": 1}), 0)[1][0], orders[0][2:]]
    for i, order in enumerate(orders):
        assert not any(np.array_equal(order, other[: len(order)]) for other in orders[:i])
    assert Sine.options_for(REPTILE)["tasks"].values.most == MOST == ORDER


@pytest.mark.parametrize("batch", [0, 2, 5])
def test_held_out_tasks_have_minibatches_of_their_own_size(batch):
    """Rejects --test-batch without effect, an order that depends on the chunk of tasks, and
    minibatches of the whole set where it is larger."""
    options = {"inner_batch": 4, "test_batch": batch, "inner_steps": 1}
    family, w, task = case(0, 2, **options)
    thetas = REPTILE.adapt(w, task, family, 1)
    size, g = batch or 4, (w - thetas[1]) / family.alpha
    order = minibatch.shuffled(np.random.default_rng(minibatch.TEST_SEED), 6, size, 1)
    assert difference(g, grad(task_of(task, order[0]).support(w))(w)) < 1e-10
    config, start = family.options, w[0]
    together = chunk_scores(config, start, "test", 3, range(4))
    apart = [chunk_scores(config, start, "test", 3, range(i, i + 1)) for i in range(4)]
    np.testing.assert_allclose(together, np.concatenate(apart, axis=1), rtol=1e-10)


def test_training_tasks_have_shots_of_their_own():
    """Rejects --train-shots without effect, one that changes held-out tasks too, and
    minibatches of the first --shots examples only."""
    config = Sine(**SMALL, train_shots=9, inner_batch=4, inner_steps=5, queries=3)
    drawn_sizes = [
        [len(array) for array in episode.x_support[:1]]
        for episode in (
            drawn(step.training(config), 0, "train", 0, range(1)),
            drawn(problem(config), 0, "test", 0, range(1)),
        )
    ]
    assert drawn_sizes == [[9], [6]]
    assert set(phase(config, 0)[1][0].ravel()) == {*range(9)}
    # Queries are few: a class of Omniglot has 20 drawings.
    images = Glyphs(algorithm="reptile", ways=3, train_shots=15, test_queries=9)
    changes = REPTILE.task_options(images)
    assert changes == {"shots": 15, "queries": 1, "test_queries": 0}
    assert phase(images, 0)[1][0].max() == 44


# ----- Second moments -----


@given(SEEDS, STEPS)
def test_serial_second_moments_are_those_of_one_optimiser(seed, steps):
    """Rejects moments or a count of steps that begin anew with every task: with one task in
    a meta-batch they carry over, as in the official code."""
    config = Sine(**SMALL | RMS | {"seed": seed, "tasks": 1, "inner_steps": steps})
    state, family = loop.initial_state(config), problem(config)
    w = state.theta[None]
    size = params.count(family.model.shapes)
    for i in range(4):
        now = REPTILE.at_iteration(family, i)
        task = family.task(drawn(family, config.seed, "train", i, range(1)))
        _, phi, rest = by_hand(w, task, now)
        theta = w[:, :size] + (1 - i / 8) * (phi - w[:, :size])
        w = np.concatenate([theta, rest], axis=-1)
        state, _ = step.iterate(config, state, Here())
        assert difference(state.theta, w[0]) < 1e-10
    assert state.theta[-1] == pytest.approx(4 * steps, rel=ROUNDING)


def test_held_out_tasks_begin_with_the_second_moments_of_training():
    """Rejects moments of zero at test time: the first step would be a sign."""
    family, w, task = case(**RMS, inner_steps=1)
    size = params.count(family.model.shapes)
    theta = REPTILE.adapt(w, task, family, 1)[1]
    assert difference(theta, by_hand(w, task, family)[1]) < ROUNDING
    w[:, size:] = 0
    anew = REPTILE.adapt(w, task, family, 1)[1] - w[:, :size]
    np.testing.assert_allclose(np.abs(anew), 0.01, rtol=0.01)


@pytest.mark.parametrize("own", [{}, RMS], ids=["sgd", "rms"])
def test_workers_and_interruptions_change_no_byte(tmp_path, own):
    """Rejects moments averaged in the order of workers, a schedule or an order of
    minibatches that begins anew on resume, and moments that a checkpoint lacks."""
    own = {**own, "inner_batch": 4, "inner_steps": 3, "tasks": 5, "chunk": 2}
    config = Sine(**SMALL | own | {"dtype": "float32", "checkpoint_every": 3})
    straight = results_of(tmp_path / "straight", config)
    with engine(2) as pool:
        assert results_of(tmp_path / "two", config, pool) == straight
    for stop in (2, 5):

        def progress(iteration, record, stop=stop):
            if iteration == stop:
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(Interrupted):
            train(tmp_path / "parts", config, progress=progress)
    assert results_of(tmp_path / "parts", config) == straight
    short = results_of(tmp_path / "short", config.with_changes({"iterations": 5}))
    assert short[0] != results_of(tmp_path / "same", config)[0]  # the schedule is another


# ----- Options -----


def test_it_learns_what_inner_steps_change():
    """Rejects batch norm's offsets that inner steps leave alone: they would never move."""
    changes = {"train_shots": 4, "inner_batch": 6, "filters": 3, "tasks": 2, "alpha": 0.1}
    config = Glyphs(algorithm="reptile", iterations=4, **changes)
    assert problem(config).alpha == 0.1
    assert drawn(step.training(config), 0, "train", 0, range(1)).x_support.shape[1] == 20
    state = loop.initial_state(config)
    after, _ = step.iterate(config, state, Here())
    shapes = problem(config).model.shapes
    spans = params.spans(shapes)
    for name in problem(config).model.norm:
        assert np.all(after.theta[spans[name]] != state.theta[spans[name]])


def test_defaults_are_those_of_the_official_code():
    """Rejects an outer step of Adam by default, and one of 1 with Adam."""
    config = Sine(algorithm="reptile")
    outer = config.outer, config.beta, config.schedule, config.beta_end
    assert (*outer, config.inner_steps) == ("sgd", 1.0, "linear", 0.0, 5)
    assert Sine(algorithm="reptile", inner="rms").alpha == 1e-3
    adam = Sine(algorithm="reptile", outer="adam")
    assert (adam.beta, adam.schedule) == (1e-3, "constant")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner_steps": 0}, "--inner-steps of 1 or more"),
        ({"inner": "rms", "outer": "adam"}, "--outer sgd"),
        ({"adapt_norm": True}, "--adapt-norm has no effect"),
    ],
)
def test_options_that_clash_are_refused(options, message):
    """Rejects a run without inner steps, Adam on second moments, and an option without
    effect."""
    with pytest.raises(UsageError, match=message):
        Glyphs(algorithm="reptile", **options)


def test_too_many_training_shots_are_refused_before_anything_is_written(
    tmp_path, monkeypatch
):
    """Rejects a run folder, or a traceback, for training tasks that cannot be drawn."""
    monkeypatch.chdir(tmp_path)
    start = "train", "sine", "--algorithm", "reptile", "--grid"
    refused = here(*start, "--train-shots", "51")
    assert refused.code == 2
    assert one_error(refused) == "Error: --shots 51: --grid has 50 points"
    assert not [*tmp_path.iterdir()]
