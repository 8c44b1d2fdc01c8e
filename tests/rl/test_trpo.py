"""The outer update: its gradient, its metric, its step, and the steps that it refuses."""

import itertools

import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st

from tinymaml import maml
from tinymaml.errors import WorldError
from tinymaml.experiments import problem
from tinymaml.experiments.pointnav import PointNav
from tinymaml.fewshot import drawn
from tinymaml.harness import loop, policy_step
from tinymaml.maml import Task
from tinymaml.rl import rollout, surrogates, trpo
from tinymaml.speed.workers import Here


SMALL = PointNav(
    tasks=3,
    trajectories=4,
    horizon=6,
    hidden=(5,),
    activation="tanh",
    dtype="float64",
    fisher_stride=1,
    chunk=2,
    alpha=0.3,
)
steps = pytest.mark.parametrize("steps", [1, 2, 3])
# What each algorithm is, by the equations of `maml` and of E-MAML.
CHAINS = {
    "maml": maml.meta_gradient,
    "fomaml": maml.first_order,
    "maml-low-memory": maml.meta_gradient_low_memory,
    "e-maml": surrogates.e_maml,
}


def generic(config):
    """A run's state off the initial zeros."""
    state = loop.initial_state(config)
    rng = np.random.default_rng(0)
    theta = state.theta + 0.2 * rng.standard_normal(state.theta.shape)
    return state._replace(theta=theta.astype(config.dtype))


def collected(config, state=None):
    """What one chunk of all the tasks brings."""
    state = state or generic(config)
    found = policy_step.collect(config, state.theta, 0, range(config.tasks))
    return found, state.theta


def metric(config, path):
    """The product with the metric, by as many time steps as the options say."""
    thin = [met.every(config.fisher_stride) for met in path]
    return lambda v: policy_step.curvature(config, v, thin) / config.tasks


def judged(config, theta, path):
    """The mean loss and KL after adapting from theta on what was met."""
    return np.array(policy_step.trial(config, theta, path)) / config.tasks


def task_of(config):
    """The tasks of the first iteration, and their number."""
    family = problem(config)
    return family.task(drawn(family, config.seed, "train", 0, range(config.tasks)))


# ----- The gradient -----


@steps
@pytest.mark.parametrize("name", CHAINS)
def test_the_gradient_is_that_of_the_chain(name, steps):
    """Rejects a slope kept from another theta, and a chain of RL's own."""
    changes = {"algorithm": name, "inner_steps": steps, "surrogate": "naive"}
    config = SMALL.with_changes(changes)
    found, theta = collected(config)
    start = np.tile(theta, (3, 1))
    loss, v = CHAINS[name](start, task_of(config), config.alpha, steps)
    np.testing.assert_allclose(found.loss, loss, atol=1e-12)
    np.testing.assert_allclose(found.gradient, v.sum(axis=0), rtol=1e-9, atol=1e-12)
    _, first = maml.first_order(start, task_of(config), config.alpha, steps)
    expected = (first**2).sum(), ((v - first) ** 2).sum()
    np.testing.assert_allclose(found.squares, expected, rtol=1e-8, atol=1e-14)
    assert (found.squares[1] == 0) == (name == "fomaml")


def test_the_path_is_that_of_the_inner_loop():
    """Rejects steps that all act with theta_0, or adapt on data of another step."""
    config = SMALL.with_changes({"inner_steps": 2})
    found, theta = collected(config)
    first, second, third = trpo.side_by_side(found.path)
    assert (first.theta == theta).all()
    for before, after in ((first, second), (second, third)):
        loss = policy_step.inner_losses(config, [before])[0]
        g = grad(loss)(before.theta)
        np.testing.assert_allclose(after.theta, before.theta - 0.3 * g, atol=1e-12)
    noises = [(x.actions - x.mean) / np.exp(x.log_std)[:, None] for x in found.path]
    assert not np.isclose(noises[0], noises[1]).any()
    assert not np.isclose(noises[1], noises[2]).any()


