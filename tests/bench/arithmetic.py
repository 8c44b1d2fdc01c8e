"""The paper arithmetic: meta-steps on assumed networks, predicted from measured costs."""

from __future__ import annotations

import math

import network
from costs import BARE, CONFIGS, DASK, Job
from network import Engine, Network


# Assumed. Half a millisecond there and back within a data centre (J. Dean, "Designs,
# Lessons and Advice from Building Large Distributed Systems", LADIS 2009); two
# microseconds with MPI on InfiniBand; of bandwidth, what the name says.
NETWORKS = {
    "1 Gbit/s": Network("1 Gbit/s", 250e-6, 125e6),
    "10 Gbit/s": Network("10 Gbit/s", 250e-6, 1250e6),
    "InfiniBand": Network("InfiniBand", 2e-6, 12500e6),
    "two sites": Network("two sites", 20e-3, 12.5e6),
}
SETTINGS = (
    (DASK, "1 Gbit/s"),
    (DASK, "10 Gbit/s"),
    (BARE, "10 Gbit/s"),
    (BARE, "InfiniBand"),
)


def step(
    job: Job, calls: int, workers: int, engine: Engine, net: Network, chunks: float = 1
) -> float:
    """Return the seconds of a meta-step of `calls` calls, of some chunks each."""
    answered = network.predicted(calls, workers, job.call(chunks), engine, net)
    return answered + calls * job.add + job.update


def efficiency(job: Job, workers: int, engine: Engine, net: Network) -> float:
    """Return the share of their time that workers compute, with one chunk each."""
    return job.seconds / step(job, workers, workers, engine, net)


def workers_of_use(job: Job, engine: Engine, net: Network) -> int:
    """Return how many workers, with one chunk each, still compute half of their time."""
    workers = 0
    while efficiency(job, workers + 1, engine, net) >= 0.5:
        workers += 1
    return workers


def tasks_to_keep_busy(
    job: Job, workers: int, engine: Engine, net: Network, share: float
) -> int:
    """Return the tasks that each worker needs to compute for a share of its time."""
    rest = step(job, workers, workers, engine, net) - job.seconds
    return math.ceil(rest * share / (1 - share) * job.tasks / job.seconds)


def speed_up(name: str, job: Job, workers: int, engine: Engine, net: Network) -> float:
    """Return by how much workers shorten the experiment's own meta-step, split evenly."""
    tasks = CONFIGS[name].tasks
    each = math.ceil(tasks / workers)
    took = step(job, math.ceil(tasks / each), workers, engine, net, each / job.tasks)
    return tasks / job.tasks * job.seconds / took


def levers(
    job: Job, workers: int, chunks: int, engine: Engine, net: Network
) -> dict[str, float]:
    """Return the seconds of a meta-step of some chunks a worker, by what would help."""
    all_back = job._replace(answer=chunks * job.answer, add=chunks * job.add)
    half_back = job._replace(answer=job.answer // 2)
    half = half_back._replace(request=job.request // 2)
    fan = math.ceil(math.sqrt(workers))

    def through_a_tree(of: Job) -> float:
        # A node in between is a root to its leaves and a worker to the root.
        node = step(of, fan, fan, engine, net, chunks) - of.update
        return step(of, fan, fan, engine, net, node / of.seconds)

    # Halving and doubling: as many messages, in all about the gradient's bytes each way.
    messages = 2 * math.ceil(math.log2(workers))
    exchange = messages * (net.latency + engine.call) + 2 * job.answer * (
        engine.byte + 1 / net.bandwidth
    )
    return {
        "a call for every chunk": step(job, chunks * workers, workers, engine, net),
        "a call for every worker: theta once, each chunk's sum": step(
            all_back, workers, workers, engine, net, chunks
        ),
        "... as it is: one sum of its chunks": step(
            job, workers, workers, engine, net, chunks
        ),
        "... and its gradient in float16": step(
            half_back, workers, workers, engine, net, chunks
        ),
        "... and theta too": step(half, workers, workers, engine, net, chunks),
        f"a call for every worker, through {fan} nodes": through_a_tree(job),
        "... and both in float16": through_a_tree(half),
        "all-reduce: theta and Adam in every worker": chunks * job.seconds
        + exchange
        + job.add
        + job.update,
        "computing alone": chunks * job.seconds,
    }
