"""2D navigation: section 5.3 of the paper."""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.random import Generator

from tinymaml import losses, models
from tinymaml.algorithms.algorithm import RL
from tinymaml.experiments.common import Config, configuration
from tinymaml.fewshot import Problem, each
from tinymaml.losses import Score
from tinymaml.maml import Array
from tinymaml.options import COUNT, DATA, NET, POSITIVE, WIDTHS, option, redefault
from tinymaml.rl import pointnav, policy, rollout, surrogates
from tinymaml.rl.rollout import Experience
from tinymaml.rl.surrogates import PolicyLoss, Surrogate


SCORE = 2**31  # the number of a noise that no inner step uses


@configuration
class PointNav(Config):
    """Navigate in the plane to a goal that only the rewards reveal."""

    name: ClassVar[str] = "pointnav"
    title: ClassVar[str] = "2D navigation"
    score: ClassVar[Score] = losses.RETURN
    picture: ClassVar[str] = "walks"
    learning: ClassVar[tuple[str, ...]] = ("return_after", "return_before")
    setting: ClassVar[str] = RL
    offers: ClassVar[tuple[str, ...]] = ("task parameters",)

    iterations: int = redefault(500, "A.2")
    tasks: int = redefault(
        40,
        "maml_trpo_point.py:20; A.2 has 20, where one seed of five diverged",
        "goals in a meta-batch",
    )
    surrogate: str = option(
        "lvc",
        "inner loss: naive (biased, the paper's), lvc (low variance) or loaded_dice",
        "the official code is naive; ProMP has lvc",
        choices=tuple(surrogates.SURROGATES),
    )
    reward: str = option(
        "negative_distance",
        "reward at the new position",
        "point_env_randgoal.py:39-42; the paper's A.2 squares the distance",
        choices=tuple(pointnav.REWARDS),
    )
    alpha: float = redefault(0.1, "A.2")
    trajectories: int = option(
        20, "trajectories per goal and gradient step in training", "A.2", **COUNT
    )
    horizon: int = option(
        100, "maximum number of time steps of a trajectory", "A.2", least=1, most=10**5
    )
    discount: float = option(
        0.99, "discount of rewards per time step", "maml_trpo_point.py", least=0, most=1
    )
    hidden: tuple[int, ...] = option(
        (100, 100),
        "widths of the policy's hidden layers",
        "section 5.3",
        role=NET,
        **WIDTHS,
    )
    outer: str = option(
        "trpo", "outer optimiser", "section 5.3", choices=("trpo", "adam", "sgd")
    )
    max_kl: float = option(
        0.01,
        "TRPO's limit of the mean KL divergence between adapted policies",
        "maml_trpo_point.py",
        **POSITIVE,
    )
    fisher_stride: int = option(
        10,
        "use every N-th time step in TRPO's metric; 1: all",
        "rllab's subsample_factor",
        least=1,
        most=10**5,
    )
    chunk: int = redefault(10)
    checkpoint_every: int = redefault(10)
    validation_tasks: int = redefault(40)
    test_tasks: int = redefault(40, "test_maml_point.py", "test goals")
    test_steps: int = redefault(4, "test_maml_point.py")
    test_trajectories: int = option(
        40,
        "trajectories per goal and gradient step at test time",
        "test_maml_point.py: 4000 time steps",
        role=DATA,
        **COUNT,
    )

    @property
    def anchors(self) -> dict[str, float]:
        """Returns that need no learning, in the world of the official code."""
        official = self.reward == "negative_distance" and self.horizon == 100
        return {"standing still": -38.26, "clairvoyant": -0.51} if official else {}


CONFIG = PointNav


class Draws(NamedTuple):
    """Random parts of T tasks: goals (T, 2), seeds (T,), numbers of trajectories (T,)."""

    goals: Array
    seeds: Array
    trajectories: Array


class PolicyTask(NamedTuple):
    """A `maml.Task` whose makers act in the world with their theta.

    path: the experience of each theta, in the order of the calls; empty at first
    """

    support: Callable[[Array], PolicyLoss]
    query: Callable[[Array], PolicyLoss]
    path: list[Experience]


def setup(config: PointNav) -> Problem:
    """Return the problem: its tasks are `PolicyTask`s."""
    method = config.method
    world = pointnav.PointNav(config.reward, method.sees_task)
    widths = (world.observed, *config.hidden, pointnav.ACTIONS)
    model = policy.gaussian_mlp(widths, models.ACTIVATIONS[config.activation])
    inner = surrogates.SURROGATES[config.surrogate]

    def draw(split: str, rng: Generator) -> Draws:
        n = config.trajectories if split == "train" else config.test_trajectories
        return Draws(world.draw(rng), rng.integers(2**63), np.int64(n))

    def act(theta: Array, draws: Draws, step: int) -> Experience:
        shape = int(draws.trajectories[0]), config.horizon, pointnav.ACTIONS
        noise = rollout.noise(draws.seeds, step, shape, config.dtype)
        return rollout.act(model, world, theta, draws.goals, noise, config.discount)

    def task(draws: Draws) -> PolicyTask:
        path: list[Experience] = []

        def maker(surrogate: Surrogate) -> Callable[[Array], PolicyLoss]:
            def met(theta: Array) -> PolicyLoss:
                path.append(act(theta, draws, len(path)))
                return rollout.surrogate_loss(model, surrogate, path[-1])

            return met

        # The likelihood ratio is every algorithm's outer loss (maml_npo.py:120-121).
        return PolicyTask(maker(inner), maker(surrogates.lvc), path)

    return Problem(
        model=model,
        alpha=method.step_sizes(model, config),
        options=config,
        sample=each(draw),
        task=task,
        score=lambda theta, draws: act(theta, draws, SCORE).returns,
        test_scale=halved,
    )


def halved(steps: int) -> Array:
    """Return the factors of alpha at test time (steps, 1, 1): 1, then a half (A.2)."""
    return np.array([1.0] + [0.5] * (steps - 1))[:steps, None, None]
