"""The paper's baselines: theta trained without an inner loop, to be fine-tuned later.

Pretrained on all tasks, and the oracle (section 5.1), have one theta for all tasks. The
averaged regressors (appendix C.1, "multi-task baselines") are R nets, each trained on a
task of its own: with L_i the loss of regressor i on that task it minimises

    L_i(theta_i) + pull * |theta_i - c|^2

where c is theta_i itself (no pull), 0 (l2) or the mean of the regressors trained before.
Held-out tasks adapt from the mean of all. The paper trains one after another. Here all
are trained at once where they do not depend on each other; where they do, in waves that
double what there is: 1, 1, 2, 4, 8, ... (All at once, each pulled to the mean of all,
they settle in basins of their own, and the pull is as one to zero.)
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tinymaml import maml
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode, drawn
from tinymaml.maml import Task
from tinymaml.optim import check_dtype
from tinymaml.speed.replay import recorded
from tinymaml.speed.workers import gather, spans


Array = np.ndarray

FITTED = 0.02  # appendix C.1: the MSE that each regressor is below


class Average(NamedTuple):
    """How regressors are trained that are averaged.

    wave(config, iteration) -> those that an iteration trains, and since which iteration
    center(thetas (n, P) of those, earlier (m, P)) -> c
    """

    wave: Callable[[Config, int], tuple[range, int]]
    center: Callable[[Array, Array], Array]


def all_at_once(config: Config, iteration: int) -> tuple[range, int]:
    """Return all regressors, in every iteration since the first."""
    return range(config.regressors), 0


def doubling(config: Config, iteration: int) -> tuple[range, int]:
    """Return regressor 0, then 1, then 2 and 3, ...; each for config.wave iterations.

    The last wave goes on for as long as the run does.
    """
    last = (config.regressors - 1).bit_length()
    wave = min(iteration // config.wave, last)
    trained = range(2**wave // 2, min(2**wave, config.regressors))
    return trained, wave * config.wave


AVERAGES = {
    "averaged": Average(all_at_once, lambda thetas, _: thetas),
    "averaged-l2": Average(all_at_once, lambda thetas, _: np.zeros_like(thetas)),
    "averaged-mean": Average(
        doubling, lambda thetas, earlier: earlier.mean(axis=0) if len(earlier) else thetas
    ),
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


@np.errstate(over="ignore", invalid="ignore")  # the loop looks at what comes out
def own_gradients(
    config: Config, theta: Array, iteration: int, engine: Executor
) -> tuple[float, Array]:
    """Return the objective, averaged over a wave, and its gradients (R * P,).

    theta: of all regressors (R * P,)
    Each has its own objective's gradient; one that is not of the wave has zero. The same
    bits from any number of workers.
    """
    average = AVERAGES[config.algorithm]
    thetas = theta.reshape(config.regressors, -1)
    wave, _ = average.wave(config, iteration)
    some = slice(wave.start, wave.stop)
    parts = [wave[i.start : i.stop] for i in spans(len(wave), config.chunk)]
    chunks = [(part, thetas[part.start : part.stop]) for part in parts]
    sums = gather(engine, chunk_gradients, (config,), chunks)
    losses, gradients = zip(*sums, strict=True)
    apart = thetas[some] - average.center(thetas[some], thetas[: wave.start])
    objective = sum(losses) + config.pull * np.sum(apart**2)
    gradient = np.zeros_like(thetas)
    own = np.concatenate(gradients) + 2 * config.pull * apart
    check_dtype(theta, gradient=own)  # the next line would convert it
    gradient[some] = own
    return objective / len(wave), gradient.ravel()


def moved(config: Config, iteration: int) -> tuple[slice, int]:
    """Return which of theta (R * P,) an iteration moves, and which of their updates it is.

    A regressor's Adam begins with its wave and ends with it.
    """
    wave, begun = AVERAGES[config.algorithm].wave(config, iteration)
    size = problem(config).size // config.regressors
    return slice(wave.start * size, wave.stop * size), iteration - begun + 1


@np.errstate(over="ignore", invalid="ignore")
def chunk_gradients(config: Config, chunk: tuple[range, Array]) -> tuple[float, Array]:
    """Return the loss, summed, and the gradients of some regressors' thetas (n, P)."""
    part, thetas = chunk
    arrays = (array[part.start : part.stop] for array in own_tasks(config))
    return gradients_of(config)(thetas, *arrays)


@lru_cache(maxsize=2)
def own_tasks(config: Config) -> Episode:
    """Return the regressors' tasks (R, ...): the first iteration's, of config.points."""
    points = {"shots": config.points, "queries": config.points}
    family = problem(config.with_changes(points))
    return drawn(family, config.seed, "train", 0, range(family.regressors))


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
