"""Rollouts: what is kept of them, and what an action is said to be worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymaml import maml
from tinymaml.errors import WorldError
from tinymaml.rl import policy, rollout
from tinymaml.rl.pointnav import PointNav
from tinymaml.rl.surrogates import SURROGATES


T, N, H = 3, 4, 12
MODEL = policy.gaussian_mlp((2, 6, 2), policy.anp.tanh)
seeds = st.integers(0, 2**32)
NEAR = 0.06  # so wide that some trajectories end soon, and others do not


class Wide(PointNav):
    """The world with wider goals."""

    def step(self, positions, goals, actions, alive):
        positions, rewards, _ = super().step(positions, goals, actions, alive)
        return positions, rewards, (np.abs(positions - goals[:, None]) < NEAR).all(-1)


WORLD = Wide()


class Breaking(Wide):
    """The world whose reward is `value` from time steps `at` (T, N) on."""

    def __new__(cls, value, at):
        world = super().__new__(cls)
        world.value, world.at, world.t, world.seen = value, at, 0, []
        return world

    def step(self, positions, goals, actions, alive):
        positions, rewards, done = super().step(positions, goals, actions, alive)
        self.seen.append(alive)
        broken = self.t >= self.at
        self.t += 1
        positions = np.where(broken[..., None], self.value, positions)
        return positions, np.where(broken, self.value, rewards), done


def met(seed=0, tasks=T, horizon=H, dtype="float64", far=None, world=WORLD):
    """What a generic policy meets."""
    rng = np.random.default_rng(seed)
    theta = MODEL.init(rng) + 0.2 * rng.standard_normal(MODEL.init(rng).shape)
    theta = np.broadcast_to(theta.astype(dtype), (tasks, theta.size))
    goals = (
        rng.uniform(-0.03, 0.03, (tasks, 2)) if far is None else np.full((tasks, 2), far)
    )
    draws = rng.standard_normal((tasks, N, horizon, 2)).astype(dtype)
    return rollout.act(MODEL, world, theta, goals, draws, 0.9), goals


def live_of(x):
    return x.weights > 0


@pytest.mark.parametrize("value", [1e3, np.nan, np.inf])
def test_rewards_after_the_end_are_not_earned(value):
    """Rejects rewards of a trajectory that is over in the returns of its live steps."""
    rng = np.random.default_rng(0)
    live = np.arange(H) < rng.integers(1, H, (T, N))[..., None]
    observations, rewards = rng.standard_normal((T, N, H, 2)), rng.random((T, N, H))
    found = [
        rollout.advantages(observations, np.where(live, rewards, after), live, 0.9)
        for after in (0, value)
    ]
    np.testing.assert_array_equal(*found)


# ----- Acting -----


@given(seeds)
def test_what_is_kept_is_what_happened(seed):
    """Rejects clipped actions, observations after the step, rewards that are shifted."""
    x, goals = met(seed)
    live = live_of(x)
    assert np.abs(x.actions).max() > 1
    moves = np.clip(0.1 * x.actions, -0.1, 0.1)
    places = np.cumsum(moves, axis=2)
    before = np.concatenate([np.zeros_like(places[:, :, :1]), places[:, :, :-1]], axis=2)
    np.testing.assert_allclose(x.observations[live], before[live], atol=1e-12)
    away = places - goals[:, None, None]
    np.testing.assert_allclose(
        x.rewards[live], -np.linalg.norm(away, axis=-1)[live], atol=1e-12
    )
    near = (np.abs(away) < NEAR).all(-1)
    over = np.cumsum(near, axis=2) - near > 0  # done at an earlier step
    assert (live == ~over).all()
    assert not x.rewards[~live].any()


@given(seeds)
def test_the_likelihood_is_that_of_the_acting_policy(seed):
    """Rejects a log-probability of clipped actions, or by another theta: ratios are 1."""
    x, _ = met(seed)
    loss = rollout.surrogate_loss(MODEL, SURROGATES["lvc"], x)
    np.testing.assert_allclose(loss.log_prob(x.theta), x.logp_old, atol=1e-12)
    mean, log_std = rollout.gaussian(MODEL, x, x.theta)
    np.testing.assert_allclose(mean, rollout.flat(x.mean), atol=1e-12)
    np.testing.assert_allclose(log_std, x.log_std, atol=1e-12)


@given(seeds)
def test_a_task_does_not_see_its_neighbours(seed):
    """Rejects a baseline, a scale, weights or noise shared between tasks."""
    together, goals = met(seed)
    draws = (together.actions - together.mean) / np.exp(together.log_std)[:, None]
    for i in range(T):
        part = slice(i, i + 1)
        x = rollout.act(MODEL, WORLD, together.theta[part], goals[part], draws[part], 0.9)
        for a, b in zip(x, together, strict=True):
            np.testing.assert_allclose(a, b[part], rtol=1e-9, atol=1e-9)


def test_weights_are_a_mean_over_a_tasks_live_steps():
    """Rejects a sum, and a mean that counts the steps after the end."""
    x, _ = met()
    live = live_of(x)
    assert 0 < (~live).sum() < live.sum()
    np.testing.assert_allclose(x.weights.sum(axis=(1, 2)), 1)
    for weights, alive in zip(x.weights, live, strict=True):
        assert np.unique(weights[alive]).size == 1


@given(seeds, st.sampled_from(sorted(SURROGATES)))
def test_garbage_after_the_end_changes_nothing(seed, name):
    """Rejects finished steps in the returns, the baseline, the advantages, the loss or its
    Hessian."""
    x, _ = met(seed)
    rng = np.random.default_rng(seed)
    live = live_of(x)

    def spoiled(array):
        mask = live.reshape(*live.shape, *(1,) * (array.ndim - 3))
        return np.where(mask, array, rng.uniform(-9, 9, array.shape))

    garbage = x._replace(
        observations=spoiled(x.observations),
        actions=spoiled(x.actions),
        mean=spoiled(x.mean),
        logp_old=spoiled(x.logp_old),
        advantages=spoiled(x.advantages),
        rewards=spoiled(x.rewards),
    )
    found = [rollout.advantages(y.observations, y.rewards, live, 0.9) for y in (x, garbage)]
    np.testing.assert_allclose(found[1], found[0], atol=1e-12)
    results = []
    for y in (x, garbage):
        loss = rollout.surrogate_loss(MODEL, SURROGATES[name], y)
        hvp, g = maml.hvp_and_gradient(loss, x.theta)
        results.append((loss(x.theta), g, hvp(x.theta)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_task_that_breaks_at_once_is_nan_alone(value):
    """Rejects a task of nothing that counts as one without rewards, and its neighbours
    that break too: a score of 0 would be the best of all."""
    at = np.full((T, N), H)
    at[1] = 0
    x, _ = met(world=Breaking(value, at))
    assert x.lost.tolist() == [0, N, 0]
    for array in (x.weights, x.advantages, x.scores[:, None]):
        wanted = np.broadcast_to(np.arange(T) == 1, array.T.shape).T
        assert np.array_equal(np.isnan(array), wanted)
    loss = rollout.surrogate_loss(MODEL, SURROGATES["lvc"], x)
    g = maml.value_and_gradient(loss, x.theta)[1]
    assert np.isfinite(g).all(axis=-1).tolist() == [True, False, True]


def test_a_score_is_of_whole_trajectories():
    """Rejects the return until a trajectory broke, which is better than of the whole."""
    at = np.full((T, N), H)
    at[1, 2] = 1
    x, _ = met(world=Breaking(np.nan, at))
    assert np.isnan(x.scores).tolist() == [False, True, False]
    assert np.array_equal(x.scores[::2], x.returns[::2])
    assert np.isfinite(x.returns).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_ends_a_trajectory(value):
    """Rejects a walk with a reward, since the world clips infinity to its longest step,
    and a mean or an observation of that moment that spoils the loss."""
    rng = np.random.default_rng(0)
    theta = np.tile(MODEL.init(rng), (2, 1))
    draws = rng.standard_normal((2, N, H, 2))
    draws[1, 2, 5, 0] = value
    x = rollout.act(MODEL, PointNav(), theta, np.full((2, 2), 0.4), draws, 0.9)
    assert x.lost.tolist() == [0, 1]
    assert live_of(x).sum(axis=-1).tolist() == [[H] * N, [H, H, 5, H]]
    assert np.isnan(x.scores).tolist() == [False, True]
    assert np.isfinite(x.mean).all()
    assert np.isfinite(x.observations).all()


@pytest.mark.parametrize("wrong", ["deviation", "mean"])
def test_a_policy_without_finite_actions_has_no_score(wrong):
    """Rejects a nan in theta that ends as a return, and an infinite mean that is kept."""
    rng = np.random.default_rng(0)
    theta = np.tile(MODEL.init(rng), (2, 1))
    if wrong == "deviation":
        theta[1, -1] = np.nan  # its logarithm
    else:
        theta[1, :-2] = 1e308  # weights
    draws = rng.standard_normal((2, N, H, 2))
    with np.errstate(over="ignore", invalid="ignore"):
        x = rollout.act(MODEL, PointNav(), theta, np.full((2, 2), 0.4), draws, 0.9)
    assert x.lost.tolist() == [0, N]
    assert np.isnan(x.scores).tolist() == [False, True]
    assert np.isfinite(x.mean).all()


@pytest.mark.parametrize(
    "changes",
    [
        *({"horizon": 0}, {"trajectories": 0}, {"tasks": 1}, {"discount": 1.1}),
        *({"goals": (2, 3)}, {"goals": (3, 2)}, {"goals": (2,)}, {"discount": np.nan}),
    ],
)
def test_what_does_not_fit_is_refused(changes):
    """Rejects goals of other tasks or of another plane, a rollout without a step, and a
    discount that grows."""
    given = {"tasks": 2, "trajectories": N, "horizon": H, "goals": (2, 2)} | changes
    theta = np.tile(MODEL.init(np.random.default_rng(0)), (2, 1))
    draws = np.zeros((given["tasks"], given["trajectories"], given["horizon"], 2))
    discount, goals = given.get("discount", 0.9), np.zeros(given["goals"])
    with pytest.raises(ValueError, match="goals"):
        rollout.act(MODEL, PointNav(), theta, goals, draws, discount)


def test_a_reward_that_float32_cannot_hold_ends_a_trajectory():
    """Rejects an infinite reward in the baseline's fit, and a warning of NumPy."""
    at = np.full((T, N), H)
    at[1, 2] = 0
    x, _ = met(dtype="float32", world=Breaking(np.float64(-1e100), at))
    assert x.lost.tolist() == [0, 1, 0]
    assert np.isfinite(x.rewards).all()