@pytest.mark.parametrize("name", ["pretrained", "oracle"])
def test_pretraining_takes_no_inner_step(name):
    """Rejects a baseline that is trained to adapt, and one that is told what it may not."""
    config = SMALL.with_changes({"algorithm": name})
    found, theta = collected(config)
    (only,) = trpo.side_by_side(found.path)
    assert (only.theta == theta).all()
    assert only.observations.shape[-1] == (4 if name == "oracle" else 2)
    v = grad(policy_step.inner_losses(config, [only])[0])(only.theta)
    np.testing.assert_allclose(found.gradient, v.sum(axis=0), atol=1e-12)
    assert found.squares[1] == 0


def test_tasks_are_keyed_by_seed_iteration_and_number():
    """Rejects goals or noise that two iterations, seeds or tasks share."""
    theta = generic(SMALL).theta
    other = SMALL.with_changes({"seed": 1})
    keys = (SMALL, 0, 0), (SMALL, 0, 1), (SMALL, 1, 0), (other, 0, 0)
    found = [policy_step.collect(c, theta, i, range(n, n + 1)).path[0] for c, i, n in keys]
    for one, two in itertools.combinations(found, 2):
        assert not np.isclose(one.actions, two.actions).any()
        assert not np.isclose(one.rewards, two.rewards).all()


# ----- The metric -----


@steps
@pytest.mark.parametrize("surrogate", ["naive", "lvc", "loaded_dice"])
def test_the_metric_is_the_hessian_of_the_adapted_kl(surrogate, steps):
    """Rejects J for the identity, J F J, J' of another order, and a KL before adapting."""
    config = SMALL.with_changes({"surrogate": surrogate, "inner_steps": steps})
    found, theta = collected(config)
    rng = np.random.default_rng(1)
    u, v = rng.standard_normal((2, theta.size)) / np.sqrt(theta.size)

    def kl(at):
        return float(policy_step.trial(config, at, found.path)[1])

    assert kl(theta) == pytest.approx(0, abs=1e-14)
    h = 1e-3

    def second(way):  # fourth order: two central differences, extrapolated
        coarse = kl(theta + 2 * h * way) + kl(theta - 2 * h * way)
        fine = kl(theta + h * way) + kl(theta - h * way)
        return (16 * fine - coarse) / (12 * h * h)

    au, av = (policy_step.curvature(config, way, found.path) for way in (u, v))
    assert u @ au == pytest.approx(second(u), rel=1e-5)
    assert u @ av == pytest.approx((second(u + v) - second(u - v)) / 4, rel=1e-5)
    assert u @ av == pytest.approx(v @ au, rel=1e-9)


def test_first_order_takes_the_jacobian_for_the_identity():
    """Rejects second derivatives in the metric of an algorithm that has none."""
    config = SMALL.with_changes({"algorithm": "fomaml"})
    found, theta = collected(config)
    v = np.random.default_rng(1).standard_normal(theta.size)
    exact = SMALL.with_changes({"alpha": 0.0})
    expected = policy_step.curvature(exact, v, found.path)
    np.testing.assert_allclose(
        policy_step.curvature(config, v, found.path), expected, rtol=1e-9, atol=1e-12
    )


@given(st.integers(1, 8), st.integers(0, 2**32))
def test_conjugate_gradients_solve(size, seed):
    """Rejects a wrong direction or residual; what is left is b - A x, solved or not."""
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size))
    a, b = root @ root.T + np.eye(size), rng.standard_normal(size)
    x, rest = trpo.conjugate_gradients(lambda v: a @ v, b)
    np.testing.assert_allclose(a @ x + rest, b, atol=1e-9)
    np.testing.assert_allclose(x, np.linalg.solve(a, b), atol=1e-3)


@pytest.mark.parametrize("scale", [1e-150, 1e-9, 1e-5, 1e-2])
def test_conjugate_gradients_of_a_short_vector(scale):
    """Rejects a tolerance that a short gradient meets before its first step, or with a
    rest as large as itself: it had no update, and counted as refused."""
    rng = np.random.default_rng(0)
    root, b = rng.standard_normal((6, 6)), scale * rng.standard_normal(6)
    a = root @ root.T + np.eye(6)
    x, rest = trpo.conjugate_gradients(lambda v: a @ v, b)
    np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=1e-3)
    assert np.linalg.norm(rest) < 1e-4 * np.linalg.norm(b)


