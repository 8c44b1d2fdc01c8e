"""The average of regressors that were each trained on one task: appendix C.1 of the paper.

R nets train independently. With L_i the loss of net i on its own task, it minimises

    L_i(theta_i) + pull * |theta_i - c|^2

where the centre c is theta_i itself (no pull), 0 (l2) or the mean of the nets trained
before. Adaptation to a held-out task starts from the mean of all nets.

The paper trains one net after another. Here nets that do not depend on each other train
together. With the mean as centre they train in waves of 1, 1, 2, 4, 8, ... nets: trained
all at once, the pull to the mean acts as a pull to zero.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from tinymaml import params
from tinymaml.algorithms.algorithm import Algorithm, Tasks
from tinymaml.algorithms.baselines import no_validation, support_gradient
from tinymaml.fewshot import Problem
from tinymaml.maml import Array
from tinymaml.optim import Moments, State, check_dtype, clip, outer_step
from tinymaml.options import MOST, option


FITTED = 0.02  # a net whose MSE is below it fits its task (appendix C.1)


@dataclass(frozen=True)
class Options:
    """Options of independent nets."""

    regressors: int = option(
        500, "number of nets, each of one task", "appendix C.1", least=2, most=10**4
    )
    points: int = option(
        100,
        "training points of each net; its fit is measured on as many other points",
        'appendix C.1: "a large amount"',
        least=1,
        most=MOST,
    )


@dataclass(frozen=True)
class PullOptions(Options):
    """Options of nets that are pulled to a centre."""

    pull: float = option(
        3e-3,
        "strength of the pull on every net",
        "appendix C.1: the strongest at which every net fits its task; 0.01 is too strong",
        least=0,
        most=1e9,
    )


@dataclass(frozen=True)
class WaveOptions(PullOptions):
    """Options of nets that train in waves."""

    wave: int = option(
        1200,
        "iterations per wave; waves train 1, 1, 2, 4, 8, ... nets",
        "500 nets are ten waves; in the paper they train one by one",
        least=1,
        most=10**8,
    )


def training(options: Any, iteration: int) -> tuple[range, int]:
    """Return the nets that train in an iteration, and the iteration that they began in.

    Without the option `wave` these are all nets, and 0. With it they are net 0, then 1,
    then 2 and 3, ...: each wave for options.wave iterations, the last until the run ends.
    """
    nets, length = options.regressors, getattr(options, "wave", None)
    if length is None:
        return range(nets), 0
    wave = min(iteration // length, (nets - 1).bit_length())
    return range(2**wave // 2, min(2**wave, nets)), wave * length


def pulled_to(
    center: Callable[[Array, Array], Array],
) -> Callable[[State, Problem, Tasks], tuple[State, dict]]:
    """Return the iteration of nets that are pulled to a centre.

    center(thetas (n, P) that train, thetas (m, P) of earlier waves) -> c
    """

    def iterate(state: State, problem: Problem, tasks: Tasks) -> tuple[State, dict]:
        options = problem.options
        thetas = state.theta.reshape(options.regressors, -1)
        nets, begun = training(options, state.iteration)
        some = slice(nets.start, nets.stop)
        loss, gradients = tasks.gradients(thetas[some], nets)
        away = thetas[some] - center(thetas[some], thetas[: nets.start])
        pull = getattr(options, "pull", 0.0)
        gradient = (gradients + 2 * pull * away).ravel()
        check_dtype(state.theta, gradient=gradient)
        after = step(state, problem, some, gradient, state.iteration - begun + 1)
        record = {"loss": float((loss + pull * np.sum(away**2)) / len(nets))}
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
    options = problem.options
    whole = np.stack([state.theta, *state.moments])
    size = len(state.theta) // options.regressors
    own = whole[:, some.start * size : some.stop * size]
    gradient = clip(gradient, options.clip)
    args = own[0], gradient, Moments(*own[1:]), number, options, state.iteration
    theta, moments = outer_step(*args)
    own[:] = theta, *moments
    return State(state.iteration + 1, whole[0], Moments(*whole[1:]))


def fitted(w: Array, problem: Problem, tasks: Tasks) -> int:
    """Return how many nets have an MSE below 0.02 on unseen points of their own task."""
    regressors = problem.options.regressors
    episodes = tasks.draw(range(regressors))
    scores = problem.score(w.reshape(regressors, -1), episodes)
    return int(np.sum(scores < FITTED))


def _refuses(options: Any) -> str:
    """Return why the options do not fit, "" when they fit."""
    grid = getattr(options, "grid", False)
    return "--grid: every net trains on --points points of its own" if grid else ""


def _init(rng: Generator, problem: Problem) -> Array:
    return np.concatenate(
        [problem.model.init(rng) for _ in range(problem.options.regressors)]
    )


def _shapes(problem: Problem) -> dict[str, tuple[int, ...]]:
    nets = problem.options.regressors, params.count(problem.model.shapes)
    return {"regressors": nets}


def _remarks(w: Array, problem: Problem, tasks: Tasks) -> list[str]:
    number = f"{fitted(w, problem, tasks)} of {problem.options.regressors} regressors"
    return [f"{number} have an MSE below {FITTED} on their own curve"]


AVERAGED = Algorithm(
    name="averaged",
    label="averaged regressors",
    gradient=support_gradient,
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
    start=lambda w, problem: w.reshape(problem.options.regressors, -1).mean(axis=0),
    iterate=pulled_to(lambda thetas, _: thetas),
    task_options=lambda options: {"shots": options.points, "queries": options.points},
    remarks=_remarks,
    refuses=_refuses,
)
AVERAGED_L2 = AVERAGED._replace(
    name="averaged-l2",
    label="averaged, pulled to zero",
    options=PullOptions,
    iterate=pulled_to(lambda thetas, _: np.zeros_like(thetas)),
)
AVERAGED_MEAN = AVERAGED._replace(
    name="averaged-mean",
    label="averaged, pulled to their mean",
    options=WaveOptions,
    iterate=pulled_to(
        lambda thetas, earlier: earlier.mean(axis=0) if len(earlier) else thetas
    ),
)
