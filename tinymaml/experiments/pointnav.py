"""2D navigation: section 5.3 of the paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.random import Generator

from tinymaml import models
from tinymaml.errors import UsageError
from tinymaml.experiments.common import INNER_LOOP, MOST, SHARED, Config, option
from tinymaml.fewshot import Problem, each
from tinymaml.maml import Task
from tinymaml.rl import pointnav, policy, rollout, surrogates
from tinymaml.rl.rollout import Experience
from tinymaml.rl.surrogates import PolicyLoss, Surrogate


Array = np.ndarray

ADAPTED = (*INNER_LOOP, "e-maml")
SCORE = 2**31  # the number of the noise that no inner step uses


@dataclass(frozen=True)
class PointNav(Config):
    """Walk to a goal in the plane that only the rewards tell."""

    name: ClassVar[str] = "pointnav"
    score: ClassVar[str] = "return"
    setting: ClassVar[str] = "rl"
    used_by: ClassVar[dict[str, tuple[str, ...]]] = {
        "inner_steps": ADAPTED,
        **dict.fromkeys(("iterations", "tasks", "outer", "beta"), (*ADAPTED, *SHARED)),
    }

    iterations: int = option(500, "outer updates in all", "A.2", least=0, most=10**8)
    tasks: int = option(
        40,
        "goals in a meta-batch",
        "maml_trpo_point.py:20; A.2 has 20, with which one seed of five went astray",
        least=1,
        most=MOST,
    )
    algorithm: str = option(
        "maml",
        "exact, first-order, exact with less memory, with E-MAML's score term (noisy); or a"
        " baseline, trained without inner step: pretrained on all tasks, shown the goal,"
        " random initial values",
        "sections 5.2 and 5.3",
        choices=(*ADAPTED, *SHARED, "random"),
    )
    surrogate: str = option(
        "lvc",
        "inner loss: naive (biased, the paper's), lvc (low variance), loaded_dice",
        "the official code is naive; ProMP has lvc",
        choices=tuple(surrogates.SURROGATES),
    )
    reward: str = option(
        "negative_distance",
        "at the new position",
        "point_env_randgoal.py:39-42; the paper's A.2 squares the distance",
        choices=tuple(pointnav.REWARDS),
    )
    alpha: float = option(0.1, "inner step size", "A.2", least=0, most=1e9)
    trajectories: int = option(
        20, "trajectories of a task and step in training", "A.2", least=1, most=MOST
    )
    horizon: int = option(
        100, "time steps of a trajectory at most", "A.2", least=1, most=10**5
    )
    discount: float = option(
        0.99, "of rewards, per time step", "maml_trpo_point.py", least=0, most=1
    )
    hidden: tuple[int, ...] = option(
        (100, 100), "widths of the hidden layers", "section 5.3", least=1, most=10**4
    )
    outer: str = option("trpo", "outer update", "section 5.3", choices=("trpo", "adam"))
    max_kl: float = option(
        0.01,
        "limit of the mean KL between adapted policies, of trpo",
        "maml_trpo_point.py",
        above=0,
        most=1e9,
    )
    fisher_stride: int = option(
        10,
        "every so-manieth time step enters trpo's metric, 1 for all",
        "rllab's subsample_factor",
        least=1,
        most=10**5,
    )
    chunk: int = option(
        10, "tasks computed side by side; fixes the last bits", least=1, most=MOST
    )
    checkpoint_every: int = option(
        10, "iterations between checkpoints", least=1, most=10**8
    )
    validation_tasks: int = option(40, "tasks of a validation", least=2, most=MOST)
    test_tasks: int = option(
        40, "held-out goals at the end", "test_maml_point.py", least=2, most=MOST
    )
    test_steps: int = option(
        4, "gradient steps at the end", "test_maml_point.py", least=0, most=1000
    )
    test_trajectories: int = option(
        40,
        "trajectories of a task and step at the end",
        "test_maml_point.py: 4000 time steps",
        least=1,
        most=MOST,
    )

    @property
    def anchors(self) -> dict[str, float]:
        """Returns that need no learning, in the world as the official code has it."""
        official = self.reward == "negative_distance" and self.horizon == 100
        return {"standing still": -38.26, "clairvoyant": -0.51} if official else {}


CONFIG = PointNav


class Draws(NamedTuple):
    """What chance decides of tasks: goals (T, 2), and (T,) seeds and trajectories each."""

    goals: Array
    seeds: Array
    trajectories: Array


def setup(config: PointNav) -> Problem:
    """Return the problem: its tasks act in the world with the theta that they get.

    task(draws, path) appends what each theta met to the list `path`. Raises UsageError
    when the surrogate is not the algorithm's.
    """
    if config.algorithm == "e-maml" and config.surrogate != "naive":
        raise UsageError("--algorithm e-maml is right with --surrogate naive only")
    world = pointnav.PointNav(config.reward, config.algorithm == "oracle")
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

    def task(draws: Draws, path: list[Experience] | None = None) -> Task:
        path = [] if path is None else path

        def maker(surrogate: Surrogate) -> Callable[[Array], PolicyLoss]:
            def met(theta: Array) -> PolicyLoss:
                path.append(act(theta, draws, len(path)))
                return rollout.surrogate_loss(model, surrogate, path[-1])

            return met

        # The ratio of likelihoods is the outer loss of all (maml_npo.py:120-121).
        return Task(maker(inner), maker(surrogates.lvc))

    return Problem(
        model=model,
        alpha=config.alpha,
        sample=each(draw),
        task=task,
        score=lambda theta, draws: act(theta, draws, SCORE).returns,
        test_alpha=partial(halved, config.alpha),
    )


def halved(alpha: float, steps: int) -> Array:
    """Return the step sizes when tested (steps, 1, 1): alpha, then half of it (A.2)."""
    return np.array([alpha] + [alpha / 2] * (steps - 1))[:steps, None, None]
