"""How tinymaml's cost grows, one thing at a time.

    python tests/bench/scaling.py [--rounds N] [--json FILE]

- the time of the conv meta-step in tasks, inner steps K, filters and workers: the slope
  of log time against log size is the exponent (1 is proportional, -1 divides);
- the peak memory of the ways to differentiate K steps, at K = 1 and K = 10;
- a whole training iteration (draw tasks, meta-gradient, update, record) against the
  bare meta-gradient of tasks already drawn.
"""

from __future__ import annotations

from tinymaml import machine


machine.prepare_blas()

import argparse  # noqa: E402
import dataclasses  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import tempfile  # noqa: E402
from collections.abc import Callable  # noqa: E402
from concurrent.futures import Executor  # noqa: E402
from contextlib import ExitStack  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import measure  # noqa: E402
import numpy as np  # noqa: E402
import works  # noqa: E402
from works import FAMILIES, Work  # noqa: E402

from tinymaml import maml, runs, train, workers  # noqa: E402
from tinymaml.experiments import problem  # noqa: E402
from tinymaml.experiments.common import Config  # noqa: E402
from tinymaml.experiments.glyphs import Glyphs  # noqa: E402
from tinymaml.experiments.sine import Sine  # noqa: E402
from tinymaml.fewshot import drawn  # noqa: E402


# Small, so that the whole takes a minute; chunks small enough for two workers.
BASE = dataclasses.replace(FAMILIES["conv"], tasks=8, filters=32, chunk=4)
SIZES = {
    "tasks": (4, 8, 16, 32),
    "steps": (1, 2, 4, 8),
    "filters": (16, 32, 64, 128),
}
WORKERS = tuple(sorted({1, 2, os.cpu_count() or 1}))
# One chunk at the paper's width.
WEIGHED = dataclasses.replace(FAMILIES["conv"], tasks=8)
DEPTHS = (1, 10)
WAYS = {
    "meta_gradient": maml.meta_gradient,
    "meta_gradient_low_memory": maml.meta_gradient_low_memory,
    "first_order": maml.first_order,
}
ITERATIONS = {"sine": Sine(inner_steps=1), "glyphs": Glyphs(filters=64)}
PACKAGES = ("numpy", "autograd", "tinymaml")


# ----- Growth -----


def step_of(
    work: Work, engine: Executor, chunk: Callable = works.quickest_chunk
) -> Callable[[], Any]:
    """Return a function that does one meta-step."""
    theta, parts = works.parameters(work), works.chunks(work, works.episodes(work))
    return lambda: works.meta_step(work, theta, parts, engine, chunk)


def growth(calls: dict[int, Callable], rounds: int) -> dict[str, Any]:
    """Time calls of several sizes; fit log time against log size in every round."""
    times = measure.interleaved(calls, rounds)
    sizes, each = np.log([*calls]), np.log([*times.values()])
    slopes = np.polyfit(sizes, each, 1)[0]
    return {
        "ms": {size: measure.summary(times[size]).median for size in calls},
        "slope": float(np.median(slopes)),
        "slope_range": [float(slopes.min()), float(slopes.max())],
    }


def growths(rounds: int) -> dict[str, dict[str, Any]]:
    """Return the growth in each size."""
    found = {}
    with ExitStack() as open_engines:
        engines = {n: open_engines.enter_context(workers.engine(n)) for n in WORKERS}
        for name, sizes in SIZES.items():
            grown = {n: dataclasses.replace(BASE, **{name: n}) for n in sizes}
            calls = {n: step_of(work, engines[1]) for n, work in grown.items()}
            found[name] = growth(calls, rounds)
        split = dataclasses.replace(BASE, tasks=max(SIZES["tasks"]))
        calls = {n: step_of(split, engine) for n, engine in engines.items()}
        if len(calls) > 1:
            found["workers"] = growth(calls, rounds)
    return found


# ----- Memory -----


