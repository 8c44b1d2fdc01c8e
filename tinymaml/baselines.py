"""The paper's baselines: theta trained without an inner loop, to be fine-tuned later.

Pretrained on all tasks, and the oracle (section 5.1), have one theta for all tasks. The
averaged regressors (appendix C.1, "multi-task baselines") are R nets, each trained on a
task of its own. With L_i the loss of regressor i on that task they minimise

    sum over i of  L_i(theta_i) + pull * |theta_i - c|^2

where c is theta_i itself (no pull), 0 (l2) or the mean of all theta_i; held-out tasks
adapt from that mean. All are trained at once: in the paper one after another, and c was
the mean of those before.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from functools import lru_cache

import numpy as np

from tinymaml import maml
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode, stack, stream
from tinymaml.maml import Task
from tinymaml.replay import recorded
from tinymaml.workers import gather, spans


Array = np.ndarray

FITTED = 0.02  # appendix C.1: the MSE that each regressor is below

# The centre c of thetas (R, P).
CENTERS: dict[str, Callable[[Array], Array]] = {
    "averaged": lambda thetas: thetas,
    "averaged-l2": np.zeros_like,
    "averaged-mean": lambda thetas: thetas.mean(axis=0),
}


# ----- One theta for all tasks -----


def support_gradient(
    theta: Array, task: Task, alpha: float | Array, steps: int
) -> tuple[Array, Array]:
    """Return the support loss at theta itself and its gradient (..., P); no inner step.

    Source: maml.py:142 of the official code, whose pretraining sees support points only.
    """
    del alpha, steps
    return maml.value_and_gradient(task.support(theta), theta)


# ----- One theta for each -----


def own_gradients(config: Config, theta: Array, engine: Executor) -> tuple[float, Array]:
    """Return the objective divided by R, and the objective's gradient (R * P,).

    The pull to the mean has the gradient of a pull to a constant: the mean's own part,
    the sum of theta_i - c, is zero. The same bits from any number of workers.
    """
    thetas = theta.reshape(problem(config).regressors, -1)
    chunks = [(i, thetas[i.start : i.stop]) for i in spans(len(thetas), config.chunk)]
    losses, gradients = zip(
        *gather(engine, chunk_gradients, (config,), chunks), strict=True
    )
    apart = thetas - CENTERS[config.algorithm](thetas)
    objective = sum(losses) + config.pull * np.sum(apart**2)
    gradient = np.concatenate(gradients) + 2 * config.pull * apart
    return objective / len(thetas), gradient.ravel()


@np.errstate(over="ignore", invalid="ignore")  # the loop looks at what comes out
def chunk_gradients(config: Config, chunk: tuple[range, Array]) -> tuple[float, Array]:
    """Return the loss, summed, and the gradients of some regressors' thetas (n, P)."""
    some, thetas = chunk
    arrays = (array[some.start : some.stop] for array in own_tasks(config))
    return gradients_of(config)(thetas, *arrays)


@lru_cache(maxsize=2)
def own_tasks(config: Config) -> Episode:
    """Return the regressors' tasks (R, ...): the first iteration's of the training."""
    family = problem(config)
    streams = [stream(config.seed, "train", 0, i) for i in range(family.regressors)]
    return stack([family.sample("train", rng) for rng in streams])


@lru_cache(maxsize=2)
def gradients_of(config: Config) -> Callable[..., tuple[float, Array]]:
    """Return the function of thetas (n, P) and an episode's arrays that a chunk makes."""
    family = problem(config)

    def gradients(thetas: Array, *arrays: Array) -> tuple[float, Array]:
        return support_gradient(thetas, family.task(Episode(*arrays)), 0.0, 0)

    return recorded(gradients) if config.replay else gradients


def fitted(config: Config, theta: Array) -> int:
    """Return how many regressors are below an MSE of 0.02 on unseen points of their own."""
    family = problem(config)
    scores = family.score(theta.reshape(family.regressors, -1), own_tasks(config))
    return int(np.sum(scores < FITTED))
