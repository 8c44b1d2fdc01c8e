"""One iteration on few-shot tasks: a meta-batch's mean gradient, then an outer step."""

from collections.abc import Callable, Hashable
from functools import lru_cache

import numpy as np

from tinymaml import params
from tinymaml.algorithms.algorithm import Tasks
from tinymaml.errors import WorldError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode, Problem, drawn
from tinymaml.maml import Array
from tinymaml.optim import State, check_dtype, clip, outer_step
from tinymaml.speed.replay import recorded
from tinymaml.speed.sums import gather_sums
from tinymaml.speed.workers import Engine, gather, spans


def iterate(config: Config, state: State, engine: Engine) -> tuple[State, dict]:
    """Return the state after the next iteration, and its record."""
    if own := config.method.iterate:
        with np.errstate(over="ignore", invalid="ignore"):  # the loop checks the result
            return own(state, problem(config), own_tasks(config, engine))
    loss, gradient, *figures = average_gradient(config, state, engine)
    pairs = zip(config.method.figures, map(float, figures), strict=True)
    return update(config, state, gradient), {"loss": float(loss), **dict(pairs)}


@np.errstate(over="ignore", invalid="ignore")
def update(config: Config, state: State, gradient: Array) -> State:
    """Return the state after one more outer step with the mean gradient (M,).

    The clip leaves learned step sizes and the like alone, as in the code of MAML++
    (few_shot_learning_system.py:332-335).
    """
    if config.clip:
        size = params.count(problem(config).model.shapes)
        clipped = clip(gradient[:size], config.clip)
        gradient = np.concatenate([clipped, gradient[size:]])
    number = state.iteration + 1
    args = state.theta, gradient, state.moments, number, config, state.iteration
    return State(number, *outer_step(*args))


def average_gradient(config: Config, state: State, engine: Engine) -> tuple:
    """Return the mean loss, meta-gradient (M,) and figures of the next meta-batch.

    The options fix the chunks, and their order of summation: any number of workers gives
    the same bits.
    """
    fixed = config, state.theta, state.iteration
    sums = gather_sums(engine, chunk_gradient, fixed, spans(config.tasks, config.chunk))
    means = [total / config.tasks for total in sums]
    check_dtype(state.theta, gradient=means[1])
    return tuple(means)


@np.errstate(over="ignore", invalid="ignore")  # the loop checks the result
def chunk_gradient(config: Config, w: Array, iteration: int, tasks: range) -> tuple:
    """Return loss, meta-gradient (M,) and figures, summed over a chunk of tasks."""
    episodes = drawn(training(config), config.seed, "train", iteration, tasks)
    key, arrays = config.method.phase(config, iteration)
    side_by_side = np.broadcast_to(w, (len(tasks), *w.shape))
    return gradient_of(config, True, key)(side_by_side, *arrays, *episodes)


@lru_cache(maxsize=32)
def gradient_of(config: Config, summed: bool, key: Hashable = None) -> Callable[..., tuple]:
    """Return a chunk's gradient as a function of w (T, M), phase arrays and episode arrays.

    summed: sum the gradients (T, M) over the tasks
    It is recorded and replayed, with the same bits, unless the options switch that off.
    """
    family, method, size = problem(config), config.method, len(Episode._fields)

    def gradients(w: Array, *arrays: Array) -> tuple:
        task = family.task(Episode(*arrays[-size:]))
        now = family._replace(arrays=arrays[:-size], phase=key)
        loss, gradient, *figures = method.gradient(w, task, now)
        if gradient.shape != w.shape:
            found = f"{gradient.shape}, not {w.shape} like what is meta-learned"
            raise WorldError(f"the gradient of {config.algorithm} has shape {found}")
        figures = [figure.sum() for figure in figures]
        return loss, gradient.sum(axis=0) if summed else gradient, *figures

    return recorded(gradients) if config.replay else gradients


def own_tasks(config: Config, engine: Engine) -> Tasks:
    """Return a fixed list of training tasks and their gradients, for an own `iterate`."""

    def gradients(w: Array, tasks: range) -> tuple[float, Array]:
        parts = [slice(i.start, i.stop) for i in spans(len(tasks), config.chunk)]
        chunks = [(tasks[part], w[part]) for part in parts]
        sums = gather(engine, chunk_gradients, (config,), chunks)
        losses, found = zip(*sums, strict=True)
        return sum(losses), np.concatenate(found)

    return Tasks(lambda tasks: fixed_tasks(config, tasks), gradients)


@np.errstate(over="ignore", invalid="ignore")
def chunk_gradients(config: Config, chunk: tuple[range, Array]) -> tuple[float, Array]:
    """Return the loss, summed, and the gradients (n, M) of n tasks, each with its own w."""
    tasks, w = chunk
    return gradient_of(config, False)(w, *fixed_tasks(config, tasks))


@lru_cache(maxsize=64)  # drawing them takes longer than a gradient
def fixed_tasks(config: Config, tasks: range) -> Episode:
    """Return some of the first iteration's training tasks, with the algorithm's options."""
    return drawn(training(config), config.seed, "train", 0, tasks)


@lru_cache(maxsize=4)  # making the options takes longer than a small gradient
def training(config: Config) -> Problem:
    """Return the problem with the algorithm's options of training tasks."""
    changes = config.method.task_options(config)
    return problem(config.with_changes(changes) if changes else config)
