"""Small trainings in this process, and the bytes that they write."""

from pathlib import Path

import numpy as np

from tinymaml.experiments.common import Config
from tinymaml.experiments.sine import Sine
from tinymaml.harness import loop, runs
from tinymaml.optim import State
from tinymaml.speed.workers import Here


COUNT = 10  # parameters of the nets below, with three hidden units
# Chunks of unequal size.
SMALL = Sine(
    iterations=20,
    tasks=7,
    chunk=3,
    hidden=(3,),
    checkpoint_every=5,
    test_tasks=45,
    test_steps=2,
)
# Its best theta on validation tasks is not its last.
VALIDATED = Sine(
    seed=1,
    iterations=20,
    tasks=3,
    hidden=(3,),
    beta=0.05,
    checkpoint_every=4,
    validate_every=2,
    validation_tasks=5,
)


def train(path: Path, config: Config = SMALL, pool=None, progress=lambda *_: None) -> State:
    """Train in a folder, from its last checkpoint if it has one; return the last state."""
    path.mkdir(parents=True, exist_ok=True)
    return loop.train(path, config, pool or Here(), progress)


def begin(path: Path, config: Config = SMALL, pool=None) -> State:
    """Write config.json and train: a run that the command line can read."""
    path.mkdir(parents=True, exist_ok=True)
    runs.write_config(path, config, {})
    return train(path, config, pool)


def results(path: Path) -> tuple[bytes, bytes]:
    """Return the last checkpoint and the metrics of a run."""
    return (path / runs.CHECKPOINT).read_bytes(), (path / runs.METRICS).read_bytes()


def state_of(path: Path) -> dict[str, bytes]:
    """Return the last checkpoint's arrays without the options, as bytes."""
    with np.load(path / runs.CHECKPOINT) as file:
        return {name: file[name].tobytes() for name in file.files if name != runs.OPTIONS}


def results_of(path: Path, config: Config, pool=None) -> tuple[bytes, bytes]:
    """Train in a folder; return the last checkpoint and the metrics."""
    train(path, config, pool)
    return results(path)
