"""The average of regressors that were each trained on one task: appendix C.1 of the paper.

R nets train independently. With L_i the loss of net i on its own task, it minimises

    L_i(theta_i) + pull * |theta_i - c|^2

where c is theta_i itself (no pull), 0 (l2) or the mean of the nets trained before. Held-out
tasks are adapted to from the mean of all.

The paper trains one net after another. Here nets that do not depend on each other train
together. With the mean as c they train in waves of 1, 1, 2, 4, 8, ... nets: trained all at
once, the pull to the mean acts as a pull to zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from tinymaml import params
from tinymaml.algorithms.algorithm import Algorithm, Tasks
from tinymaml.algorithms.baselines import no_validation, support_gradient
from tinymaml.fewshot import Problem
from tinymaml.optim import Moments, State, adam, check_dtype, clip
from tinymaml.options import MOST, option


Array = np.ndarray

FITTED = 0.02  # appendix C.1: the MSE that each net is below


# ----- Options -----


@dataclass(frozen=True)
class Options:
    """Options of independent nets."""

    regressors: int = option(
        500, "number of nets, each of one task", "appendix C.1", least=2, most=10**4
    )
    points: int = option(
        100,
        "points that each net is trained on; as many again measure its fit",
        'appendix C.1: "a large amount"',
        least=1,
        most=MOST,
    )


@dataclass(frozen=True)
class PullOptions(Options):
    """Options of nets that are pulled together."""

    pull: float = option(
        3e-3,
        "strength of the pull on every net",
        "appendix C.1: the strongest at which every net still fits its task; 0.01 is too"
        " strong",
        least=0,
        most=1e9,
    )


@dataclass(frozen=True)
class WaveOptions(PullOptions):
    """Options of nets that train in waves."""

    wave: int = option(
        1200,
        "iterations of each wave of 1, 1, 2, 4, 8, ... nets",
        "500 nets are ten waves; in the paper they train one by one",
        least=1,
        most=10**8,
    )


# ----- Which nets train, and what pulls them -----


class Average(NamedTuple):
    """One way to train the nets.

    wave(options, iteration) -> the nets that train, and the iteration that they began in
    center(thetas (n, P) of those, thetas (m, P) of earlier waves) -> c
    """

    wave: Callable[[Any, int], tuple[range, int]]
    center: Callable[[Array, Array], Array]


def all_at_once(options: Any, iteration: int) -> tuple[range, int]:
    """Return all nets; they train from the first iteration on."""
    return range(options.regressors), 0


def doubling(options: Any, iteration: int) -> tuple[range, int]:
    """Return net 0, then 1, then 2 and 3, ...; each for options.wave iterations.

    The last wave trains until the run ends.
    """
    last = (options.regressors - 1).bit_length()
    wave = min(iteration // options.wave, last)
    trained = range(2**wave // 2, min(2**wave, options.regressors))
    return trained, wave * options.wave


FREE = Average(all_at_once, lambda thetas, _: thetas)
TO_ZERO = Average(all_at_once, lambda thetas, _: np.zeros_like(thetas))
TO_MEAN = Average(
    doubling, lambda thetas, earlier: earlier.mean(axis=0) if len(earlier) else thetas
)


# ----- Training -----


def trained_by(average: Average) -> Callable[[State, Problem, Tasks], tuple[State, dict]]:
    """Return the iteration of nets that train in this way."""

    def iterate(state: State, problem: Problem, tasks: Tasks) -> tuple[State, dict]:
        options = problem.options
        thetas = state.theta.reshape(options.regressors, -1)
        wave, begun = average.wave(options, state.iteration)
        some = slice(wave.start, wave.stop)
        loss, gradients = tasks.gradients(thetas[some], wave)
        apart = thetas[some] - average.center(thetas[some], thetas[: wave.start])
        pull = getattr(options, "pull", 0.0)
        objective = loss + pull * np.sum(apart**2)
        gradient = (gradients + 2 * pull * apart).ravel()
        check_dtype(state.theta, gradient=gradient)
        after = step(state, problem, some, gradient, state.iteration - begun + 1)
        record = {"loss": float(objective / len(wave))}
        if after.iteration % options.checkpoint_every == 0:
            record["fitted"] = fitted(after.theta, problem, tasks)
        return after, record

    return iterate


def step(
    state: State, problem: Problem, some: slice, gradient: Array, number: int
) -> State:
    """Return the state after one update of some nets, the `number`-th of their own.

    Adam's moments of a net begin with its wave and end with it.
    """
    size = len(state.theta) // problem.options.regressors
    part = slice(some.start * size, some.stop * size)
    own = Moments(*(moment[part] for moment in state.moments))
    gradient = clip(gradient, problem.options.clip)
    theta, own = adam(state.theta[part], gradient, own, number, problem.options.beta)
    moments = (_put(x, part, y) for x, y in zip(state.moments, own, strict=True))
    return State(state.iteration + 1, _put(state.theta, part, theta), Moments(*moments))


def _put(vector: Array, some: slice, part: Array) -> Array:
    vector = vector.copy()
    vector[some] = part
    return vector


def fitted(w: Array, problem: Problem, tasks: Tasks) -> int:
    """Return how many nets have an MSE below 0.02 on unseen points of their own task."""
    regressors = problem.options.regressors
    episodes = tasks.draw(range(regressors))
    scores = problem.score(w.reshape(regressors, -1), episodes)
    return int(np.sum(scores < FITTED))


# ----- The records -----


def _init(rng: Generator, problem: Problem) -> Array:
    nets = [problem.model.init(rng) for _ in range(problem.options.regressors)]
    return np.concatenate(nets)


def _shapes(problem: Problem) -> dict[str, tuple[int, ...]]:
    size = params.count(problem.model.shapes)
    return {"regressors": (problem.options.regressors, size)}


def _mean(w: Array, problem: Problem) -> Array:
    return w.reshape(problem.options.regressors, -1).mean(axis=0)


def _remarks(w: Array, problem: Problem, tasks: Tasks) -> list[str]:
    number, regressors = fitted(w, problem, tasks), problem.options.regressors
    return [
        f"{number} of {regressors} regressors have an MSE below {FITTED} on their own curve"
    ]


AVERAGED = Algorithm(
    name="averaged",
    label="averaged regressors",
    gradient=support_gradient,
    objective=None,
    learns="one theta for each of 500 tasks",
    adapts="their mean",
    cost="18, on sine with 500 nets",
    source="Finn et al. 2017, appendix C.1",
    options=Options,
    defaults=no_validation,
    ignores=("inner_steps", "tasks"),
    inner_loop=False,
    needs=("regression",),
    shapes=_shapes,
    init=_init,
    start=_mean,
    iterate=trained_by(FREE),
    task_options=lambda options: {"shots": options.points, "queries": options.points},
    remarks=_remarks,
)
AVERAGED_L2 = AVERAGED._replace(
    name="averaged-l2",
    label="averaged, pulled to zero",
    options=PullOptions,
    iterate=trained_by(TO_ZERO),
)
AVERAGED_MEAN = AVERAGED._replace(
    name="averaged-mean",
    label="averaged, pulled to their mean",
    options=WaveOptions,
    iterate=trained_by(TO_MEAN),
)
