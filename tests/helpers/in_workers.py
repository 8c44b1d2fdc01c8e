"""What tests have workers compute: in a module of its own, which workers can import."""

import time
from pathlib import Path

import numpy as np

from tinymaml.experiments.common import Config
from tinymaml.harness.step import average_gradient
from tinymaml.optim import State
from tinymaml.rl import rollout
from tinymaml.speed.workers import Here
from trainings import begin


def iterations(config: Config, state: State, pool=None) -> list[tuple[bytes, bytes]]:
    """Return the losses and meta-gradients: recorded, proved and replayed."""
    states = [state._replace(iteration=i) for i in range(3)]
    found = [average_gradient(config, at, pool or Here()) for at in states]
    return [(loss.tobytes(), gradient.tobytes()) for loss, gradient in found]


def aligned(*arrays: np.ndarray) -> bool:
    """Return whether all arrays lie where NumPy's own would."""
    return all(array.flags.aligned for array in arrays)


def act_and_adapt(path: Path, config: Config, shuffled: bool) -> None:
    """Train in the world; if `shuffled`, adapted policies get goals of other tasks."""
    act, calls, rng = rollout.act, [], np.random.default_rng(0)

    def other(model, world, theta, goals, *args):
        calls.append(len(goals))
        if shuffled and len(calls) % 2 == 0:
            goals = np.array([world.draw(rng) for _ in goals])
        return act(model, world, theta, goals, *args)

    rollout.act = other
    try:
        begin(path, config)
    finally:
        rollout.act = act


def slow_square(x: int) -> int:
    """Take a while, so that a worker dies in the middle."""
    time.sleep(0.2)
    return x * x
