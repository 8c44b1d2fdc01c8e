"""Options and set-up of every experiment in which a policy acts in a world."""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.random import Generator

from tinymaml import losses, models, params
from tinymaml.algorithms.algorithm import RL
from tinymaml.experiments.common import Config, check_parameters, configuration
from tinymaml.fewshot import Problem, each
from tinymaml.losses import Score
from tinymaml.maml import Array
from tinymaml.options import COUNT, DATA, NET, POSITIVE, WIDTHS, WORLD, option, redefault
from tinymaml.rl import policy, rollout, surrogates
from tinymaml.rl.rollout import Experience, World
from tinymaml.rl.surrogates import PolicyLoss, Surrogate


SCORE = 2**31  # the number of a noise that no inner step uses
STARTS = 2**32  # added to the number of a rollout: the stream of its starts


@configuration
class Acting(Config):
    """Options of every experiment with a policy."""

    score: ClassVar[Score] = losses.RETURN
    learning: ClassVar[tuple[str, ...]] = ("return_after", "return_before")
    setting: ClassVar[str] = RL
    offers: ClassVar[tuple[str, ...]] = ("task parameters",)

    surrogate: str = option(
        "lvc",
        "inner loss: naive (biased, the paper's), lvc (low variance) or loaded_dice",
        "the official code is naive; ProMP has lvc",
        choices=tuple(surrogates.SURROGATES),
    )
    tasks: int = redefault(40, "A.2, for locomotion", "goals in a meta-batch")
    alpha: float = redefault(0.1, "A.2")
    trajectories: int = option(
        20, "trajectories per goal and gradient step in training", "A.2", **COUNT
    )
    horizon: int = option(
        100,
        "maximum number of time steps of a trajectory",
        "A.2",
        role=WORLD,
        least=1,
        most=10**5,
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
        "for speed; rllab's subsample_factor is 1",
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


class Draws(NamedTuple):
    """Random parts of T tasks: goals (T, ...), seeds (T,), numbers of trajectories (T,)."""

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


def setup(config: Acting, world: World) -> Problem:
    """Return the problem of acting in a world: its tasks are `PolicyTask`s."""
    widths = (world.observed, *config.hidden, world.actions)
    model = policy.gaussian_mlp(widths, models.ACTIVATIONS[config.activation])
    check_parameters(params.count(model.shapes))
    inner = surrogates.SURROGATES[config.surrogate]

    def draw(split: str, rng: Generator) -> Draws:
        n = config.trajectories if split == "train" else config.test_trajectories
        goal, seed = world.draw(rng), rng.integers(2**63)  # in this order
        return Draws(goal, np.asarray(seed), np.asarray(n, np.int64))

    def act(theta: Array, draws: Draws, number: int) -> Experience:
        shape = int(draws.trajectories[0]), config.horizon, world.actions
        noise = rollout.noise(draws.seeds, number, shape, config.dtype)
        starts = [np.random.default_rng([int(x), STARTS + number]) for x in draws.seeds]
        args = draws.goals, noise, config.discount, starts
        return rollout.act(model, world, theta, *args)

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
        alpha=config.method.step_sizes(model, config),
        options=config,
        sample=each(draw),
        task=task,
        score=lambda theta, draws: act(theta, draws, SCORE).scores,
        test_scale=halved,
    )


def halved(steps: int) -> Array:
    """Return the factors of alpha at test time (steps, 1, 1): 1, then a half (A.2)."""
    return np.array([1.0] + [0.5] * (steps - 1))[:steps, None, None]
