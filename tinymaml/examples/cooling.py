"""Learn how a cup of tea cools from a few readings: an experiment in a file.

    tinymaml train cooling.py
    tinymaml check cooling.py --steps 3

A task is a cup: room temperature, excess and rate of Newton's law of cooling are unknown.
MAML learns an initial theta from which a few gradient steps on the support readings fit a
new cup. Change the model, the sampler and the options to have your own experiment.
"""

from typing import ClassVar

import autograd.numpy as np  # in losses and models, so that they can be differentiated

from tinymaml import losses, models
from tinymaml.experiments.common import FewShot, configuration
from tinymaml.fewshot import Episode, Problem, as_task, each
from tinymaml.losses import Score
from tinymaml.options import COUNT, TASK, option, redefault


@configuration
class Cooling(FewShot):
    """Learn how a cup of tea cools from a few readings."""

    score: ClassVar[Score] = losses.MSE  # what evaluations report; lower is better
    shown_steps: ClassVar[tuple[int, ...]] = (0, 1, 3, 10)

    # Each option appears on the command line: --readings, --alpha, ...
    readings: int = option(4, "readings of a cup to adapt on", role=TASK, **COUNT)
    alpha: float = redefault(0.05)
    inner_steps: int = redefault(3)
    beta: float = redefault(0.01)


CONFIG = Cooling

# The arrays of theta by name, and the net's output (..., n, 1) for times t (..., n, 1).
ARRAYS = {"room": (1,), "excess": (1,), "rate": (1,)}


def temperature(p, t):
    """Return degrees / 10 at times t in minutes; p: the arrays by name, (..., 1) each."""
    room, excess, rate = (p[name][..., None, :] for name in ARRAYS)
    return room + excess * np.exp(-np.exp(rate) * t / 10)


def setup(config):
    """Return the problem: the model, how to draw a task, its loss and its score."""
    model = models.Model((models.Block("cup", ARRAYS, {}, temperature),))
    model = config.method.build(model, config)  # some algorithms change the net

    def draw(split, rng):  # split: "train", "val" or "test"
        """Return one cup; each task has a random stream of its own."""
        truth = dict(zip(ARRAYS, rng.uniform([[2], [4], [-2]], [[3], [8], [0]]), strict=True))
        support, query = rng.uniform(0, 10, (2, config.readings, 1)).astype(config.dtype)
        true = lambda t: temperature(truth, t).astype(config.dtype)  # noqa: E731
        return Episode(support, true(support), query, true(query))

    def score(theta, episodes):  # one for each task
        return losses.squared_error(model.apply(theta, episodes.x_query), episodes.y_query)

    return Problem(
        model=model,
        alpha=config.method.step_sizes(model, config),
        options=config,
        sample=each(draw),
        task=lambda episodes: as_task(episodes, model.apply, losses.mse),
        score=score,
    )