def differentiate(work: Work, way: str) -> None:
    """Do one meta-step; called in a process of its own."""
    machine.keep_freed_memory()
    works.ORDERS[way] = WAYS[way]
    named = dataclasses.replace(work, order=way)
    step_of(named, workers.Here(), works.eager_chunk)()


def memory() -> dict[str, dict[int, float]]:
    """Return the MB that each way takes at each K, above the imports."""
    found = {way: {} for way in WAYS}
    for way in WAYS:
        for depth in DEPTHS:
            work = dataclasses.replace(WEIGHED, steps=depth)
            peaks = measure.peak_in_child(differentiate, work, way)
            found[way][depth] = peaks["peak"] - peaks["idle"]
    return found


# ----- A whole iteration -----


def bare_step(config: Config, state: runs.State) -> Callable[[], Any]:
    """Return a function that computes the meta-gradient of tasks already drawn."""
    family = problem(config)
    parts = [
        drawn(family, config.seed, "train", 0, tasks)
        for tasks in train.spans(config.tasks, config.chunk)
    ]
    gradients = train.sum_of_gradients(config)

    def step() -> Any:
        thetas = (np.tile(state.theta, (len(part.x_support), 1)) for part in parts)
        sums = [gradients(at, *part) for at, part in zip(thetas, parts, strict=True)]
        return sum(gradient for _, gradient in sums) / config.tasks

    return step


def whole_step(
    config: Config, state: runs.State, engine: Executor, metrics: runs.Metrics
) -> Callable[[], Any]:
    """Return a function that does one iteration of training, from the same state."""

    def step() -> Any:
        loss, gradient = train.average_gradient(config, state, engine)
        after = train.update(config, state, gradient)
        metrics.add({"iteration": after.iteration, "loss": float(loss)})
        return after

    return step


def iteration(config: Config, rounds: int) -> dict[str, float]:
    """Time a whole iteration of training against its meta-gradient alone."""
    state = train.initial_state(config)
    with (
        tempfile.TemporaryDirectory() as folder,
        workers.engine(1) as engine,
        runs.Metrics(Path(folder), 0) as metrics,
    ):
        calls = {
            "bare": bare_step(config, state),
            "whole": whole_step(config, state, engine, metrics),
        }
        times = measure.interleaved(calls, rounds)
    found = {name: measure.summary(each).median for name, each in times.items()}
    ratios = times["whole"] / times["bare"]
    return found | measure.summary(ratios)._asdict()


# ----- Command line -----


def report(found: dict[str, Any]) -> str:
    """Lay all figures out."""
    grown = [
        [
            name,
            ", ".join(f"{size}: {measure.shown(ms)}" for size, ms in g["ms"].items()),
            g["slope"],
            "-".join(f"{s:.2f}" for s in sorted(g["slope_range"])),
        ]
        for name, g in found["growth"].items()
    ]
    weighed = [
        [way, *mb.values(), mb[DEPTHS[-1]] / mb[DEPTHS[0]]]
        for way, mb in found["memory"].items()
    ]
    whole = [
        [name, i["bare"], i["whole"], i["median"], f"{i['low']:.2f}-{i['high']:.2f}"]
        for name, i in found["iteration"].items()
    ]
    base = f"{BASE.title}, chunks of {BASE.chunk}"
    return "\n\n".join(
        [
            f"{base}; workers with {max(SIZES['tasks'])} tasks\n"
            + measure.table(["grown", "ms by size", "slope", "range"], grown),
            f"Memory above the imports, MB: {WEIGHED.title} but for K\n"
            + measure.table(["way", *(f"K={k}" for k in DEPTHS), "ratio"], weighed),
            "A whole training iteration, ms\n"
            + measure.table(["experiment", "bare", "whole", "ratio", "quartiles"], whole),
        ]
    )


def main() -> None:
    """Measure, print tables, write JSON."""
    line = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    line.add_argument("--rounds", type=int, default=5)
    line.add_argument("--json", type=Path, metavar="FILE")
    options = line.parse_args()
    found = {
        "machine": measure.machine(PACKAGES),
        "base": dataclasses.asdict(BASE),
        "growth": growths(options.rounds),
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
