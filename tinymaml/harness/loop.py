"""The one loop: iterate, record, save; and an iteration on few-shot tasks.

Nothing random is kept between iterations: an iteration has streams of its own, keyed by
seed and iteration. A run that was interrupted and goes on gives the same bytes.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np

from tinymaml import maml
from tinymaml.algorithms import baselines
from tinymaml.errors import Interrupted, WorldError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode, drawn, stream
from tinymaml.harness import runs, thetas
from tinymaml.harness.evaluation import evaluate, interval
from tinymaml.harness.finetune import tuned
from tinymaml.harness.runs import State
from tinymaml.harness.thetas import Kept
from tinymaml.optim import Moments, adam, check_dtype, clip
from tinymaml.rl import trpo
from tinymaml.speed.replay import recorded
from tinymaml.speed.workers import gather, spans


Array = np.ndarray
Progress = Callable[[int, dict], None]

ALGORITHMS = {
    "maml": maml.meta_gradient,
    "fomaml": maml.first_order,
    "maml-low-memory": maml.meta_gradient_low_memory,
    "pretrained": baselines.support_gradient,
    "oracle": baselines.support_gradient,
}


def train(path: Path, config: Config, engine: Executor, progress: Progress) -> State:
    """Train from the run's last checkpoint, if any, to config.iterations.

    progress(iteration, record) is called after every iteration.
    Raises Interrupted after Ctrl-C or SIGTERM, the run saved; WorldError when the loss
    or the update is not finite or has another dtype, the last good checkpoint kept.
    """
    with signals() as asked:
        state = first_state(path, config)
        best = thetas.load_best(path, config, state.iteration)
        with runs.Metrics(path, state.iteration) as metrics:
            while state.iteration < config.iterations:
                after, told = ITERATIONS[config.setting](config, state, engine)
                m, v = after.moments
                check_dtype(state.theta, theta=after.theta, m=m, v=v)
                numbers = told["loss"], after.theta, m, v
                if not all(np.isfinite(x).all() for x in numbers):
                    raise WorldError(_diverged(path, config, state))
                state = after
                record = {"iteration": state.iteration, **told}
                record |= validate(config, state, engine)
                if "validation" in record:
                    now = Kept(state.iteration, state.theta, record["validation"])
                    best = thetas.better(config, best, now)
                metrics.add(record)
                progress(state.iteration, record)
                stop = [*asked]  # a signal that comes during the save waits for the next
                last = stop or state.iteration == config.iterations
                if last or state.iteration % config.checkpoint_every == 0:
                    metrics.sync()
                    if best:
                        thetas.save_best(path, config, best)
                    runs.save(path, config, state)
                if stop:
                    break
        if asked:
            raise Interrupted(asked[0], state.iteration)
    return state


def first_state(path: Path, config: Config) -> State:
    """Return the run's last saved state; without one, save the initial state."""
    state = runs.load(path, config, problem(config).size)
    if state is None:
        state = initial_state(config)
        runs.save(path, config, state)
    return state


def initial_state(config: Config) -> State:
    """Return the state before the first iteration."""
    rng = stream(config.seed, "init", 0, 0)
    theta = problem(config).init(rng).astype(config.dtype)
    return State(0, theta, Moments(np.zeros_like(theta), np.zeros_like(theta)))


def iterate(config: Config, state: State, engine: Executor) -> tuple[State, dict]:
    """Return the state after the next iteration, and what is to be recorded of it."""
    loss, gradient = outer_gradient(config, state, engine)
    after = update(config, state, gradient)
    return after, {"loss": float(loss), **fits(config, after)}


# What one iteration does, by the setting that an experiment names.
ITERATIONS = {"few-shot": iterate, "rl": trpo.iterate}


