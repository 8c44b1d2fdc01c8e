"""Trajectories of a policy, and the inputs of its surrogate losses.

Shapes: T tasks, N trajectories of each, H time steps; o and d numbers in an observation and
an action. The steps after the end of a trajectory have weight 0 and no effect.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.random import Generator

from tinymaml.errors import WorldError
from tinymaml.models import Array, Model
from tinymaml.rl import policy
from tinymaml.rl.surrogates import Batch, PolicyLoss, Surrogate


RIDGE, TRIES, TIME_UNIT, CLIP = 1e-5, 5, 100, 10  # linear_feature_baseline.py:19-43
EPSILON = 1e-8  # rllab/algos/util.py:7-8


class World(Protocol):
    """A world to act in: T tasks, N trajectories of each, side by side.

    A state is whatever `start` returns. `step` may change it in place: a rollout is over
    before the next one starts.
    """

    @property
    def observed(self) -> int:
        """The number of numbers in an observation."""

    @property
    def actions(self) -> int:
        """The number of numbers in an action."""

    def draw(self, rng: Generator) -> Array:
        """Return the goal of one task."""

    def start(self, goals: Array, trajectories: int, rngs: Sequence[Generator]) -> Any:
        """Return the states of the first time step; rngs: one for each task."""

    def observe(self, states: Any, goals: Array) -> Array:
        """Return what the policy observes (T, N, observed)."""

    def step(
        self, states: Any, goals: Array, actions: Array, alive: Array
    ) -> tuple[Any, Array, Array]:
        """Return the new states, rewards (T, N) and whether each is done (T, N).

        alive: (T, N); the results of the others have no effect
        A reward or an action that is not finite ends the trajectory before this time step.
        """


class Experience(NamedTuple):
    """The trajectories that the policy at theta collected."""

    theta: Array  # (T, P), or (1, P) for one theta of all tasks
    log_std: Array  # (T, 1, d)
    lost: Array  # (T,): how many ended at an action or reward that was not finite
    mean: Array  # (T, N, H, d)
    observations: Array  # (T, N, H, o)
    actions: Array  # (T, N, H, d), as the policy drew them; the world may clip them
    logp_old: Array  # (T, N, H); this and the following are the arrays of a Batch
    advantages: Array
    weights: Array
    rewards: Array

    @property
    def batch(self) -> Batch:
        """The arrays that a surrogate needs."""
        return Batch(*self[6:])

    @property
    def returns(self) -> Array:
        """The mean undiscounted return of each task (T,), also of lost trajectories."""
        return self.rewards.sum(axis=-1).mean(axis=-1)

    @property
    def scores(self) -> Array:
        """The returns (T,), nan for a task that has lost a trajectory.

        The return until then is no score: it may even be larger than of the whole.
        """
        return np.where(self.lost, np.nan, self.returns)

    def every(self, stride: int) -> "Experience":
        """Return every `stride`-th time step; the weights of a task sum to 1.

        Raises ValueError for a stride below 1.
        """
        if stride < 1:
            raise ValueError(f"the stride must be 1 or more, not {stride}")
        first = min(stride, self.weights.shape[2]) // 2
        thin = [x[:, :, first::stride] for x in self[3:]]
        weights = thin[-2].sum(axis=(1, 2), keepdims=True)
        thin[-2] = thin[-2] / np.where(weights, weights, 1)
        return Experience(*self[:3], *thin)


def flat(x: Array) -> Array:
    """Return (T, N, H, ...) as (T, N H, ...): large matrices for the net."""
    return x.reshape(len(x), -1, *x.shape[3:])


def gaussian(model: Model, met: Experience, theta: Array) -> policy.Gaussian:
    """Return the policy at theta (T, P) in the states of `met`."""
    return model.apply(theta, flat(met.observations))


def surrogate_loss(model: Model, surrogate: Surrogate, met: Experience) -> PolicyLoss:
    """Return the surrogate loss of trajectories, a function of theta (T, P)."""

    def log_prob(theta: Array) -> Array:
        logp = policy.log_prob(gaussian(model, met, theta), flat(met.actions))
        return logp.reshape(met.weights.shape)

    return PolicyLoss(surrogate, log_prob, met.batch)


def noise(seeds: Array, step: int, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return standard normal draws (T, *shape) from each task's seed and the step."""
    rngs = [np.random.default_rng([int(seed), step]) for seed in seeds]
    return np.stack([rng.standard_normal(shape, dtype) for rng in rngs])


