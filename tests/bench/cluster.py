"""What a meta-step takes on 10 and on 1,000 workers: paper arithmetic, and its check.

    python tests/bench/cluster.py [--write]

Measures here what a chunk costs a worker and a call the root (costs.py); predicts from
that (network.py, arithmetic.py); and runs the package's own meta-step over simulated
clusters, and over a real one of two Dask workers, beside the prediction. With --write,
the figures go to cluster.json, and the tables made from them to cluster.md.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

import arithmetic
import costs
import measure
import network
import numpy as np
from arithmetic import NETWORKS, SETTINGS
from costs import BARE, CONFIGS, DASK, FREE, HERE, Job
from network import Cluster, Engine

from tinymaml.harness import loop, step
from tinymaml.optim import Moments, State
from tinymaml.speed import machine, workers
from tinymaml.speed.sums import Branch


PAGE, FIGURES = (Path(__file__).with_name(f"cluster.{kind}") for kind in ("md", "json"))
PACKAGES = ("numpy", "autograd", "distributed")
STEPS = 5  # of a row, after one that starts the threads
COUNTS = (1, 2, 10, 30, 100, 300, 1000)
BUSY = 0.8
CONV, MINI = "Omniglot conv", "mini-ImageNet"


# ----- Tried -----


class Try(NamedTuple):
    """A row of the check: what is simulated."""

    job: str
    engine: str
    network: str
    workers: int
    calls: int
    spread: float = 0.0  # of the workers' times, relative


TRIED = (
    Try("sine", BARE, "10 Gbit/s", 10, 10),
    Try("sine", DASK, "10 Gbit/s", 1000, 1000),
    Try(CONV, BARE, "1 Gbit/s", 10, 10),
    Try(CONV, DASK, "1 Gbit/s", 10, 45),
    Try(CONV, BARE, "two sites", 10, 10),
    Try(CONV, BARE, "1 Gbit/s", 1000, 1000),
    Try(CONV, DASK, "10 Gbit/s", 1000, 1000),
    Try(CONV, BARE, "10 Gbit/s", 1000, 1000),
    Try(MINI, DASK, "1 Gbit/s", 10, 10),
    Try(MINI, DASK, "10 Gbit/s", 10, 25),
    Try(MINI, DASK, "10 Gbit/s", 1000, 1000),
    Try(MINI, BARE, "1 Gbit/s", 1000, 3000),
    Try(MINI, BARE, "InfiniBand", 1000, 1000),
    Try(MINI, DASK, "10 Gbit/s", 10, 10, 0.2),
    Try(MINI, BARE, "10 Gbit/s", 1000, 1000, 0.2),
)


def simulated(row: Try, job: Job, engine: Engine) -> dict[str, float]:
    """Return what the package's meta-step takes over a simulated cluster, medians.

    cpu: of this process, which the simulated workers' waking takes too
    """
    config = CONFIGS[row.job].with_changes({"tasks": row.calls, "chunk": 1})
    theta = np.zeros(job.parameters, "float32")
    state = State(0, theta, Moments(theta, theta))
    # The bare engine's cost is what pickling and waking cost here: it comes by itself.
    injected = FREE._replace(messages=engine.messages) if row.engine == BARE else engine
    draws = network.uneven(job.seconds, row.spread)
    answer, net = costs.answer(np.float32(0), theta), NETWORKS[row.network]
    taken = []
    with Cluster(row.workers, draws, answer, injected, net, of_share) as cluster:
        for _ in range(STEPS + 1):
            start = time.perf_counter(), time.process_time()
            _, gradient = step.average_gradient(config, state, cluster)
            step.update(config, state, gradient)
            taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    seconds, cpu = np.median(taken[1:], axis=0)
    return {"seconds": float(seconds), "cpu": float(cpu)}


def of_share(answer: list[Branch], share: tuple[int, list]) -> list[Branch]:
    """Return the answer to a share of one chunk."""
    return [branch._replace(first=share[0]) for branch in answer]


def real_dask(pool: workers.Dask, rounds: int = 7) -> dict[str, Any]:
    """Time meta-steps on two real Dask workers, and a chunk in both of them at once.

    By the clock, in turn: on a busy machine a chunk takes longer than its CPU seconds.
    """
    config, chunks, steps = CONFIGS[CONV], [], []
    state = loop.initial_state(config)
    for _ in range(rounds + 2):
        fixed, chunk = (config, state.theta, 0), range(config.chunk)
        each = workers.gather(pool, costs.timed_chunk, fixed, [chunk, chunk])
        chunks.append(np.mean(each))
        start = time.perf_counter()
        _, gradient = step.average_gradient(config, state, pool)
        state = step.update(config, state, gradient)
        steps.append(time.perf_counter() - start)
    calls = pool.number
    share = math.ceil(len(workers.spans(config.tasks, config.chunk)) / calls)
    chunk, took = (float(np.median(each[2:])) for each in (chunks, steps))
    return {"calls": calls, "chunks": share, "chunk": chunk, "took": took}


def figures() -> dict[str, Any]:
    """Measure, simulate and run everything that the tables are made of."""
    machine.keep_freed_memory()  # as the root of any engine does
    jobs = {name: costs.measured_job(name) for name in CONFIGS}
    engines = {BARE: costs.measured_bare()}
    with costs.dask_workers() as pool:
        engines[DASK] = costs.measured_engine(DASK, lambda _: pool)
        real = real_dask(pool)
    tried = [
        row._asdict() | simulated(row, jobs[row.job], engines[row.engine]) for row in TRIED
    ]
    return {
        "machine": measure.machine_line(measure.machine(PACKAGES)),
        "jobs": {name: job._asdict() for name, job in jobs.items()},
        "engines": {name: engine._asdict() for name, engine in engines.items()},
        "tried": tried,
        "real": real,
    }


# ----- The page -----


def ms(*seconds: float) -> list[float]:
    """Return milliseconds."""
    return [1e3 * each for each in seconds]


def tables(found: dict[str, Any]) -> dict[str, str]:
    """Return every table of the page, made from the figures and the assumptions."""
    jobs = {name: Job(**job) for name, job in found["jobs"].items()}
    engines = {name: Engine(**engine) for name, engine in found["engines"].items()}
    return {
        "machine": found["machine"],
        **measured(jobs, engines),
        **predictions(jobs, engines),
        "tried": measure.markdown(
            "row | a chunk of | on | workers | calls | spread | predicted, s"
            " | simulated, s | ratio | CPU, s",
            [
                [str(n), *tried_row(jobs, engines, **row)]
                for n, row in enumerate(found["tried"], 1)
            ],
        ),
        "real": measure.markdown(
            "calls | chunks in each | a chunk, ms | predicted, ms | took, ms | ratio",
            [real_row(jobs[CONV], engines[DASK], **found["real"])],
        ),
    }


def measured(jobs: dict[str, Job], engines: dict[str, Engine]) -> dict[str, str]:
    """Return the tables of what was measured, and of what was assumed."""
    nets = NETWORKS.values()
    return {
        "jobs": measure.markdown(
            "a chunk of | tasks | computing, ms | parameters | call, bytes"
            " | answer, bytes | adding, ms | update, ms",
            [
                [name, j.tasks, *ms(j.seconds), *j[:1], *j[2:4], *ms(j.add, j.update)]
                for name, j in jobs.items()
            ],
        ),
        "engines": measure.markdown(
            "engine | a call, ms | a megabyte, ms | delay, ms | messages",
            [
                [name, *ms(e.call, 1e6 * e.byte, e.delay), e.messages]
                for name, e in engines.items()
            ],
        ),
        "networks": measure.markdown(
            "network | latency, ms | megabytes a second",
            [[net.name, *ms(net.latency), net.bandwidth / 1e6] for net in nets],
        ),
        "bytes": measure.markdown(
            "a chunk each | workers | out, MB | back, MB"
            + "".join(f" | {name}, s" for name in NETWORKS),
            [
                [name, workers, workers * job.request / 1e6, workers * job.answer / 1e6]
                + [workers * job.request / net.bandwidth for net in nets]
                for name, job in jobs.items()
                for workers in (10, 1000)
            ],
        ),
    }


def predictions(jobs: dict[str, Job], engines: dict[str, Engine]) -> dict[str, str]:
    """Return the tables of what is to be expected."""
    setups = [
        (f"{name}: {engine}, {net}", name, job, (engines[engine], NETWORKS[net]))
        for name, job in jobs.items()
        for engine, net in SETTINGS
    ]
    helped = [
        arithmetic.levers(jobs[CONV], COUNTS[-1], 4, engines[engine], NETWORKS[net])
        for engine, net in SETTINGS
    ]

    def shares(job: Job, on: tuple) -> list[str]:
        return [f"{arithmetic.efficiency(job, n, *on):.0%}" for n in COUNTS]

    def busy(job: Job, on: tuple) -> list[int]:
        each = {n: arithmetic.tasks_to_keep_busy(job, n, *on, BUSY) for n in (10, 1000)}
        return [times * tasks for n, tasks in each.items() for times in (1, n)]

    return {
        "efficiency": measure.markdown(
            f"workers | {' | '.join(map(str, COUNTS))} | half at",
            [
                [title, *shares(job, on), arithmetic.workers_of_use(job, *on)]
                for title, _, job, on in setups
            ],
        ),
        "busy": measure.markdown(
            f"to compute {BUSY:.0%} of the time | tasks each of 10 | meta-batch"
            " | tasks each of 1,000 | meta-batch",
            [[title, *busy(job, on)] for title, _, job, on in setups],
        ),
        "own": measure.markdown(
            "its own meta-batch | tasks | 2 workers | 10 workers | 1,000 workers",
            [
                [title, CONFIGS[name].tasks]
                + [arithmetic.speed_up(name, job, n, *on) for n in (2, 10, 1000)]
                for title, name, job, on in setups
            ],
        ),
        "levers": measure.markdown(
            f"seconds | {' | '.join(map(', '.join, SETTINGS))}",
            [[lever, *(each[lever] for each in helped)] for lever in helped[0]],
        ),
    }


def tried_row(
    jobs: dict[str, Job],
    engines: dict[str, Engine],
    seconds: float,
    cpu: float,
    **told: Any,
) -> list[Any]:
    """Return a line of the check: prediction, simulation, their ratio, CPU."""
    row = Try(**told)
    on = engines[row.engine], NETWORKS[row.network]
    expected = arithmetic.step(jobs[row.job], row.calls, row.workers, *on)
    where = f"{row.engine}, {row.network}"
    return [row.job, where, *row[3:], expected, seconds, seconds / expected, cpu]


def real_row(
    job: Job, engine: Engine, calls: int, chunks: int, chunk: float, took: float
) -> list[Any]:
    """Return the line of the real run, of as many workers as calls."""
    job = job._replace(seconds=chunk)
    expected = arithmetic.step(job, calls, calls, engine, HERE, chunks)
    return [str(calls), str(chunks), *ms(chunk, expected, took), took / expected]


def filled(page: str, found: dict[str, Any]) -> str:
    """Return the page with its tables renewed. Raises ValueError when one has no place."""
    for name, table in tables(found).items():
        place = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        page, places = re.subn(place, rf"\g<1>{table}\n\g<2>", page, flags=re.DOTALL)
        if places != 1:
            raise ValueError(f"{places} places for table {name!r}")
    return page


def main() -> None:
    """Measure, print tables; write them where asked to."""
    line = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    line.add_argument("--write", action="store_true", help="cluster.json and cluster.md")
    options = line.parse_args()
    found = figures()
    for name, table in tables(found).items():
        print(f"\n{name}\n{table}")
    if options.write:
        FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        page = filled(PAGE.read_text(encoding="utf-8"), found)
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
