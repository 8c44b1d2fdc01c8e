"""One iteration of MAML-TRPO on 2D navigation, side by side with plain PyTorch.

    OPENBLAS_NUM_THREADS=1 python tests/bench/rl_step.py [--rounds N] [--json FILE]

Rollouts, inner step, meta-gradient, conjugate gradients and line search, on the same
goals and noise; PyTorch's noise is not timed. PyTorch runs with one thread and with as
many as there are cores: on a busy machine its threads wait for each other. Before
anything is timed the meta-gradients are compared in float64.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path

import measure
import numpy as np
import rl_torch
import torch

from tinymaml.experiments import problem
from tinymaml.experiments.pointnav import PointNav
from tinymaml.fewshot import drawn
from tinymaml.harness import policy_step
from tinymaml.harness.loop import initial_state
from tinymaml.optim import State
from tinymaml.rl import rollout
from tinymaml.speed import machine
from tinymaml.speed.workers import Here, engine, spans


AGREE = 1e-10  # of the meta-gradients in float64, relative
WORKERS = 2
TASKS = 20  # the paper's (A.2)
GROUPS = {"PyTorch, tasks side by side": TASKS, "PyTorch, loop over tasks": 1}
THREADS = sorted({1, os.cpu_count() or 1})


def ours(config: PointNav, state: State, pool: Executor) -> Callable[[], object]:
    """Return one iteration of tinymaml's."""
    return lambda: policy_step.iterate(config, state, pool)


def peer(
    config: PointNav, state: State, group: int, threads: int = 1
) -> Callable[[], tuple]:
    """Return the same of PyTorch's, on the same goals and noise."""
    family = problem(config)
    draws = drawn(family, config.seed, "train", state.iteration, range(config.tasks))
    shape = config.trajectories, config.horizon, 2
    noise = [
        torch.tensor(rollout.noise(draws.seeds, k, shape, config.dtype)) for k in (0, 1)
    ]
    theta = torch.tensor(state.theta)
    goals = torch.tensor(draws.goals.astype(config.dtype))
    settings = rl_torch.Settings(
        (2, *config.hidden, 2),
        config.alpha,
        config.discount,
        config.max_kl,
        config.fisher_stride,
        group,
    )

    def iteration() -> tuple:
        torch.set_num_threads(threads)
        return rl_torch.iteration(theta, goals, noise, settings)

    return iteration


def difference(config: PointNav, state: State) -> float:
    """Return how far the two meta-gradients are apart, in float64, relative."""
    config = config.with_changes({"dtype": "float64"})
    state = state._replace(theta=state.theta.astype(float))
    tasks = spans(config.tasks, config.chunk)
    chunks = [
        policy_step.collect(config, state.theta, state.iteration, some) for some in tasks
    ]
    g = sum(chunk.gradient for chunk in chunks) / config.tasks
    theirs = peer(config, state, config.tasks)()[1].numpy()
    return float(np.linalg.norm(g - theirs) / np.linalg.norm(g))


def warmed(config: PointNav, iterations: int) -> State:
    """Return the state after some iterations: trajectories that reach their goals."""
    state = initial_state(config)
    for _ in range(iterations):
        state, _ = policy_step.iterate(config, state, Here())
    return state


def main() -> None:
    """Compare, time, print; exit 1 when the meta-gradients differ."""
    line = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    line.add_argument("--rounds", type=int, default=15)
    line.add_argument("--warm", type=int, default=12, help="iterations before")
    line.add_argument("--threads", type=int, nargs="+", default=THREADS)
    line.add_argument("--json", type=Path, metavar="FILE")
    options = line.parse_args()
    machine.keep_freed_memory()
    about = measure.machine(["torch"])
    print(measure.machine_line(about))
    config = PointNav(tasks=TASKS)
    state = warmed(config, options.warm)
    apart = difference(config, state)
    print(f"meta-gradients in float64: {apart:.1e} apart")
    if not apart <= AGREE:
        sys.exit(1)
    with ExitStack() as stack_of:
        pool = stack_of.enter_context(engine(WORKERS))
        calls = {
            f"tinymaml, {WORKERS} workers": ours(config, state, pool),
            "tinymaml, 1 worker": ours(config, state, Here()),
        }
        for name, group in GROUPS.items():
            for n in options.threads:
                calls[f"{name}, {n} threads"] = peer(config, state, group, n)
        times = measure.interleaved(calls, options.rounds)
    first, *_ = times
    rows = [
        [name, *measure.summary(t), float(np.median(t) / np.median(times[first]))]
        for name, t in times.items()
    ]
    print(measure.table(["", "25 %", "ms", "75 %", "ratio"], rows))
    if options.json:
        told = {"machine": about, "apart": apart, "ms": {n: [*t] for n, t in times.items()}}
        options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
