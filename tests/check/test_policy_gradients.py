"""The meta-policy-gradients against what can be summed, on worlds drawn by hypothesis."""

import json
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymaml import maml
from tinymaml.check import differences, exact, mdp, policy_gradients
from tinymaml.check.chain import Report
from tinymaml.check.differences import difference
from tinymaml.cli.check import check_group
from tinymaml.experiments import problem
from tinymaml.experiments.pointnav import PointNav
from tinymaml.fewshot import drawn
from tinymaml.maml import Task
from tinymaml.report.check import as_text
from tinymaml.rl import policy, rollout, surrogates
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
    assert policy_gradients.adapted_error(world, steps) < 1e-12


@given(worlds(), STEPS, st.booleans())
def test_loaded_dice_is_exact(world, steps, baseline):
    """Rejects naive, LVC, DiCE by the wrong axis, and a baseline that biases."""
    assert policy_gradients.error_of(world, loaded_dice, steps, baseline) < 1e-7


@given(worlds(longest=1), STEPS, st.booleans())
def test_lvc_is_exact_for_one_step_trajectories(world, steps, baseline):
    """Rejects LVC that drops the product of scores as naive does."""
    assert policy_gradients.error_of(world, lvc, steps, baseline) < 1e-7


@given(worlds(), st.sampled_from(sorted(SURROGATES)))
def test_each_hessian_is_the_one_stated(world, name):
    """Rejects a bias other than the documented one."""
    assert policy_gradients.hessian_error(world, name) < 1e-11


@given(worlds(), st.integers(1, 3))
def test_naive_over_the_exact_value_is_first_order(world, steps):
    """Rejects a naive surrogate with more curvature than that of log pi."""
    assert policy_gradients.first_order_error(world, steps) < 1e-11


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("baseline", [False, True])
def test_the_biased_ones_differ(steps, baseline):
    """Rejects worlds on which no check could tell a surrogate from another."""
    world = exact.world(0, 3)
    naive_bias = policy_gradients.error_of(world, naive, steps, baseline)
    lvc_bias = policy_gradients.error_of(world, lvc, steps, baseline)
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
    got = policy_gradients.expected_e_maml(world, number, steps, baseline)
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
    maker = mdp.integrated(
        policy_gradients.BANDIT._replace(offset=offset), surrogate, baseline
    )
    _, v = maml.meta_gradient(np.array([[0.3]]), Task(maker, maker), 0.1, 1)
    assert -v[0, 0] == pytest.approx(want, abs=5e-4)


# ----- The metric, the table -----


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_the_metric_is_the_hessian_of_the_divergence(steps, surrogate):
    """Rejects a Fisher product without J, or with J of the wrong order of steps."""
    changes = {"seed": steps, "inner_steps": steps, "surrogate": surrogate}
    acting = problem(PointNav(**policy_gradients.SMALL | changes))
    assert policy_gradients.metric_error(acting) < 1e-6


def test_the_table_is_printed_and_passes(monkeypatch):
    """Rejects a command that prints something else than what it judges."""
    acting = [
        problem(PointNav(**policy_gradients.SMALL, seed=12345, inner_steps=steps))
        for steps in (1, 2)
    ]
    report = policy_gradients.verify(12345, acting)
    asked = []

    def same(seed, problems, collect):
        asked.append((seed, [one.options for one in problems]))
        return report

    monkeypatch.setattr(policy_gradients, "verify", same)
    shown = CliRunner().invoke(check_group, ["pointnav", "--seed", "12345"])
    assert shown.exit_code == 0
    assert shown.output == f"{as_text(report)}\n"
    assert asked == [(12345, [one.options for one in acting])]
    assert report.passed
    assert len(report.rows) >= 20
    assert "share" not in shown.output


