"""Meta-SGD: a step size per parameter, learned together with theta."""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from hypothesis import given
from hypothesis import strategies as st

import cases
from processes import here
from tinymaml import maml
from tinymaml.algorithms.learned import adapt, gradient
from tinymaml.algorithms.metasgd import META_SGD
from tinymaml.check.differences import directions, slopes_error
from tinymaml.experiments import problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.fewshot import drawn
from tinymaml.harness import checkpoints, runs
from tinymaml.maml import Task


# Two exact ways to one result differ by rounding only: some hundred operations of 1e-16.
ROUNDING = 1e-12
SMALL = {"algorithm": "meta-sgd", "hidden": (5, 4), "shots": 4, "dtype": "float64"}
STEPS, SEEDS = st.integers(1, 4), st.integers(0, 2**32 - 1)


def case(seed, steps, tasks=3, **options):
    """Return a problem, w (tasks, M) with generic step sizes, and a task."""
    family = problem(Sine(**SMALL, inner_steps=steps, seed=seed, **options))
    rng = np.random.default_rng(seed)
    w = np.stack([META_SGD.init(rng, family) for _ in range(tasks)])
    size = w.shape[-1] // 2
    w[:, :size] += 0.3 * rng.standard_normal((tasks, size))
    w[:, size:] = rng.uniform(-0.02, 0.1, (tasks, size))
    return family, w, family.task(drawn(family, seed, "train", 0, range(tasks)))


def textbook(w, task, steps):
    """The query loss after a loop over [theta | alpha] that knows nothing of chains."""
    size = w.shape[-1] // 2
    theta, alpha = w[..., :size], w[..., size:]
    for _ in range(steps):
        theta = theta - alpha * grad(task.support(theta))(theta)
    return anp.sum(task.query(theta)(theta))


