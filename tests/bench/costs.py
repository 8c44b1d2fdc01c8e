"""What a chunk costs a worker, and a call the root, measured here.

Told in CPU seconds, the least of several tries: other work on the machine makes a try
slower, never quicker.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import network
import numpy as np
import works
from network import Call, Cluster, Engine, Network

from tinymaml.experiments.common import Config
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.miniimagenet import MiniImageNet
from tinymaml.experiments.sine import Sine
from tinymaml.harness import checkpoints, loop, step
from tinymaml.optim import Moments, State
from tinymaml.speed import machine, workers
from tinymaml.speed.sums import Branch


Array = np.ndarray

TRIES = 9
SIZES = (10**3, 10**4, 10**5)  # of the thetas that an engine is measured with
CALLS = 50
# What an executor cannot do without: pickle, wake, add to a queue. Measured, as Dask is.
BARE, DASK = "bare", "Dask"
# From a call to its answer: two for any executor; two more for Dask, whose scheduler is
# told that a result is there and then fetches it.
MESSAGES = {BARE: 2, DASK: 4}
FREE, HERE = Engine("free", 0, 0, 0, 0), Network("here", 0, math.inf)

# The glyphs are drawn, and of Omniglot's sizes; mini-ImageNet's images are noise.
CONFIGS: dict[str, Config] = {
    "sine": Sine(inner_steps=1),
    "Omniglot conv": Glyphs(filters=64),
    "mini-ImageNet": MiniImageNet(),
}
POOLED = dataclasses.replace(works.FAMILIES["pooled"], tasks=1, steps=5)


class Job(NamedTuple):
    """A chunk of an experiment's meta-step, and what the root does with its answer."""

    parameters: int
    tasks: int  # of a chunk
    request: int  # bytes pickled
    answer: int
    seconds: float  # of a worker, to compute it
    add: float  # of the root, to add its gradient to the others
    update: float  # of the root in a meta-step: Adam, and its share of a checkpoint

    def call(self, chunks: float = 1) -> Call:
        """Return a call that computes some chunks and answers with their sum."""
        return Call(self.request, self.answer, self.seconds * chunks)


def least(function: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Return the least seconds of several tries, after two to warm up."""
    taken = []
    for _ in range(TRIES + 2):
        start = clock()
        function()
        taken.append(clock() - start)
    return min(taken[2:])


def one_chunk(name: str) -> Callable[[], tuple[Any, Array]]:
    """Return a function that computes a chunk as a worker does."""
    config = CONFIGS[name]
    if name == "mini-ImageNet":
        theta, episode = works.parameters(POOLED), works.episodes(POOLED)
        return lambda: (np.float32(0), *works.replayed_chunk(POOLED, theta, episode))
    theta = loop.initial_state(config).theta
    return lambda: step.chunk_gradient(config, theta, 0, range(config.chunk))


def chunk_in_worker(name: str) -> tuple[float, tuple[Any, Array]]:
    """Return the CPU seconds of a chunk and what it answers; called in a worker."""
    chunk = one_chunk(name)
    return least(chunk, time.process_time), chunk()


class Noting(Executor):
    """Notes the bytes of the calls that it is sent, and gives all the same answer."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.bytes = answer, []

    def submit(self, function: Callable, /, *args: Any) -> Future:
        """Note a call, which is not made."""
        self.bytes.append(network.size((function, args)))
        future = Future()
        future.set_result(self.answer)
        return future


def answer(*sums: Any) -> list[Branch]:
    """Return what a worker answers to a share of the first chunk."""
    return [Branch(0, 1, sums)]


def sent(config: Config, theta: Array) -> int:
    """Return the bytes of the call that a meta-step sends for a chunk."""
    noting = Noting(answer(np.float32(0), theta))
    state = State(10**4, theta, Moments(theta, theta))
    step.average_gradient(config.with_changes({"tasks": config.chunk}), state, noting)
    [size] = noting.bytes
    return size


def measured_job(name: str) -> Job:
    """Time a chunk in a worker process, pickle what is sent, time the root's share."""
    config = CONFIGS[name]
    with workers.engine(2) as pool:
        seconds, sums = pool.submit(chunk_in_worker, name).result()
    theta = sums[1]
    state = State(0, theta, Moments(theta, theta))
    with tempfile.TemporaryDirectory() as folder:
        saved = least(
            lambda: checkpoints.save(Path(folder), config, state), time.perf_counter
        )
    updated = least(lambda: step.update(config, state, theta), time.process_time)
    return Job(
        parameters=theta.size,
        tasks=config.chunk,
        request=sent(config, theta),
        answer=network.size(answer(*sums)),
        seconds=seconds,
        add=least(lambda: theta + theta, time.process_time),
        update=updated + saved / config.checkpoint_every,
    )


def echo(config: Config, theta: Array, iteration: int, tasks: range) -> tuple:
    """Answer as a chunk does, at once."""
    return np.float32(0), theta


def measured_engine(name: str, pool_for: Callable[[Array], Executor]) -> Engine:
    """Fit what a call costs this process against its bytes; time one call by itself.

    pool_for(theta): an executor that answers `echo` of theta with theta
    """

    def gathered(theta: Array, calls: int) -> Callable[[], list]:
        fixed, spans = (CONFIGS["sine"], theta, 0), workers.spans(calls, 1)
        return lambda: workers.gather(pool_for(theta), echo, fixed, spans)

    thetas = [np.zeros(parameters, "float32") for parameters in SIZES]
    taken = [least(gathered(theta, CALLS), time.process_time) / CALLS for theta in thetas]
    # Relative: the small calls count as much as the large.
    both_ways = [2 * theta.nbytes for theta in thetas]
    byte, call = np.polyfit(both_ways, taken, 1, w=1 / np.array(taken))
    one = least(gathered(thetas[0], 1), time.perf_counter)
    delay = max(one - call, 0.0) if name == DASK else 0.0
    return Engine(name, float(call), float(byte), float(delay), MESSAGES[name])


def measured_bare() -> Engine:
    """Measure a root whose workers, threads, answer at once."""
    clusters = {
        size: Cluster(CALLS, lambda: 0.0, (np.float32(0), np.zeros(size, "f4")), FREE, HERE)
        for size in SIZES
    }
    try:
        return measured_engine(BARE, lambda theta: clusters[theta.size])
    finally:
        for cluster in clusters.values():
            cluster.shutdown()


# ----- A real cluster -----


@contextmanager
def dask_workers() -> Iterator[Executor]:
    """Yield two worker processes of a Dask cluster on this machine."""
    from distributed import LocalCluster

    with (
        machine.blas_for_children(),
        LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster,
        workers.engine(f"dask:{cluster.scheduler_address}") as pool,
    ):
        yield pool


def timed_chunk(config: Config, theta: Array, iteration: int, tasks: range) -> float:
    """Return the seconds of a chunk; called in a worker."""
    start = time.perf_counter()
    step.chunk_gradient(config, theta, iteration, tasks)
    return time.perf_counter() - start
