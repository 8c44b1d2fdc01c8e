"""How tinymaml's cost grows, one thing at a time.

    python tests/bench/scaling.py [--rounds N] [--json FILE]

- the time of the conv meta-step in tasks, inner steps K and filters: the slope of log time
  against log size is the exponent over all sizes (1 is proportional), and over the last
  doubling, where what does not grow weighs least;
- the time of training's own meta-step, drawing included, in worker processes;
- the peak memory of the ways to differentiate K steps, at K = 1 and K = 10, eager and
  replayed, which is how training does it;
- iterations of the training loop against the bare meta-gradient of tasks already drawn.

Every round does all sizes; the figures are medians over rounds.
"""

from __future__ import annotations

from tinymaml.speed import machine


machine.prepare_blas()

import argparse
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import measure
import numpy as np
import works
from works import FAMILIES, Work

from tinymaml import maml
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.fewshot import drawn
from tinymaml.harness import loop
from tinymaml.harness import step as training
from tinymaml.speed import workers


# Small, so that the whole takes minutes.
BASE = dataclasses.replace(FAMILIES["conv"], tasks=8, filters=32)
SIZES = {
    "tasks": (8, 16, 32, 64),
    "steps": (1, 2, 4, 8),
    "filters": (16, 32, 64, 128),
}
WORKERS = tuple(2**n for n in range((os.cpu_count() or 1).bit_length()))
# Training's meta-step at the paper's width: two chunks for each of the most workers.
SPLIT = Glyphs(filters=64, tasks=2 * Glyphs.chunk * WORKERS[-1])
# One chunk at the paper's width.
WEIGHED = dataclasses.replace(FAMILIES["conv"], tasks=8)
DEPTHS = (1, 10)
WAYS = {
    "meta_gradient": maml.meta_gradient,
    "meta_gradient_low_memory": maml.meta_gradient_low_memory,
    "first_order": maml.first_order,
}
KINDS = {"eager": works.eager_chunk, "replayed": works.replayed_chunk}
ITERATIONS = {"sine": Sine(inner_steps=1), "glyphs": Glyphs(filters=64)}
RECORDING = 2  # calls: the first records, the second is compared
PACKAGES = ("numpy", "autograd")


# ----- Growth -----


def step_of(work: Work, chunk: Callable = works.replayed_chunk) -> Callable[[], Any]:
    """Return a function that does one meta-step in this process."""
    theta, parts = works.parameters(work), works.chunks(work, works.episodes(work))
    return lambda: works.meta_step(work, theta, parts, workers.Here(), chunk)


def growth(name: str, rounds: int) -> dict[str, Any]:
    """Time the meta-step in one size; fit log time against log size in every round."""
    grown = {n: dataclasses.replace(BASE, **{name: n}) for n in SIZES[name]}
    times = measure.interleaved({n: step_of(work) for n, work in grown.items()}, rounds)
    sizes, each = np.log2([*times]), np.log2([*times.values()])
    slopes = np.polyfit(sizes, each, 1)[0]
    return {
        "ms": {size: measure.summary(figures).median for size, figures in times.items()},
        "slope": measure.summary(slopes)._asdict(),
        "last_doubling": float(np.median(each[-1] - each[-2])),
    }


def split(rounds: int) -> dict[int, dict[str, float]]:
    """Return the ms of training's meta-step by workers, and by how much they shorten it."""
    state = loop.initial_state(SPLIT)
    with ExitStack() as open_engines:
        engines = {n: open_engines.enter_context(workers.engine(n)) for n in WORKERS}
        calls = {
            n: partial(training.average_gradient, SPLIT, state, engine)
            for n, engine in engines.items()
        }
        times = measure.interleaved(calls, rounds)
    return {
        n: {
            "ms": measure.summary(figures).median,
            **measure.summary(times[1] / figures)._asdict(),
        }
        for n, figures in times.items()
    }


# ----- Memory -----


def differentiate(work: Work, way: str, kind: str) -> None:
    """Do meta-steps, one more than recording takes; called in a process of its own."""
    machine.keep_freed_memory()
    works.ORDERS[way] = WAYS[way]
    step = step_of(dataclasses.replace(work, order=way), KINDS[kind])
    for _ in range(RECORDING + 1):
        step()