def difference(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@given(SEEDS, STEPS)
def test_gradient_is_that_of_the_unrolled_loop(seed, steps):
    """Rejects slopes of v_k in place of v_{k+1}, and step sizes that are summed once."""
    family, w, task = case(seed, steps)
    loss, found = gradient(w, task, family)
    assert found.shape == w.shape
    assert loss == pytest.approx(textbook(w, task, steps), rel=ROUNDING)
    assert difference(found, grad(textbook)(w, task, steps)) < ROUNDING
    ways = directions(np.random.default_rng(0), w.shape, 4)
    assert slopes_error(lambda at: float(textbook(at, task, steps)), w, ways, found) < 1e-6


@given(SEEDS, STEPS, st.floats(0.001, 0.1))
def test_equal_step_sizes_are_maml(seed, steps, alpha):
    """Rejects a theta part that is not MAML's, and a step size that is shared."""
    family, w, task = case(seed, steps)
    size = w.shape[-1] // 2
    w[:, size:] = alpha
    _, found = gradient(w, task, family)
    _, theta_part = maml.meta_gradient(w[:, :size], task, alpha, steps)
    np.testing.assert_array_equal(found[:, :size], theta_part)
    shift = np.concatenate([np.zeros(size), np.ones(size)]) * np.ones((len(w), 1))
    value = lambda at: float(textbook(at, task, steps))  # noqa: E731
    way = shift / np.linalg.norm(shift)
    assert slopes_error(value, w, [way], found) < 1e-6


@given(SEEDS)
def test_one_step_by_hand(seed):
    """Rejects v_0 in place of v_1: one step has slope -grad S(theta) grad Q(theta_1)."""
    family, w, task = case(seed, 1)
    size = w.shape[-1] // 2
    _, found = gradient(w, task, family)
    theta_0, theta_1 = adapt(w, task, family, 1)
    g, v = (grad(maker(at))(at) for maker, at in ((task[0], theta_0), (task[1], theta_1)))
    assert difference(found[:, size:], -g * v) < ROUNDING


@given(SEEDS, STEPS, st.floats(0.1, 10))
def test_scaling_the_support_loss(seed, steps, c):
    """Rejects a step size that is applied twice: (S, alpha) -> (c S, alpha / c)."""
    family, w, task = case(seed, steps)
    size = w.shape[-1] // 2
    scaled = Task(lambda at: lambda theta: c * task.support(at)(theta), task.query)
    _, before = gradient(w, task, family)
    smaller = np.concatenate([w[:, :size], w[:, size:] / c], axis=-1)
    _, after = gradient(smaller, scaled, family)
    assert difference(after[:, :size], before[:, :size]) < 1e-9
    assert difference(after[:, size:], c * before[:, size:]) < 1e-9


def test_step_sizes_of_batch_norm_offsets_do_not_move():
    """Rejects step sizes that change what inner steps must leave alone."""
    family = problem(Glyphs(algorithm="meta-sgd", filters=3, dtype="float64"))
    rng = np.random.default_rng(0)
    w = META_SGD.init(rng, family)[None]
    size = w.shape[-1] // 2
    fixed = family.alpha == 0
    assert fixed.any()
    w[:, size:][:, fixed] = 0.3  # as if something had moved them
    task = family.task(drawn(family, 0, "train", 0, range(1)))
    _, found = gradient(w, task, family)
    assert not found[:, size:][:, fixed].any()
    assert found[:, :size][:, fixed].any()
    thetas = adapt(w, task, family, 2)
    np.testing.assert_array_equal(thetas[2][:, fixed], w[:, :size][:, fixed])


@given(SEEDS, STEPS)
def test_first_order_keeps_the_gradient_of_the_step_sizes(seed, steps):
    """Rejects a first-order Meta-SGD that is first-order MAML: its step sizes have the
    slopes -g_k grad Q(theta_K), summed over the steps."""
    family, w, task = case(seed, steps, order="first")
    size = w.shape[-1] // 2
    thetas = adapt(w, task, family, steps)
    last = grad(task.query(thetas[-1]))(thetas[-1])
    slopes = [-grad(task.support(at))(at) * last for at in thetas[:-1]]
    for found in (
        gradient(w, task, family)[1],
        META_SGD.first_order(w, task, case(seed, steps)[0])[1],
    ):
        np.testing.assert_array_equal(found[:, :size], last)
        assert difference(found[:, size:], sum(slopes)) < ROUNDING
        assert found[:, size:].any()


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("order", ["exact", "first"])
@pytest.mark.parametrize(("adapts", "name"), [("head", "anil"), ("body", "boil")])
@pytest.mark.parametrize("kind", [Sine, Glyphs], ids=["sine", "glyphs"])
def test_a_part_with_a_rate_per_parameter_is_anil_or_boil(kind, adapts, name, order, steps):
    """Rejects two algorithms where there is one with two options: to the bit."""
    options = {"rates": "parameter", "order": order, "inner_steps": steps}
    one, other = (
        cases.case(cases.small(kind, algorithm, **options | own))
        for algorithm, own in (("meta-sgd", {"adapts": adapts}), (name, {}))
    )
    np.testing.assert_array_equal(one.w, other.w)
    found = [x.method.gradient(*x.args) for x in (one, other)]
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    for a, b in zip(*(x.method.adapt(*x.args, 4) for x in (one, other)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_precision_is_kept():
    """Rejects a gradient or a theta that drifts to float64."""
    family = problem(Sine(**SMALL | {"dtype": "float32"}))
    w = META_SGD.init(np.random.default_rng(0), family).astype("float32")[None]
    task = family.task(drawn(family, 0, "train", 0, range(1)))
    assert gradient(w, task, family)[1].dtype == np.float32
    assert {theta.dtype for theta in adapt(w, task, family, 2)} == {np.dtype("float32")}


def test_it_is_tested_with_as_many_steps_as_it_was_trained_with():
    """Rejects ten steps with step sizes that were learned for one."""
    assert Sine(algorithm="meta-sgd").test_steps == 1
    assert Sine(algorithm="meta-sgd", inner_steps=3).test_steps == 3
    assert Sine(algorithm="meta-sgd", test_steps=7).test_steps == 7


def test_a_run_keeps_its_step_sizes(tmp_path, monkeypatch):
    """Rejects a checkpoint or a resumed run that has lost them."""
    monkeypatch.chdir(tmp_path)
    options = ["--algorithm", "meta-sgd", "--hidden", "4", "--checkpoint-every", "5"]
    for command in (
        ("sine", "--out", "once", *options, "--iterations", 12),
        ("sine", "--out", "twice", *options, "--iterations", 7),
        ("--resume", "twice", "--iterations", 12),
    ):
        done = here("train", *command)
        assert done.code == 0, done.err
    once, twice = (tmp_path / name / runs.CHECKPOINT for name in ("once", "twice"))
    assert once.read_bytes() == twice.read_bytes()
    theta = checkpoints.load(once.parent, runs.read_config(once.parent)).theta
    rates = theta[len(theta) // 2 :]
    assert len(np.unique(rates)) > len(rates) / 2
    assert here("evaluate", "once").code == 0