def test_the_tolerance_of_a_long_vector_is_that_of_the_official_code():
    """Rejects a rest of 0.007 for solved, since the vector is longer."""
    a, b = np.array([1, 1.00001]), np.array([1e3, 1e3])
    _, rest = trpo.conjugate_gradients(lambda v: a * v, b)
    assert rest @ rest < 1e-10


def test_a_short_gradient_has_an_update(monkeypatch):
    """Rejects an iteration that stands still, and says that its step was refused."""
    collect = policy_step.collect

    def short(*arguments):
        found = collect(*arguments)
        return found._replace(gradient=1e-6 * found.gradient)

    monkeypatch.setattr(policy_step, "collect", short)
    state = generic(SMALL)
    after, record = policy_step.iterate(SMALL, state, Here())
    assert record["refused"] == 0
    assert (after.theta != state.theta).any()


def test_conjugate_gradients_stop():
    """Rejects products after the solution is found, and more than ten of them."""
    calls = []

    def product(v):
        calls.append(1)
        return np.arange(1.0, 51.0) * v

    trpo.conjugate_gradients(lambda v: calls.append(1) or 2 * v, np.ones(3))
    assert len(calls) == 1
    x, rest = trpo.conjugate_gradients(product, np.ones(50))
    assert len(calls) == 1 + 10
    np.testing.assert_allclose(np.arange(1.0, 51.0) * x + rest, 1)
    assert not trpo.conjugate_gradients(product, np.zeros(50))[0].any()


def test_the_step_is_as_long_as_the_kl_allows():
    """Rejects a length without its 2, or in the metric without the damping."""
    config = SMALL.with_changes({"max_kl": 1e-4})
    found, theta = collected(config)
    g = found.gradient / 3
    step = trpo.natural_step(metric(config, found.path), g, config.max_kl)
    image = policy_step.curvature(config, step, found.path) / 3 + trpo.DAMPING * step
    assert 0.5 * step @ image == pytest.approx(1e-4, rel=1e-3)
    assert g @ step > 0
    loss, kl = judged(config, theta - 1e-2 * step, found.path)
    assert kl == pytest.approx(1e-4 * 1e-4, rel=0.05)
    assert loss < found.loss / 3


def test_a_thin_metric_is_that_of_fewer_steps():
    """Rejects a stride that reaches the gradient or the line search."""
    thin = SMALL.with_changes({"fisher_stride": 3})
    (whole, theta), (found, _) = collected(SMALL), collected(thin)
    assert (found.gradient == whole.gradient).all()
    trials = [policy_step.trial(c, theta + 0.01, whole.path) for c in (SMALL, thin)]
    assert trials[0] == trials[1]
    steps = [
        trpo.natural_step(metric(c, whole.path), whole.gradient, c.max_kl)
        for c in (SMALL, thin)
    ]
    cosine = steps[0] @ steps[1] / np.linalg.norm(steps[0]) / np.linalg.norm(steps[1])
    assert 0.3 < cosine < 0.999


# ----- The line search -----


def search(answers):
    """Search where the trials give these losses and KLs; return it, and where it looked."""
    given, seen = iter(answers), []

    def judge(theta):
        seen.append(theta)
        return next(given)

    theta, step = np.ones(2, "float32"), np.array([1.0, -2.0])
    return trpo.search(judge, theta, step, 0.0, SMALL.max_kl), seen


BAD = [(0.1, 0.001), (0.0, 0.001), (-1.0, 0.0101), (np.nan, 0.001), (-np.inf, 0.001)]
BAD += [(-1.0, np.nan), (np.inf, 0.0)]


