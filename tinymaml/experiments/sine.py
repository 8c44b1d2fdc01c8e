"""Sine regression: section 5.1 of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymaml import losses, models
from tinymaml.data import sine
from tinymaml.experiments.common import MOST, Config, option
from tinymaml.fewshot import Problem, as_task


@dataclass(frozen=True)
class Sine(Config):
    """Regress a sine curve of unknown amplitude and phase from a few points."""

    name: ClassVar[str] = "sine"
    score: ClassVar[str] = "MSE"
    shown_steps: ClassVar[tuple[int, ...]] = (0, 1, 2, 5, 10)

    iterations: int = option(
        12000, "outer updates in all", "70,000 in main.py:4", least=0, most=10**8
    )
    inner_steps: int = option(
        2,
        "inner gradient steps in training",
        "the paper has 1, after which further steps diverge on a few tasks in a hundred",
        least=0,
        most=1000,
    )
    tasks: int = option(25, "tasks in a meta-batch", "main.py:4", least=1, most=MOST)
    alpha: float = option(
        0.01, "inner step size", "the paper; main.py:52 has 0.001", least=0, most=1e9
    )
    shots: int = option(
        10, "points to adapt on", "the paper: 5, 10 or 20", least=1, most=MOST
    )
    queries: int = option(
        0,
        "points to be judged on, 0 for as many as shots",
        "main.py: as many as shots",
        least=0,
        most=MOST,
    )
    hidden: tuple[int, ...] = option(
        (40, 40), "widths of the hidden layers", "section 5.1", least=1, most=10**4
    )
    chunk: int = option(
        25, "tasks computed side by side; fixes the last bits", least=1, most=MOST
    )


CONFIG = Sine


def setup(config: Sine) -> Problem:
    """Return the problem: an MLP with relu on curves drawn from the whole range."""
    queries = config.queries or config.shots
    model = models.mlp((1, *config.hidden, 1), models.ACTIVATIONS[config.activation])
    return Problem(
        model=model,
        alpha=config.alpha,
        sample=lambda _, rng: sine.sample(rng, config.shots, queries, config.dtype),
        task=lambda episode: as_task(episode, model.apply, losses.mse),
        score=lambda theta, episode: losses.squared_error(
            model.apply(theta, episode.x_query), episode.y_query
        ),
    )


# What a check of the gradients needs: the curves are drawn, so it is the problem itself.
stand_in = setup
