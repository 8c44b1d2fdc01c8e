"""The training loop: iterate, record, save.

Every iteration has random streams of its own, keyed by seed and iteration. A run that was
interrupted and resumed gives the same bytes.
"""

import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from tinymaml.algorithms.algorithm import FEW_SHOT, RL
from tinymaml.errors import Interrupted, WorldError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import stream
from tinymaml.harness import checkpoints, policy_step, runs, step
from tinymaml.harness.checkpoints import Kept
from tinymaml.harness.evaluation import evaluate, tuned
from tinymaml.harness.metrics import Metrics, read_metrics
from tinymaml.optim import Moments, State, check_dtype
from tinymaml.speed.workers import Engine
from tinymaml.summary import interval


Progress = Callable[[int, dict], None]
# One iteration, by an experiment's setting.
ITERATIONS = {FEW_SHOT: step.iterate, RL: policy_step.iterate}


def train(
    path: Path,
    config: Config,
    engine: Engine,
    progress: Progress,
    check: Callable[[], None] = lambda: None,
    saved: Callable[[int], None] = lambda iteration: None,
    handle: bool = True,
) -> State:
    """Train from the run's last checkpoint, if any, to config.iterations.

    It calls progress(iteration, record) after every iteration, check() before it writes a
    checkpoint, and saved(iteration) after it. check raises where this process has lost the
    run's lock.
    handle: answer the first Ctrl-C or SIGTERM with Interrupted, after saving the run
    Raises WorldError when the loss or the update is not finite or has another dtype; the
    last checkpoint stays.
    """
    handled = signals() if handle else nullcontext(list[int]())
    with handled as asked:
        state, best = checkpoints.resumed(path, config)
        faults: list[str] = []
        records = read_metrics(path, faults)
        if state is None and records:
            faults.append(f"no checkpoint in {str(path)!r}: starting anew")
        for line in faults:
            print(line, file=sys.stderr)
        if state is None:
            state = initial_state(config)
            checkpoints.save(path, config, state)
        good = f"the last good checkpoint is {str(path / runs.CHECKPOINT)!r}"
        with Metrics(path, state.iteration, runs.begun_as(path, config)) as metrics:
            for state, record in iterations(config, state, engine, good):  # noqa: B020
                if "validation" in record:
                    now = Kept(state.iteration, state.theta, record["validation"])
                    best = checkpoints.better(config, best, now)
                record = metrics.add(record)
                progress(state.iteration, record)
                stop = [*asked]  # a signal during the save waits for the next
                last = stop or state.iteration == config.iterations
                if last or state.iteration % config.checkpoint_every == 0:
                    check()
                    metrics.sync()
                    if best:
                        checkpoints.save_best(path, config, best)
                    checkpoints.save(path, config, state)
                    saved(state.iteration)
                if stop:
                    break
        if asked:
            raise Interrupted(asked[0], state.iteration)
    return state


def iterations(
    config: Config, state: State, engine: Engine, otherwise: str = "take smaller steps"
) -> Iterator[tuple[State, dict]]:
    """Yield state and record after each iteration until config.iterations; write nothing.

    Raises WorldError when the loss or the update is not finite or has another dtype.
    otherwise: the end of that error, what to do or to use
    """
    while state.iteration < config.iterations:
        after, found = ITERATIONS[config.setting](config, state, engine)
        m, v = after.moments
        check_dtype(state.theta, theta=after.theta, m=m, v=v)
        figures = found["loss"], *(found[name] for name in config.learning)
        vectors = after.theta, m, v
        if not (
            all(map(math.isfinite, figures)) and all(np.isfinite(x).all() for x in vectors)
        ):
            sizes = f"alpha={config.alpha}"
            if config.method.rates(state.theta, problem(config)) is not None:
                sizes += " at first, step sizes are learned"
            raise WorldError(
                f"diverged at iteration {after.iteration} ({sizes}, beta={config.beta}):"
                f" the loss or the update is not finite; {otherwise}"
            )
        state = after
        record = {"iteration": state.iteration, **found}
        yield state, record | validate(config, state, engine)


def initial_state(config: Config) -> State:
    """Return the state before the first iteration."""
    rng = stream(config.seed, "init", 0, 0)
    theta = config.method.init(rng, problem(config)).astype(config.dtype)
    return State(0, theta, Moments(np.zeros_like(theta), np.zeros_like(theta)))


@np.errstate(over="ignore", invalid="ignore")
def validate(config: Config, state: State, engine: Engine) -> dict[str, float]:
    """Return the score on validation tasks and half its 95 % interval, if one is due.

    Neither is finite when the score of a task is not.
    """
    if not config.validate_every or state.iteration % config.validate_every:
        return {}
    tasks, steps = config.validation_tasks, max(config.inner_steps, 1)
    config = tuned(config, state.theta, steps, engine)
    last = evaluate(config, state.theta, "val", tasks, steps, engine)[-1]
    _, half = interval(last)
    return {"validation": float(last.mean()), "validation_half_width_95": float(half)}


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect the first Ctrl-C or SIGTERM in a list instead of stopping.

    A second one is answered by the handler that was there before, or else stops.
    """
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            if callable(before[number]):
                before[number](number, frame)
            raise KeyboardInterrupt
        asked.append(number)

    before: dict[int, Any] = {
        n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is note:  # what answered a second one may stay
                signal.signal(number, handler)