def test_the_first_good_step_is_taken():
    """Rejects a step that gains nothing, leaves the region, or is not a number."""
    (theta, tries, loss, kl), seen = search([*BAD, (-1.0, 0.01), (-2.0, 0.0)])
    assert (tries, loss, kl) == (7, -1.0, 0.01)
    assert theta is seen[-1]
    assert theta.dtype == np.float32
    expected = [[1 - 0.8**k, 1 + 2 * 0.8**k] for k in range(8)]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_a_trial_is_the_divergence_from_the_policy_that_acted():
    """Rejects KL(new || old), which has the same Hessian, a KL of other states, and a mean
    over tasks; and a loss on the advantages of other time steps."""
    found, theta = collected(SMALL)
    theta = theta + 0.3 * np.random.default_rng(2).standard_normal(theta.shape)
    *inner, last = found.path
    losses = policy_step.inner_losses(SMALL, inner)
    task = Task(lambda _: losses[0], None)
    thetas = np.tile(theta, (SMALL.tasks, 1))
    adapted = maml.adapt(thetas, task, problem(SMALL).alpha, 1)
    mean, log_std = rollout.gaussian(problem(SMALL).model, last, adapted)
    mean = mean.reshape(last.mean.shape)
    old, new = np.exp(last.log_std)[:, None], np.exp(log_std)[:, None]
    parts = np.log(new / old) + (old**2 + (last.mean - mean) ** 2) / (2 * new**2) - 0.5
    kl = (last.weights * parts.sum(-1)).sum()
    densities = [
        np.exp(-0.5 * ((last.actions - at) / deviation) ** 2) / deviation
        for at, deviation in ((mean, new), (last.mean, old))
    ]
    ratio = (densities[0] / densities[1]).prod(-1)
    expected = -(last.weights * last.advantages * ratio).sum(), kl
    assert policy_step.trial(SMALL, theta, found.path) == pytest.approx(expected, rel=1e-9)
    assert kl > 0.1


def test_no_good_step_is_refused():
    """Rejects taking the last trial when the line search fails."""
    (theta, tries, loss, kl), seen = search([BAD[0]] * 15)
    assert len(seen) == trpo.TRIES == 15
    assert tries is None
    assert (theta == 1).all()
    assert (loss, kl) == (0.0, 0.0)


def test_refusals_are_counted(monkeypatch):
    """Rejects a refused step that is silent, or moves theta."""
    worse = np.float64(1e3), np.float64(0)
    monkeypatch.setattr(policy_step, "trial", lambda *_: worse)
    state = generic(SMALL)
    after, record = policy_step.iterate(SMALL, state, Here())
    assert (record["refused"], record["backtracks"]) == (1, None)
    assert (after.theta == state.theta).all()
    assert after.iteration == 1


# ----- One iteration -----


def test_an_iteration_keeps_its_promises():
    """Rejects a step without gain or beyond the limit, and figures of other data."""
    state = generic(SMALL)
    after, record = policy_step.iterate(SMALL, state, Here())
    assert 0 < record["kl"] <= SMALL.max_kl
    assert record["improvement"] > 0
    assert record["refused"] == 0
    (found, _) = collected(SMALL)
    first, last = found.path[0], found.path[-1]
    assert record["return_before"] == pytest.approx(first.rewards.sum(-1).mean())
    assert record["return_after"] == pytest.approx(last.rewards.sum(-1).mean())
    assert record["std"] == pytest.approx(np.exp(state.theta[-2:]).mean())
    share = np.sqrt(found.squares[1] / found.squares[0])
    assert record["second_order"] == pytest.approx(share)
    loss, kl = judged(SMALL, after.theta, found.path)
    assert record["kl"] == pytest.approx(kl)
    assert record["loss"] - record["improvement"] == pytest.approx(loss)


def test_an_iteration_steps_in_the_mean_metric(monkeypatch):
    """Rejects a metric summed over the tasks, a mean of chunks of unequal size, and a
    damping that depends on the number of tasks: here it is strong enough to be seen."""
    monkeypatch.setattr(trpo, "DAMPING", 0.1)
    state = generic(SMALL)
    after, record = policy_step.iterate(SMALL, state, Here())
    found, _ = collected(SMALL)
    gradient = found.gradient / SMALL.tasks
    step = trpo.natural_step(metric(SMALL, found.path), gradient, SMALL.max_kl)
    expected = state.theta - 0.8 ** record["backtracks"] * step
    np.testing.assert_allclose(after.theta, expected, rtol=0, atol=1e-9)
    assert np.abs(after.theta - state.theta).max() > 1e-3