def memory() -> dict[str, dict[int, float]]:
    """Return the MB that each way takes at each K, above the imports."""
    found = {}
    for kind in KINDS:
        for way in WAYS:
            row = found[f"{way}, {kind}"] = {}
            for depth in DEPTHS:
                work = dataclasses.replace(WEIGHED, steps=depth)
                peaks = measure.peak_in_child(differentiate, work, way, kind)
                row[depth] = peaks["peak"] - peaks["idle"]
    return found


# ----- A whole iteration -----


def bare_step(config: Config) -> Callable[[], Any]:
    """Return a function that computes the meta-gradient of tasks already drawn."""
    family, theta = problem(config), loop.initial_state(config).theta
    parts = [
        drawn(family, config.seed, "train", 0, tasks)
        for tasks in workers.spans(config.tasks, config.chunk)
    ]
    gradients = training.gradient_of(config, True)

    def step() -> Any:
        thetas = (np.broadcast_to(theta, (len(p.x_support), *theta.shape)) for p in parts)
        sums = [gradients(at, *part) for at, part in zip(thetas, parts, strict=True)]
        return sum(gradient for _, gradient in sums) / config.tasks

    return step


def iteration(config: Config, rounds: int) -> dict[str, float]:
    """Time iterations of the training loop, and the bare meta-gradient between them."""
    bare = bare_step(config)
    for _ in range(RECORDING):
        bare()
    count = rounds * measure.repeats_for(bare)
    times = {"bare": [], "whole": []}
    since = time.perf_counter()

    def progress(*_: Any) -> None:
        nonlocal since
        times["whole"].append(1e3 * (time.perf_counter() - since))
        times["bare"].append(1e3 * measure.seconds(bare))
        since = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder, workers.engine(1) as engine:
        longer = config.with_changes({"iterations": RECORDING + count})
        loop.train(Path(folder), longer, engine, progress)
    bares, wholes = (np.array(each[RECORDING:]) for each in times.values())
    middle = {"bare": float(np.median(bares)), "whole": float(np.median(wholes))}
    return middle | measure.summary(wholes / bares)._asdict()


# ----- Command line -----


def quartiles(found: dict[str, float]) -> str:
    """Write the lower and the upper one."""
    return f"{found['low']:.2f}-{found['high']:.2f}"


def report(found: dict[str, Any]) -> str:
    """Lay all figures out."""
    grown = [
        [
            name,
            ", ".join(f"{size}: {measure.shown(ms)}" for size, ms in g["ms"].items()),
            g["slope"]["median"],
            quartiles(g["slope"]),
            g["last_doubling"],
        ]
        for name, g in found["growth"].items()
    ]
    shared = [
        [str(n), s["ms"], s["median"], quartiles(s)] for n, s in found["workers"].items()
    ]
    weighed = [
        [way, *mb.values(), mb[DEPTHS[-1]] / mb[DEPTHS[0]]]
        for way, mb in found["memory"].items()
    ]
    whole = [
        [name, i["bare"], i["whole"], i["median"], quartiles(i)]
        for name, i in found["iteration"].items()
    ]
    parts = {
        f"Time: {BASE.title}, chunks of {BASE.chunk}": (
            ["grown", "ms by size", "slope", "quartiles", "last doubling"],
            grown,
        ),
        f"Workers: glyphs, {SPLIT.tasks} tasks, width {SPLIT.filters}, chunks of"
        f" {SPLIT.chunk}, drawn by the workers": (
            ["workers", "ms", "speed-up", "quartiles"],
            shared,
        ),
        f"Memory above the imports, MB: {WEIGHED.title} but for K": (
            ["way", *(f"K={k}" for k in DEPTHS), "ratio"],
            weighed,
        ),
        "A whole training iteration, ms": (
            ["experiment", "bare", "whole", "ratio", "quartiles"],
            whole,
        ),
    }
    return "\n\n".join(f"{title}\n{measure.table(*t)}" for title, t in parts.items())


def main() -> None:
    """Measure, print tables, write JSON."""
    line = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    line.add_argument("--rounds", type=int, default=5)
    line.add_argument("--json", type=Path, metavar="FILE")
    options = line.parse_args()
    found = {
        "machine": measure.machine(PACKAGES),
        "base": dataclasses.asdict(BASE),
        "growth": {name: growth(name, options.rounds) for name in SIZES},
        "workers": split(options.rounds),
        "memory": memory(),
        "iteration": {
            name: iteration(config, options.rounds) for name, config in ITERATIONS.items()
        },
    }
    print(measure.machine_line(found["machine"]), report(found), sep="\n\n")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
