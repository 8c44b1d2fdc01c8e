"""Time one meta-gradient of each algorithm against MAML with one step and with as many.

    python tests/bench/family.py [--steps K] [--ways N] [--filters N] [--rounds N]
        [--net NET] [--only NAME ...]

A chunk of tasks of Omniglot's shapes (glyphs), replayed, in one process. The figures are
CPU milliseconds, the least of several rounds: other work on the machine makes a round
slower, never quicker. Every round runs every algorithm.
"""

from __future__ import annotations

from tinymaml.speed import machine


machine.prepare_blas()

import argparse
import time
from collections.abc import Callable
from typing import Any

import measure
import numpy as np

from tinymaml.algorithms import ROWS
from tinymaml.algorithms.algorithm import FEW_SHOT
from tinymaml.experiments import problem
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.fewshot import drawn
from tinymaml.harness import loop, step


MAML = "maml"
HEAD = ["algorithm", "CPU ms", "/ maml, K = 1", "/ maml, K"]


def names() -> list[str]:
    """Return the algorithms that take inner steps on images, without an own iteration."""
    rows = (row for row in ROWS if row.inner_loop and not row.iterate and not row.needs)
    return [row.name for row in rows if FEW_SHOT in row.settings]


def meta_gradient(name: str, steps: int, **options: Any) -> Callable[[], tuple]:
    """Return a function that computes the meta-gradient of one chunk."""
    config = Glyphs(algorithm=name, inner_steps=steps, **options)
    theta = loop.initial_state(config).theta
    tasks = range(config.chunk)
    episodes = drawn(problem(config), 0, "train", 0, tasks)
    key, arrays = config.method.phase(config, 0)
    w = np.broadcast_to(theta, (len(tasks), *theta.shape))
    gradient = step.gradient_of(config, True, key)
    return lambda: gradient(w, *arrays, *episodes)


def seconds(calls: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Return each call's CPU seconds, the least of some interleaved rounds."""
    for call in calls.values():
        call()  # records
        call()  # compares
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            least[name] = min(least[name], time.process_time() - start)
    return least


def main() -> None:
    """Time and print."""
    line = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    line.add_argument("--steps", type=int, default=5)
    line.add_argument("--ways", type=int, default=5)
    line.add_argument("--filters", type=int, default=64)
    line.add_argument("--net", default="conv")
    line.add_argument("--rounds", type=int, default=9)
    line.add_argument("--only", nargs="+", choices=names(), default=names())
    options = line.parse_args()
    machine.keep_freed_memory()
    print(measure.machine_line(measure.machine(["numpy", "autograd"])))
    shape = {"ways": options.ways, "filters": options.filters, "net": options.net}
    calls = {
        name: meta_gradient(name, options.steps, **shape)
        for name in dict.fromkeys([MAML, *options.only])
    }
    calls["one step"] = meta_gradient(MAML, 1, **shape)
    found = seconds(calls, options.rounds)
    one = found.pop("one step")
    rows = [[n, 1e3 * s, s / one, s / found[MAML]] for n, s in found.items()]
    print(f"glyphs of Omniglot's shapes, {shape}, K = {options.steps}")
    print(measure.table(HEAD, rows))


if __name__ == "__main__":
    main()
