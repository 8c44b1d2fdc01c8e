"""The meta-policy-gradients against what can be summed, on worlds drawn by hypothesis."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymaml import differences, maml
from tinymaml.cli_check import check_group
from tinymaml.differences import difference
from tinymaml.maml import Task
from tinymaml.rl import exact, mdp, proof, surrogates
from tinymaml.rl.surrogates import SURROGATES, loaded_dice, lvc, naive


SEEDS = st.integers(0, 2**32 - 1)
STEPS = st.integers(0, 3)


@st.composite
def worlds(draw, longest=3):
    """Draw a world of at most 216 trajectories: sizes here, numbers from a drawn seed."""
    sizes = [(h, s, a) for h in range(1, longest + 1) for s in (1, 2, 3) for a in (2, 3)]
    small = [size for size in sizes if (size[1] * size[2]) ** size[0] <= 216]
    alpha = draw(st.sampled_from([0.1, 0.7]))
    return exact.world(draw(SEEDS), *draw(st.sampled_from(small)), alpha=alpha)


# ----- The worlds themselves -----


@given(worlds())
def test_all_trajectories_are_listed_with_their_probabilities(world):
    """Rejects a list with a trajectory too few or too many, or a wrong probability."""
    everything, likely = mdp.every(world.mdp)
    steps = np.stack(everything, -1).reshape(len(likely), -1)
    assert len(np.unique(steps, axis=0)) == len(likely)
    batch = mdp.listed(world.mdp, naive)(world.theta[None]).batch
    chances = batch.weights[0, :, 0]
    assert chances.sum() == pytest.approx(1)
    want = mdp.expected_return(world.mdp, world.theta)
    assert chances @ batch.rewards[0].sum(-1) == pytest.approx(want)
    assert surrogates.outcome(batch) == pytest.approx(-want)


@given(worlds())
def test_advantages_over_the_value_average_to_nothing_in_each_state(world):
    """Rejects V(s) of another time, state or theta."""
    batch = mdp.listed(world.mdp, naive, baseline=True)(world.theta[None]).batch
    states = mdp.every(world.mdp)[0].states
    for state in range(world.mdp.shape[0]):
        mean = np.sum(batch.weights[0] * batch.advantages[0] * (states == state), 0)
        np.testing.assert_allclose(mean, 0, atol=1e-12)


@given(SEEDS)
def test_trajectories_are_drawn_with_their_probabilities(seed):
    """Rejects a sampler of other starts, moves or actions, or one that shares thetas."""
    world = exact.world(seed, 2)
    theta = np.stack([world.theta, world.theta[::-1]])
    drawn = mdp.sample(world.mdp, theta, 4000, np.random.default_rng(seed))
    batch = mdp.listed(world.mdp, naive)(theta).batch
    everything = np.stack(mdp.every(world.mdp)[0], -1)
    same = np.stack(drawn, -1)[:, :, None] == everything
    shares = same.all((-1, -2)).mean(1)
    want = batch.weights[..., 0]
    errors = np.sqrt(want * (1 - want) / 4000)
    assert np.all(np.abs(shares - want) < 5 * errors + 2 / 4000)


@given(worlds(), st.integers(0, 2))
def test_differences_of_the_meta_objective_are_good_to_nine_digits(world, steps):
    """Rejects a step size that spoils the measure that all else is held against."""
    value = lambda at: mdp.expected_return(world.mdp, exact.adapted(world, at, steps))  # noqa: E731
    slopes = [differences.gradient(value, world.theta, step) for step in (1e-3, 7e-4)]
    assert difference(*slopes) < 1e-9


# ----- Formulation I -----


@given(worlds(), STEPS)
def test_adapted_parameters_are_one_gradient_ascent(world, steps):
    """Rejects a surrogate whose gradient is not the policy's, or logp_old of theta_0."""
    assert proof.adapted_error(world, steps) < 1e-12


@given(worlds(), STEPS, st.booleans())
def test_loaded_dice_is_exact(world, steps, baseline):
    """Rejects naive, LVC, DiCE by the wrong axis, and a baseline that biases."""
    assert proof.error_of(world, loaded_dice, steps, baseline) < 1e-7


@given(worlds(longest=1), STEPS, st.booleans())
def test_lvc_is_exact_for_one_step_trajectories(world, steps, baseline):
    """Rejects LVC that drops the product of scores as naive does."""
    assert proof.error_of(world, lvc, steps, baseline) < 1e-7


