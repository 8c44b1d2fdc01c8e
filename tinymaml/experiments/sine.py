"""Sine regression: section 5.1 of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinymaml import losses, models, params
from tinymaml.data import sine
from tinymaml.experiments.common import (
    AVERAGED,
    INNER_LOOP,
    MOST,
    SHARED,
    USED_BY,
    Config,
    option,
)
from tinymaml.fewshot import Episode, Problem, Streams, as_task


@dataclass(frozen=True)
class Sine(Config):
    """Regress a sine curve of unknown amplitude and phase from a few points."""

    name: ClassVar[str] = "sine"
    used_by: ClassVar[dict[str, tuple[str, ...]]] = USED_BY
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
    algorithm: str = option(
        "maml",
        "exact meta-gradient, first-order, exact with less memory, or a baseline:"
        " pretrained on all tasks, told amplitude and phase, random initial values, the"
        " average of regressors trained apart: freely, pulled to zero or to the mean of"
        " those before",
        "sections 5.1 and 5.2 of the paper; appendix C.1 for the averages",
        choices=(*INNER_LOOP, *SHARED, "random", *AVERAGED),
    )
    context: int = option(
        0,
        "free inputs z, which are then all that gradient steps move; 0 for none",
        "appendix C.2, which does not tell how many",
        least=0,
        most=10**4,
    )
    regressors: int = option(
        500, "nets to average, each of one task", "appendix C.1", least=2, most=10**4
    )
    points: int = option(
        100,
        "points that each of them is trained on, and as many it is judged on",
        'appendix C.1: "a large amount"',
        least=1,
        most=MOST,
    )
    pull: float = option(
        3e-3,
        "strength of the pull to zero or to the mean of those before",
        "appendix C.1: as strong as does not deter them; 0.01 does",
        least=0,
        most=1e9,
    )
    wave: int = option(
        1200,
        "iterations of each of averaged-mean's waves, of 1, 1, 2, 4, 8, ... regressors",
        "500 regressors are ten waves; in the paper they came one by one",
        least=1,
        most=10**8,
    )
    chunk: int = option(
        25, "tasks computed side by side; fixes the last bits", least=1, most=MOST
    )


CONFIG = Sine


def setup(config: Sine) -> Problem:
    """Return the problem: an MLP with relu on curves drawn from the whole range."""
    queries = config.queries or config.shots
    oracle = config.algorithm == "oracle"
    inputs = 3 if oracle else 1 + config.context
    activation = models.ACTIVATIONS[config.activation]
    model, alpha = models.mlp((inputs, *config.hidden, 1), activation), config.alpha
    if config.context:
        model = models.with_context(model, (config.context,))
        alpha = alpha * params.mask(model.shapes, ["z"])
    draw = sine.sample_told if oracle else sine.sample

    def sample(split: str, streams: Streams, tasks: range) -> Episode:
        return draw(streams, tasks, config.shots, queries, config.dtype)

    return Problem(
        model=model,
        alpha=alpha,
        sample=sample,
        task=lambda episode: as_task(episode, model.apply, losses.mse),
        score=lambda theta, episode: losses.squared_error(
            model.apply(theta, episode.x_query), episode.y_query
        ),
        regressors=config.regressors if config.algorithm in AVERAGED else 1,
    )


# What a check of the gradients needs: the curves are drawn, so it is the problem itself.
stand_in = setup