@given(seeds, st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_trajectory_ends_before_a_reward_that_is_not_finite(seed, value):
    """Rejects a broken step that counts, one that ends its neighbours, and a wrong count.

    A trajectory that is over cannot be lost any more.
    """
    whole, _ = met(seed)
    at = np.random.default_rng(seed).integers(0, 2 * H, (T, N))
    at[:, 0] = H  # one of each task does not break
    at[0, 1] = 3
    world = Breaking(value, at)
    x, _ = met(seed, world=world)
    live, before = live_of(x), np.arange(H) < at[..., None]
    assert (live == (live_of(whole) & before)).all()
    assert x.lost.tolist() == (live_of(whole) & ~before).any(-1).sum(-1).tolist()
    for a, b in zip(x[3:6], whole[3:6], strict=True):
        assert np.array_equal(a[live], b[live])
    assert np.array_equal(x.rewards, np.where(live, whole.rewards, 0))
    assert all(np.isfinite(array).all() for array in x)
    np.testing.assert_allclose(x.weights.sum(axis=(1, 2)), 1)


def test_nothing_is_lost_in_a_world_that_does_not_break():
    """Rejects a count of the trajectories that reached their goals."""
    x, _ = met()
    assert not live_of(x).all()
    assert x.lost.tolist() == [0] * T


@given(seeds)
def test_the_world_knows_who_is_over(seed):
    """Rejects steps of trajectories that are over, of which nothing is kept."""
    world = Breaking(0.0, np.full((T, N), H))
    x, _ = met(seed, world=world)
    assert np.array_equal(np.stack(world.seen, axis=-1), live_of(x))


def test_noise_is_keyed_by_seed_and_step():
    """Rejects noise that two steps, or two tasks, share, and other draws than before: a
    resumed run goes on with the old ones."""
    shape = (N, H, 2)
    first = rollout.noise(np.array([1, 2]), 0, shape, "float32")
    again = rollout.noise(np.array([2, 1]), 0, shape, "float32")[::-1]
    later = rollout.noise(np.array([1, 2]), 1, shape, "float32")
    assert first.dtype == np.float32
    drawn = np.random.default_rng([2, 0]).standard_normal(shape, "float32")
    assert (first[1] == drawn).all()
    assert (first == again).all()
    assert not (first == later).any()
    assert not (first[0] == first[1]).any()


def test_precision_is_kept():
    """Rejects a float64 in what a policy in float32 met."""
    x, _ = met(dtype="float32")
    assert {array.dtype.name for array in x} == {"float32"}
    assert {array.dtype.name for array in x.every(3)} == {"float32"}


@pytest.mark.parametrize("stride", [1, 2, 5, 12, 99])
def test_thinning_keeps_every_so_manieth_step(stride):
    """Rejects weights that no longer sum to 1, and arrays thinned along trajectories."""
    x, _ = met()
    thin = x.every(stride)
    steps = slice(min(stride, H) // 2, H, stride)
    assert thin.observations.shape == (T, N, len(range(H)[steps]), 2)
    sums = thin.weights.sum(axis=(1, 2))
    np.testing.assert_allclose(sums[sums > 0], 1)
    assert thin.actions.size
    assert (thin.actions == x.actions[:, :, steps]).all()
    if stride == 1:
        for a, b in zip(thin, x, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-15)


# ----- What an action was worth -----


@given(st.floats(0, 1), seeds)
def test_returns_to_go(discount, seed):
    """Rejects sums from the start, a discount by absolute time, 0 to the 0 as 0."""
    rewards = np.random.default_rng(seed).standard_normal((2, 3, 7))
    found = rollout.returns_to_go(rewards, discount)
    total = 0.0
    for t in reversed(range(7)):
        total = rewards[..., t] + discount * total
        np.testing.assert_allclose(found[..., t], total, rtol=1e-12, atol=1e-12)


@given(seeds)
def test_advantages_are_centred_and_scaled_per_task(seed):
    """Rejects statistics over all tasks, or over steps after the end."""
    x, _ = met(seed)
    live = live_of(x)
    for a, alive in zip(x.advantages, live, strict=True):
        assert a[alive].mean() == pytest.approx(0, abs=1e-9)
        assert a[alive].std() == pytest.approx(1, abs=1e-5)
        assert not a[~alive].any()


@given(seeds)
def test_the_baseline_is_each_tasks_own_ridge_regression(seed):
    """Rejects a fit across tasks, one on finished steps, and other features."""
    x, _ = met(seed)
    live = live_of(x)
    to_go = np.random.default_rng(seed).standard_normal(live.shape)
    found = rollout.baseline(x.observations, to_go, live)
    t = np.broadcast_to(np.arange(H) / 100, live.shape)
    for i in range(T):
        o, time = x.observations[i], t[i][..., None]
        features = np.concatenate(
            [o, o**2, time, time**2, time**3, np.ones_like(time)], axis=-1
        )
        a, y = features[live[i]], to_go[i][live[i]]
        # Ridge as rows of data: sqrt(1e-5) w = 0.
        rows = np.concatenate([a, np.sqrt(1e-5) * np.eye(8)])
        w = np.linalg.lstsq(rows, np.concatenate([y, np.zeros(8)]), rcond=None)[0]
        np.testing.assert_allclose(found[i], features @ w, rtol=1e-4, atol=1e-6)


def test_observations_far_away_are_clipped():
    """Rejects a fit that one far observation rules."""
    x, _ = met()
    to_go, live = np.ones((T, N, H)), live_of(x)
    far = np.where(np.arange(H)[:, None] == 3, 1e6, x.observations)
    near = np.where(np.arange(H)[:, None] == 3, 10.0, x.observations)
    found, expected = (rollout.baseline(o, to_go, live) for o in (far, near))
    np.testing.assert_allclose(found, expected)


def test_a_singular_baseline_is_told(monkeypatch):
    """Rejects a fit of nan, and giving up before the ridge was raised five times."""
    observations = np.zeros((1, 2, 3, 2))
    live, to_go = np.ones((1, 2, 3), bool), np.ones((1, 2, 3))
    assert np.isfinite(rollout.baseline(observations, to_go, live)).all()
    with pytest.raises(WorldError, match="baseline cannot be fitted"):
        rollout.baseline(observations, to_go, live, ridge=0.0)
    solve, seen = np.linalg.solve, []

    def singular_four_times(gram, moment):
        seen.append(gram[0, 0, 0])
        return np.full_like(moment, np.nan) if len(seen) < 5 else solve(gram, moment)

    monkeypatch.setattr(np.linalg, "solve", singular_four_times)
    assert np.isfinite(rollout.baseline(observations, to_go, live)).all()
    np.testing.assert_allclose(seen, 1e-5 * 10.0 ** np.arange(5))


@pytest.mark.parametrize("stride", [0, -1])
def test_a_stride_is_one_or_more(stride):
    """Rejects trajectories in reverse."""
    with pytest.raises(ValueError, match=f"the stride must be 1 or more, not {stride}"):
        met()[0].every(stride)


def test_every_number_of_an_action_has_its_noise():
    """Rejects one draw for both numbers of an action."""
    model = policy.gaussian_mlp((2, 4, 2))
    theta = model.init(np.random.default_rng(0))[None]
    with pytest.raises(ValueError, match=r"draws \(1, 3, 4, 1\) for actions \(1, 3, 2\)"):
        rollout.act(model, PointNav(), theta, np.zeros((1, 2)), np.zeros((1, 3, 4, 1)), 0.9)


def test_rewards_are_those_of_the_observations():
    """Rejects the rewards of one trajectory for all."""
    live = np.ones((1, 3, 4), bool)
    with pytest.raises(ValueError, match="they do not fit"):
        rollout.advantages(np.ones((1, 3, 4, 2)), np.ones((1, 1, 4)), live, 0.9)