@given(worlds(), st.sampled_from(sorted(SURROGATES)))
def test_each_hessian_is_the_one_stated(world, name):
    """Rejects a bias other than the documented one."""
    assert proof.hessian_error(world, name) < 1e-11


@given(worlds(), st.integers(1, 3))
def test_naive_over_the_exact_value_is_first_order(world, steps):
    """Rejects a naive surrogate with more curvature than that of log pi."""
    assert proof.first_order_error(world, steps) < 1e-11


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("baseline", [False, True])
def test_the_biased_ones_differ(steps, baseline):
    """Rejects worlds on which no check could tell a surrogate from another."""
    world = exact.world(0, 3)
    naive_bias = proof.error_of(world, naive, steps, baseline)
    lvc_bias = proof.error_of(world, lvc, steps, baseline)
    assert min(naive_bias, lvc_bias) > 1e-2


# ----- Formulation II -----


@pytest.mark.parametrize(
    ("horizon", "number", "steps"), [(1, 1, 1), (2, 2, 1), (2, 1, 2), (1, 2, 2), (1, 1, 3)]
)
@given(seed=SEEDS, baseline=st.floats(-2, 2))
@settings(max_examples=4)
def test_e_maml_is_exact(horizon, number, steps, seed, baseline):
    """Rejects a score term that is weighted, late, early, or of one step only."""
    world = exact.world(seed, horizon)
    want = exact.gradient_of_samples(world, number, steps)
    got = proof.expected_e_maml(world, number, steps, baseline)
    assert difference(got, want) < 1e-7


def test_the_naive_chain_alone_is_not():
    """Rejects a formulation II in which the score term does not matter."""
    world = exact.world(0, 2)
    act, chances = exact.every_draw(world, 2, 1)
    theta = exact.for_every_draw(world, world.theta, 2, 1)
    task = Task(act, mdp.listed(world.mdp, naive))
    _, v = maml.meta_gradient(theta, task, world.alpha, 1)
    assert (
        difference(-np.prod(chances, 0) @ v, exact.gradient_of_samples(world, 2, 1)) > 1e-2
    )


# ----- The Gaussian bandit -----


@pytest.mark.parametrize(
    ("surrogate", "offset", "baseline", "want"),
    [
        (naive, 0, False, -1.452),
        (naive, 10, False, 3.028),
        (naive, 0, True, -1.120),
        (naive, 10, True, -1.120),
        *[
            (s, o, b, -0.896)
            for s in (lvc, loaded_dice)
            for o in (0, 10)
            for b in (False, True)
        ],
    ],
)
def test_the_gaussian_bandit_by_hand(surrogate, offset, baseline, want):
    """Rejects a meta-gradient that a constant added to the reward changes, but naive's."""
    maker = mdp.integrated(proof.BANDIT._replace(offset=offset), surrogate, baseline)
    _, v = maml.meta_gradient(np.array([[0.3]]), Task(maker, maker), 0.1, 1)
    assert -v[0, 0] == pytest.approx(want, abs=5e-4)


# ----- The metric, the table -----


@given(SEEDS, st.integers(0, 2))
def test_the_metric_is_the_hessian_of_the_divergence(seed, steps):
    """Rejects a Fisher product without J, or with J of the wrong order of steps."""
    assert proof.metric_error(exact.world(seed, 2), steps) < 1e-6


def test_the_table_is_printed_and_passes():
    """Rejects a command that prints something else than what it judges."""
    report = proof.verify(12345)
    shown = CliRunner().invoke(check_group, ["pointnav", "--seed", "12345"])
    assert shown.exit_code == 0
    assert shown.output == f"{report}\n"
    assert report.passed
    assert len(report.rows) >= 20
    assert "share" not in shown.output


WRONG = {
    "lvc for loaded_dice": ("loaded_dice", lvc, "loaded_dice, K = 1"),
    "naive for lvc": ("lvc", naive, "lvc, horizon 1, K = 3"),
    "loaded_dice for naive": ("naive", loaded_dice, "naive, K = 3: its bias"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_surrogate_fails_the_table(name, monkeypatch):
    """Rejects rows that cannot fail, and an exit code that hides one that did."""
    place, wrong, row = WRONG[name]
    monkeypatch.setattr(proof, place, wrong)
    shown = CliRunner().invoke(check_group, ["pointnav", "--json"])
    assert shown.exit_code == 1
    [report] = json.loads(shown.output)
    assert row in [row["check"] for row in report["rows"] if not row["passed"]]