def act(
    model: Model,
    world: World,
    theta: Array,
    goals: Array,
    draws: Array,
    discount: float,
    rngs: Sequence[Generator] = (),
) -> Experience:
    """Roll out the policy at theta (T, P) in each task, without derivatives.

    model: a policy, as `policy.gaussian_mlp` makes it
    goals: (T, ...), as the world drew them; discount: per time step, in [0, 1]
    draws: (T, N, H, d), standard normal: the noise of the actions
    rngs: a generator for each task, from which the world draws the noise of the starts
    A trajectory ends before a time step whose action or reward is not finite. The weights
    and the advantages of a task without a time step are nan.
    Raises ValueError for draws without a trajectory or a time step, of other actions than
    the policy's or of another number of tasks than theta or the goals, and for a discount
    out of its range.
    """
    tasks, trajectories, horizon, _ = draws.shape
    fits = {len(theta), len(goals)} == {tasks} and draws.size > 0
    if not (fits and 0 <= discount <= 1):
        given = f"theta {theta.shape}, goals {goals.shape}, draws {draws.shape}"
        raise ValueError(f"{given}, discount {discount}: they do not fit, or are empty")
    goals = goals.astype(theta.dtype)
    states = world.start(goals, trajectories, rngs)
    alive = np.ones(draws.shape[:2], bool)
    lost = np.zeros_like(alive)
    steps = []
    for t in range(horizon):
        observed = np.where(alive[..., None], world.observe(states, goals), 0)
        observed = observed.astype(theta.dtype, copy=False)
        mean, log_std = model.apply(theta, observed)
        if mean.shape != draws[:, :, t].shape:
            raise ValueError(f"draws {draws.shape} for actions {mean.shape}")
        actions = mean + np.exp(log_std) * draws[:, :, t]
        states, reward, done = world.step(states, goals, actions, alive)
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite
            reward = reward.astype(theta.dtype, copy=False)
        lost |= alive & ~(np.isfinite(reward) & np.isfinite(actions).all(axis=-1))
        alive = alive & ~lost
        observed, mean = (np.where(lost[..., None], 0, x) for x in (observed, mean))
        steps.append((observed, mean, np.where(alive, reward, 0), alive))
        alive = alive & ~done
    columns = zip(*steps, strict=True)
    observations, mean, rewards, live = (np.stack(column, axis=2) for column in columns)
    count = live.sum(axis=(1, 2), keepdims=True, dtype=theta.dtype)
    count[count == 0] = np.nan
    actions = mean + np.exp(log_std)[:, None] * draws
    return Experience(
        theta,
        log_std,
        lost.sum(axis=1).astype(theta.dtype),
        mean,
        observations,
        actions,
        logp_old=policy.log_prob((mean, log_std[:, None]), actions),
        advantages=advantages(observations, rewards, live, discount).astype(theta.dtype),
        weights=live / count,
        rewards=rewards,
    )


def advantages(observations: Array, rewards: Array, live: Array, discount: float) -> Array:
    """Return A (T, N, H) float64: returns to go less a baseline, centred and scaled.

    The baseline, the mean and the deviation are fitted to the live steps of each task
    (batch_maml_polopt.py:39-43, 174-176). GAE's lambda is 1. There is no reward after the
    horizon. Rewards after the end of a trajectory have no effect, and A is 0 there. A is
    nan for a task without a live step. Raises ValueError when the shapes do not fit.
    """
    if not observations.shape[:-1] == rewards.shape == live.shape:
        given = f"{observations.shape}, rewards {rewards.shape}, live {live.shape}"
        raise ValueError(f"observations {given}: they do not fit")
    to_go = returns_to_go(np.where(live, rewards, 0).astype(float), discount)
    a = np.where(live, to_go - baseline(observations, to_go, live), 0)
    count = live.sum(axis=(1, 2), keepdims=True, dtype=float)
    count[count == 0] = np.nan
    a = np.where(live, a - a.sum(axis=(1, 2), keepdims=True) / count, 0)
    deviation = np.sqrt((a**2).sum(axis=(1, 2), keepdims=True) / count)
    return a / (deviation + EPSILON)


def returns_to_go(rewards: Array, discount: float) -> Array:
    """Return sum_{t' >= t} discount^(t' - t) r_t' of rewards (..., H)."""
    t = np.arange(rewards.shape[-1])
    ahead = t[:, None] - t
    return rewards @ np.where(ahead >= 0, discount ** np.maximum(ahead, 0.0), 0)


def baseline(observations: Array, to_go: Array, live: Array, ridge: float = RIDGE) -> Array:
    """Return predicted returns to go (T, N, H), fitted to the live steps of each task.

    Ridge regression on the observation, its square, the time, its square and cube, and 1
    (rllab/baselines/linear_feature_baseline.py:19-43). After a singular fit the ridge is
    ten times larger. Raises WorldError after the fifth.
    """
    x = flat(_features(observations.astype(float)))
    live_x = np.where(flat(live)[..., None], x, 0)
    y = flat(np.where(live, to_go, 0))[..., None]
    gram, moment = live_x.swapaxes(1, 2) @ live_x, live_x.swapaxes(1, 2) @ y
    for attempt in range(TRIES):
        penalty = ridge * 10**attempt * np.eye(x.shape[-1])
        try:
            fit = np.linalg.solve(gram + penalty, moment)
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(fit).all():
            return (x @ fit).reshape(live.shape)
    raise WorldError("the baseline cannot be fitted: the observations are degenerate")


def _features(observations: Array) -> Array:
    o = np.clip(observations, -CLIP, CLIP)
    t = np.arange(o.shape[2]) / TIME_UNIT
    time = np.stack([t, t**2, t**3, np.ones_like(t)], axis=-1)
    return np.concatenate([o, o**2, np.broadcast_to(time, (*o.shape[:3], 4))], axis=-1)