@pytest.mark.parametrize("outer", ["trpo", "adam", "sgd"])
def test_the_mean_meta_gradient_is_clipped(monkeypatch, outer):
    """Rejects a clip without effect, of each task's gradient or of the step."""
    config = SMALL.with_changes({"outer": outer, "clip": 0.01})
    found, _ = collected(config)
    gradient = found.gradient / config.tasks
    assert np.sum(np.abs(gradient) > 0.01) > 5
    taken = []

    def noted(given):
        taken.append(given)
        raise InterruptedError

    monkeypatch.setattr(trpo, "natural_step", lambda product, g, max_kl: noted(g))
    monkeypatch.setattr(policy_step, "outer_step", lambda theta, g, *_: noted(g))
    with pytest.raises(InterruptedError):
        policy_step.iterate(config, generic(config), Here())
    np.testing.assert_allclose(taken[0], gradient.clip(-0.01, 0.01), rtol=1e-9)


def test_adam_is_the_simple_outer_update():
    """Rejects an option that is not heard, or moments that are not kept."""
    config = SMALL.with_changes({"outer": "adam", "beta": 0.02})
    state = generic(config)
    after, record = policy_step.iterate(config, state, Here())
    moved = np.abs(after.theta - state.theta)
    np.testing.assert_allclose(moved.max(), 0.02, rtol=1e-3)
    assert after.moments.m.any()
    assert record["kl"] > 0
    assert "refused" in record


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_replay_and_chunks_change_no_task(dtype):
    """Rejects a replay with other bits, and streams keyed by a place in a chunk."""
    config = SMALL.with_changes({"dtype": dtype, "fisher_stride": 2})
    state = generic(config)
    results = [
        policy_step.iterate(config.with_changes(changes), state, Here())
        for changes in ({}, {"replay": False}, {"chunk": 1}, {"chunk": 9})
    ]
    (first, told), (eager, said), *others = results
    assert first.theta.dtype == dtype
    assert first.theta.tobytes() == eager.theta.tobytes()
    assert told == said
    for after, _ in others:
        atol = 1e-4 if dtype == "float32" else 1e-9
        np.testing.assert_allclose(after.theta, first.theta, atol=atol)


def test_a_policy_that_diverges_is_told():
    """Rejects an update from rewards that are not numbers."""
    state = generic(SMALL)
    state = state._replace(theta=np.full_like(state.theta, 1e300))
    with pytest.raises(WorldError, match="not finite: the policy has diverged"):
        policy_step.iterate(SMALL, state, Here())


@pytest.mark.parametrize("outer", ["trpo", "adam"])
def test_a_gradient_that_is_not_finite_is_no_refused_step(tmp_path, monkeypatch, outer):
    """Rejects a line search that refuses every step of a nan, for the rest of the run."""
    collect = policy_step.collect

    def spoiled(*arguments):
        found = collect(*arguments)
        return found._replace(gradient=np.where(found.gradient > 0, np.nan, 0.0))

    monkeypatch.setattr(policy_step, "collect", spoiled)
    config = SMALL.with_changes({"outer": outer, "iterations": 2})
    with pytest.raises(WorldError, match="diverged at iteration 1 "):
        loop.train(tmp_path, config, Here(), lambda *_: None)


@pytest.mark.parametrize("outer", ["trpo", "adam"])
def test_a_gradient_of_another_dtype_is_an_error(monkeypatch, outer):
    """Rejects a line search that converts a float64 step to theta's dtype."""
    collect = policy_step.collect

    def wide(*arguments):
        found = collect(*arguments)
        return found._replace(gradient=found.gradient.astype("float64"))

    monkeypatch.setattr(policy_step, "collect", wide)
    config = SMALL.with_changes({"dtype": "float32", "outer": outer})
    with pytest.raises(WorldError, match="gradient became float64 while theta is float32"):
        policy_step.iterate(config, generic(config), Here())