@np.errstate(over="ignore", invalid="ignore")
def update(config: Config, state: State, gradient: Array) -> State:
    """Return the state after one more outer update with the averaged gradient (P,)."""
    gradient = clip(gradient, config.clip)
    iteration = state.iteration + 1
    theta, moments = state.theta, state.moments
    if config.algorithm not in baselines.AVERAGES:
        return State(iteration, *adam(theta, gradient, moments, iteration, config.beta))
    some, number = baselines.moved(config, state.iteration)
    own = Moments(moments.m[some], moments.v[some])
    own_theta, own = adam(theta[some], gradient[some], own, number, config.beta)
    moments = Moments(*(_put(x, some, y) for x, y in zip(moments, own, strict=True)))
    return State(iteration, _put(theta, some, own_theta), moments)


def _put(vector: Array, some: slice, part: Array) -> Array:
    vector = vector.copy()
    vector[some] = part
    return vector


def outer_gradient(config: Config, state: State, engine: Executor) -> tuple[float, Array]:
    """Return the loss of the next iteration and the gradient of all that is trained."""
    if config.algorithm in baselines.AVERAGES:
        return baselines.own_gradients(config, state.theta, state.iteration, engine)
    return average_gradient(config, state, engine)


def average_gradient(config: Config, state: State, engine: Executor) -> tuple[float, Array]:
    """Return the loss and meta-gradient (P,), averaged over the next meta-batch.

    The chunks are fixed by the options and summed in order: the same bits from any
    number of workers.
    """
    chunks = spans(config.tasks, config.chunk)
    fixed = config, state.theta, state.iteration
    sums = gather(engine, chunk_gradient, fixed, chunks)
    losses, gradients = zip(*sums, strict=True)
    gradient = sum(gradients) / config.tasks
    check_dtype(state.theta, gradient=gradient)
    return sum(losses) / config.tasks, gradient


@np.errstate(over="ignore", invalid="ignore")  # the loop looks at what comes out
def chunk_gradient(
    config: Config, theta: Array, iteration: int, tasks: range
) -> tuple[float, Array]:
    """Return the loss and meta-gradient (P,), summed over some of a meta-batch's tasks."""
    episodes = drawn(problem(config), config.seed, "train", iteration, tasks)
    side_by_side = np.broadcast_to(theta, (len(tasks), *theta.shape))
    return sum_of_gradients(config)(side_by_side, *episodes)


@lru_cache(maxsize=2)
def sum_of_gradients(config: Config) -> Callable[..., tuple[float, Array]]:
    """Return the function of theta (T, P) and an episode's arrays that a chunk computes.

    Recorded and replayed, unless the options say not to: the same bits.
    """
    family = problem(config)
    algorithm = ALGORITHMS[config.algorithm]

    def gradients(theta: Array, *arrays: Array) -> tuple[float, Array]:
        task = family.task(Episode(*arrays))
        loss, gradient = algorithm(theta, task, family.alpha, config.inner_steps)
        return loss, gradient.sum(axis=0)

    return recorded(gradients) if config.replay else gradients


def validate(config: Config, state: State, engine: Executor) -> dict[str, float]:
    """Return the score on validation tasks and half its interval, when one is due."""
    due = config.validate_every and state.iteration % config.validate_every == 0
    if not due:
        return {}
    steps = max(config.inner_steps, 1)
    config = tuned(config, state.theta, steps, engine)
    tasks = config.validation_tasks
    last = evaluate(config, state.theta, "val", tasks, steps, engine)[-1]
    _, half = interval(last)
    return {"validation": float(last.mean()), "validation_half_width_95": float(half)}


def fits(config: Config, state: State) -> dict[str, int]:
    """Return, at each checkpoint, how many of the averaged regressors fit their task."""
    due = state.iteration % config.checkpoint_every == 0
    if config.algorithm not in baselines.AVERAGES or not due:
        return {}
    return {"fitted": baselines.fitted(config, state.theta)}


def _diverged(path: Path, config: Config, state: State) -> str:
    return (
        f"diverged at iteration {state.iteration + 1} (alpha={config.alpha},"
        f" beta={config.beta}): the loss or the update is not finite;"
        f" the last good checkpoint is {str(path / runs.CHECKPOINT)!r}"
    )


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect the first Ctrl-C or SIGTERM in a list instead of stopping.

    A second one finds the handlers that were there before.
    """
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        asked.append(number)
        put_back()

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, note)
        yield asked
    finally:
        put_back()
