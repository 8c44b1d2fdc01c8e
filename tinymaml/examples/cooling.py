"""Learn how a cup of tea cools: an experiment in a file. Train it, then make it yours.

`tinymaml train FILE.py` trains it; evaluate, check, plot and list take it as any other.
"""

from typing import ClassVar

import autograd.numpy as np  # so that losses and models can be differentiated

from tinymaml import losses, models
from tinymaml.experiments.common import FewShot, configuration
from tinymaml.fewshot import Episode, Problem, as_task, each
from tinymaml.losses import Score
from tinymaml.options import COUNT, TASK, option, redefault


@configuration
class Cooling(FewShot):
    """Learn how a cup of tea cools from a few readings."""

    score: ClassVar[Score] = losses.MSE  # what evaluations report
    # Every field is an option on the command line: --readings, --alpha, ...
    readings: int = option(4, "readings of a cup to adapt on", role=TASK, **COUNT)
    alpha: float = redefault(0.05)
    inner_steps: int = redefault(3)
    beta: float = redefault(0.01)


CONFIG = Cooling
ARRAYS = {"room": (1,), "excess": (1,), "rate": (1,)}  # what theta consists of


def temperature(p, t):
    """Return degrees / 10 at times t (..., n, 1); p: the arrays by name, (..., 1) each."""
    room, excess, rate = (p[name][..., None, :] for name in ARRAYS)
    return room + excess * np.exp(-np.exp(rate) * t)  # Newton's law of cooling


def setup(config):
    """Return the problem: the model, the tasks, their losses and their scores."""
    # Arrays begin at 0 unless {} names a draw: {"room": models.uniform(1)}. For a net,
    # models.mlp((1, 40, 40, 1), models.ACTIVATIONS["relu"], draw=None) draws its weights.
    model = models.Model((models.Block("cup", ARRAYS, {}, temperature),))

    def draw(split, rng):  # one task, with a random stream of its own
        cup = dict(zip(ARRAYS, rng.uniform([2, 4, -2], [3, 8, 0])[:, None], strict=True))
        support, query = rng.uniform(0, 9, (2, config.readings, 1))
        found = support, temperature(cup, support), query, temperature(cup, query)
        return Episode(*(array.astype(config.dtype) for array in found))

    return Problem(
        model=model,
        alpha=config.method.step_sizes(model, config),
        options=config,
        sample=each(draw),  # of many tasks: every array gains a leading axis
        task=lambda e: as_task(e, model.apply, losses.mse),  # a sum over tasks
        score=lambda theta, e: losses.squared_error(
            model.apply(theta, e.x_query), e.y_query
        ),
    )