WRONG = {
    "lvc-for-loaded_dice": ("loaded_dice", lvc, "loaded_dice, K = 1"),
    "naive-for-lvc": ("lvc", naive, "lvc, horizon 1, K = 3"),
    "loaded_dice-for-naive": ("naive", loaded_dice, "naive, K = 3: its bias"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_surrogate_fails_the_table(name, monkeypatch):
    """Rejects rows that cannot fail, and an exit code that hides one that did."""
    place, wrong, failing = WRONG[name]
    monkeypatch.setattr(policy_gradients, place, wrong)
    rows = [
        *policy_gradients.expected_rows([exact.world(0, horizon) for horizon in (1, 2, 3)])
    ]
    assert failing in [row.check for row in rows if not row.passed]
    monkeypatch.setattr(policy_gradients, "verify", lambda *_: Report("x", rows, []))
    shown = CliRunner().invoke(check_group, ["pointnav", "--json"])
    assert shown.exit_code == 1
    assert not json.loads(shown.output)[0]["passed"]


# ----- The experiment's own task, policy and rollouts -----


@pytest.mark.parametrize("steps", [1, 2])
def test_the_experiment_adapts_alike_with_every_surrogate(steps):
    """Rejects logp_old of theta_0 at a later step, which naive does not look at."""
    adapted = []
    for surrogate in SURROGATES:
        family = problem(PointNav(**policy_gradients.SMALL, surrogate=surrogate))
        draws = drawn(family, 0, "train", 0, range(2))
        theta = family.model.init(np.random.default_rng(0))[None].repeat(2, 0)
        adapted.append(maml.adapt(theta, family.task(draws), family.alpha, steps))
    assert np.abs(adapted[0] - theta).max() > 1e-3
    np.testing.assert_allclose(adapted[1:], [adapted[0]] * 2, rtol=1e-12, atol=1e-13)


@given(SEEDS)
def test_the_advantages_of_a_task_are_its_own(seed):
    """Rejects a baseline, a mean or a deviation over all tasks."""
    rng = np.random.default_rng(seed)
    observations, rewards = (
        rng.standard_normal((3, 4, 5, 2)),
        rng.standard_normal((3, 4, 5)),
    )
    live = np.arange(5) < rng.integers(1, 6, (3, 4, 1))
    together = rollout.advantages(observations, rewards, live, 0.9)
    alone = [
        rollout.advantages(*(x[None] for x in one), 0.9)[0]
        for one in zip(observations, rewards, live, strict=True)
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-9)


class Hill(NamedTuple):
    """Walk blindly: rewards exp(-|x - goal|^2 / 2) at x, the sum of the actions.

    If `short`, the even trajectories of a task are done after their first step.
    """

    short: bool

    def start(self, goals, trajectories, rngs):
        """Return positions (T, N, d) at the origin."""
        return np.zeros((len(goals), trajectories, goals.shape[1]))

    def observe(self, states, goals):
        """Return noughts (T, N, 1), so that the mean of the policy is its bias."""
        return 0 * states[..., :1]

    def step(self, states, goals, actions, alive):
        """Return the new positions, the rewards, and who is done."""
        states = states + actions
        rewards = np.exp(-0.5 * ((states - goals[:, None]) ** 2).sum(-1))
        even = np.arange(states.shape[1]) % 2 == 0
        return states, rewards, np.broadcast_to(self.short & even, rewards.shape)


HILL_GOAL, HILL_ALPHA, DISCOUNT = np.array([0.4, -0.3]), 0.8, 0.2


def hill_gradient(theta, size, live):
    """Return d E[J(theta + alpha ghat)] / d theta, theta (mean, log-std), by quadrature.

    size: numbers in an action; live: (N, H) bool, the steps that are taken. By hand: ghat
    is the mean over them of (discounted return to go) grad log pi, J that of E[reward].
    """
    nodes, shares = np.polynomial.hermite_e.hermegauss(14)
    grid = np.indices((len(nodes),) * (live.sum() * size)).reshape(live.sum() * size, -1).T
    chances = (shares / shares.sum())[grid].prod(-1)
    noise = np.zeros((len(grid), *live.shape, size))
    noise[:, live] = nodes[grid].reshape(len(grid), -1, size)
    goal, t = HILL_GOAL[:size], np.arange(1, live.shape[1] + 1)[:, None]

    def value(at):
        mean, std = (
            at[..., None, None, None, :size],
            np.exp(at[..., None, None, None, size:]),
        )
        away = (mean + std * noise).cumsum(-2) - goal
        to_go = live * np.exp(-0.5 * (away**2).sum(-1))
        for k in range(len(t) - 1)[::-1]:
            to_go[..., k] += DISCOUNT * to_go[..., k + 1]
        scores = np.concatenate([noise / std, noise**2 - 1 + 0 * std], -1)
        ghat = np.sum((to_go * live)[..., None] * scores, (-3, -2)) / live.sum()
        after = (at[..., None, :] + HILL_ALPHA * ghat)[..., None, None, :]
        spread = 1 + t * np.exp(2 * after[..., size:])
        far = (t * after[..., :size] - goal) ** 2 / spread
        rewards = np.exp(-0.5 * far.sum(-1)) / np.sqrt(spread.prod(-1))
        return (rewards * live).sum((-2, -1)) / live.sum() @ chances

    return differences.gradient(value, theta)


@pytest.mark.parametrize(("size", "trajectories", "short"), [(2, 1, False), (1, 2, True)])
def test_e_maml_of_real_rollouts_is_unbiased(size, trajectories, short):
    """Rejects a rollout with another noise, log pi, mask, discount or weights than stated.

    8000 replicates, each component within four standard errors.
    """
    model = policy.gaussian_mlp((1, size))
    shape = trajectories, 2, size
    seeds = np.random.default_rng(5).integers(2**63, size=8000)
    goals = np.broadcast_to(HILL_GOAL[:size], (len(seeds), size))

    def maker(step, discount):
        def met(theta):
            draws = rollout.noise(seeds, step, shape, "float64")
            met = rollout.act(model, Hill(short), theta, goals, draws, discount)
            # The return to go as it is: less the baseline it has no closed form.
            to_go = rollout.returns_to_go(met.rewards, discount)
            return rollout.surrogate_loss(model, naive, met._replace(advantages=to_go))

        return met

    mine = np.concatenate([[-0.2, 0.1][:size], [-0.3, 0.2][:size]])
    theta = np.concatenate([np.zeros(size), mine])  # the weights meet noughts only
    theta = np.broadcast_to(theta, (len(seeds), theta.size))
    task = Task(maker(0, DISCOUNT), maker(1, 1.0))
    # About the loss there is, so that its noise does not drown the rest.
    _, v = surrogates.e_maml(theta, task, HILL_ALPHA, 1, baseline=-0.5)
    assert not v[:, :size].any()
    live = np.ones((trajectories, 2), bool)
    live[::2, 1] = not short
    z = policy_gradients.z_scores(-v[:, size:], hill_gradient(mine, size, live))
    assert np.abs(z).max() < policy_gradients.SIGMAS


def test_z_scores_are_in_standard_errors_of_the_mean():
    """Rejects scores in standard deviations of one replicate, which nothing would exceed:
    1, 2, 3 have the mean 2, the deviation 1, and its error 1 / sqrt(3)."""
    z = policy_gradients.z_scores(np.array([[1.0], [2], [3]]), np.array([0.0]))
    assert z == pytest.approx([2 * np.sqrt(3)])


def test_a_nan_among_the_worlds_is_not_overlooked():
    """Rejects max(), which passes over a nan that does not come first."""
    figures = iter([0.1, np.nan, 0.2])
    assert np.isnan(policy_gradients._worst(lambda _: next(figures), [1, 2, 3]))
