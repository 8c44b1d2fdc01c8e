"""How tinymaml's cost grows, and what an iteration costs besides its meta-step.

    python tests/bench/scaling.py [--only PART ...] [--rounds N] [--write]

- growth, workers: time and memory of a meta-step in tasks, inner steps K, ways, filters,
  image side; and in worker processes. The slope of log time against log size is the
  exponent: 1 is proportional. The work of a convolution is quadratic in filters and in the
  side, so these have exponents by arithmetic too: time against the multiplications, memory
  against the numbers that the products read and write. Fixed costs weigh least in the last
  doubling. Chunks have fewer tasks where these have more pixels, as caches want it;
- forms: the peak memory of the ways to differentiate K steps of 20-way tasks;
- iteration: a training iteration against its bare meta-step, and the share of each part.

Every round does all sizes; times are medians over rounds, of CPU time where there is one
process. Memory is the peak of a fresh process, above its peak after the imports. With
--write the figures go to scaling.json, and scaling.md is made from them; parts that are
left out stay as they were.
"""

from __future__ import annotations

from tinymaml.speed import machine


machine.prepare_blas()

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import iteration
import measure
import meta_step
import numpy as np
import works
from works import FAMILIES, Work

from tinymaml.experiments.common import Config
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.harness import loop
from tinymaml.harness import step as training
from tinymaml.speed import workers


PAGE, FIGURES = (Path(__file__).with_name(f"scaling.{kind}") for kind in ("md", "json"))
PACKAGES = ("numpy", "autograd")
# Small, so that the whole takes minutes.
BASE = dataclasses.replace(FAMILIES["conv"], tasks=8, filters=32)
SIZES = {
    "tasks": (8, 16, 32, 64),
    "steps": (1, 2, 4, 8),
    "ways": (5, 10, 20, 40),
    "filters": (16, 32, 64, 128),
    "side": (14, 28, 56, 112),
}
# Rows of the table: what grows, and against what.
SIZE, ARITHMETIC = "size", "arithmetic"
AXES = {name: (SIZE, ARITHMETIC)[: 1 + (name in ("filters", "side"))] for name in SIZES}
WORKERS = (1, 2, 4)
# Training's meta-step at the paper's width.
SPLIT = Glyphs(filters=64)
# A chunk of the paper's 20-way tasks, as training computes it.
FORMS = ("maml", "maml-low-memory", "fomaml", "anil")
WEIGHED = Glyphs(filters=64, ways=20, tasks=Glyphs.chunk)
DEPTHS = (1, 5)


# ----- Growth -----


def sized(name: str, size: int) -> Work:
    """Return the base with one thing of another size."""
    if name == "side":
        work = dataclasses.replace(BASE, image=(size, size, 1))
    else:
        work = dataclasses.replace(BASE, **{name: size})
    return dataclasses.replace(
        work, chunk=max(1, BASE.chunk * pixels(BASE) // pixels(work))
    )


def pixels(work: Work) -> int:
    """Return the pixels of a task's images."""
    return math.prod(work.image) * work.ways * (work.shots + work.queries)


def step_of(work: Work) -> Callable[[], Any]:
    """Return a function that does one replayed meta-step in this process."""
    theta, parts = works.parameters(work), works.chunks(work, works.episodes(work))
    chunk = works.replayed_chunk
    return lambda: works.meta_step(work, theta, parts, workers.Here(), chunk)


def repeat(work: Work) -> None:
    """Do meta-steps, one more than recording takes; called in a process of its own."""
    machine.keep_freed_memory()
    step = step_of(work)
    for _ in range(iteration.RECORDING + 1):
        step()


def arithmetic(work: Work) -> dict[str, int]:
    """Return a meta-step's multiplications, and the numbers its products read and write."""
    found = {"multiplications": 0, "numbers": 0}
    for ((a, _), (b, _)), n in meta_step.products(work).items():
        out = np.prod([*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]])
        found["multiplications"] += int(n * out * a[-1])
        found["numbers"] += int(n * (np.prod(a) + np.prod(b) + out))
    return found


def slope(sizes: Any, costs: Any) -> np.ndarray:
    """Fit log cost (n, rounds) against log size (n,); return the exponents (rounds,)."""
    return np.polyfit(
        np.log2(sizes), np.log2(np.asarray(costs).reshape(len(sizes), -1)), 1
    )[0]


def growth(name: str, rounds: int) -> dict[str, Any]:
    """Measure the meta-step in one size; fit its time and its memory."""
    grown = {n: sized(name, n) for n in SIZES[name]}
    calls = {n: step_of(work) for n, work in grown.items()}
    times = measure.interleaved(calls, rounds, time.process_time)
    peaks = [measure.peak_in_child(repeat, work) for work in grown.values()]
    counts = [arithmetic(work) for work in grown.values()]
    each = np.array([*times.values()])
    return {
        "sizes": [*grown],
        "ms": np.median(each, axis=1).tolist(),
        "mb": [peak["peak"] - peak["idle"] for peak in peaks],
        **{key: [count[key] for count in counts] for key in counts[0]},
        "rounds": each.tolist(),
    }


def split(rounds: int) -> dict[str, Any]:
    """Measure training's meta-step, drawing included, in 1, 2, ... worker processes."""
    state = loop.initial_state(SPLIT)
    with ExitStack() as open_engines:
        engines = {n: open_engines.enter_context(workers.engine(n)) for n in WORKERS}
        calls = {
            n: partial(training.average_gradient, SPLIT, state, engine)
            for n, engine in engines.items()
        }
        times = measure.interleaved(calls, rounds)
    each = np.array([*times.values()])
    return {
        "sizes": [*WORKERS],
        "ms": np.median(each, axis=1).tolist(),
        # All of it: every process has its own imports.
        "mb": [measure.peak_in_child(train_alone, SPLIT, n)["peak"] for n in WORKERS],
        "rounds": each.tolist(),
    }


def train_alone(config: Config, count: int = 1) -> list[float]:
    """Do training's meta-steps; return the peaks of its worker processes.

    It is called in a process of its own.
    """
    state = loop.initial_state(config)
    with workers.engine(count) as engine:
        for _ in range(iteration.RECORDING + 1):
            training.average_gradient(config, state, engine)
        return measure.peaks_of_children()


# ----- Memory -----


def forms() -> dict[str, dict[int, dict[str, float]]]:
    """Return the peak of a 20-way meta-step by algorithm and K, and that of the imports."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for name in FORMS:
        for depth in DEPTHS:
            changes = {"algorithm": name, "inner_steps": depth}
            config = WEIGHED.with_changes(changes)
            peak = measure.peak_in_child(train_alone, config)
            found.setdefault(name, {})[depth] = peak
    return found


# ----- The page -----


GROWN = (
    "grown | sizes | ms | time ~ | exponent | quartiles | last doubling"
    " | MB | memory ~ | exponent | last doubling"
)
ABOUT = "Made by `python tests/bench/scaling.py --write`; not to be edited.\n"


def grown_row(name: str, found: dict[str, Any], axis: str) -> list[Any]:
    """Return the cells of one thing that grows, against its size or the arithmetic."""
    exact = axis == ARITHMETIC
    cells: list[Any] = [name, listed(found["sizes"])]
    for cost, count in ("ms", "multiplications"), ("mb", "numbers"):
        against = count if exact else name
        x, y = found[count if exact else "sizes"], found[cost]
        cells += [listed(y), against, f"{slope(x, y)[0]:.2f}"]
        if cost == "ms":
            low, _, high = measure.summary(slope(x, found["rounds"]))
            cells.append(f"{low:.2f} to {high:.2f}")
        cells.append(f"{slope(x[-2:], y[-2:])[0]:.2f}")
    return cells


def listed(figures: list[Any]) -> str:
    """Write figures in one cell."""
    return ", ".join(measure.shown(x) for x in figures)


def form_rows(found: dict[str, Any]) -> list[list[Any]]:
    """Return the rows of the forms: peaks, and shares of MAML's above the imports."""
    most = {depth: peak["peak"] - peak["idle"] for depth, peak in found[FORMS[0]].items()}
    return [
        [
            name,
            *(
                cell
                for depth, peak in peaks.items()
                for cell in (
                    f"{peak['peak']:.0f}",
                    f"{peak['peak'] - peak['idle']:.0f}",
                    f"{(peak['peak'] - peak['idle']) / most[depth]:.2f}",
                )
            ),
        ]
        for name, peaks in found.items()
    ]


def part_rows(found: dict[str, Any]) -> list[list[Any]]:
    """Return a row for each experiment: its ratio, and the shares of the parts."""
    rows = []
    for name, one in found.items():
        whole = sum(one["parts"].values())
        shares = (f"{ms / whole:.1%}" for ms in one["parts"].values())
        ratio, low, high = one["median"], one["low"], one["high"]
        middle = [f"{ratio:.2f}", f"{low:.2f} to {high:.2f}"]
        rows.append([name, one["bare"], one["whole"], *middle, *shares])
    return rows


def page(found: dict[str, Any]) -> str:
    """Return all figures as Markdown."""
    text = ["# How the cost grows\n", ABOUT]
    if parts := [found[part] for part in ("growth", "workers") if part in found]:
        rows = [
            grown_row(name, one, axis)
            for part in parts
            for name, one in part["found"].items()
            for axis in AXES.get(name, (SIZE,))
        ]
        text += [
            f"## Growth\n\n{measure.machine_line(parts[0]['machine'])}\n",
            f"{BASE.title}, chunks with equal numbers of pixels; CPU time, and memory above"
            f" the imports. Workers: glyphs, {SPLIT.tasks} tasks, width {SPLIT.filters},"
            " drawing included, wall time; one is this process, and memory is that of all"
            " processes with their imports.\n",
            "The exponent is the slope of log time, or memory, against log size: 1 is"
            " proportional. *Multiplications* are those of all matrix products of a"
            " meta-step, *numbers* the entries of the matrices that they read and write."
            " More filters and a longer side need more of both than their size says, so"
            " their second rows are against these.\n",
            measure.markdown(GROWN, rows) + "\n",
        ]
    if weighed := found.get("forms"):
        head = " | ".join(
            f"K = {k}: peak MB | above the imports | of MAML's" for k in DEPTHS
        )
        text += [
            "## Memory of a 20-way meta-step\n",
            f"{measure.machine_line(weighed['machine'])}\n",
            f"glyphs, {WEIGHED.tasks} tasks, {WEIGHED.ways}-way {WEIGHED.shots}-shot,"
            f" width {WEIGHED.filters}, each in a fresh process.\n",
            measure.markdown(f"algorithm | {head}", form_rows(weighed["found"])) + "\n",
        ]
    if whole := found.get("iteration"):
        names = next(iter(whole["found"].values()))["parts"]
        columns = (
            "experiment",
            "meta-step, ms",
            "iteration, ms",
            "ratio",
            "quartiles",
            *names,
        )
        text += [
            f"## A training iteration\n\n{measure.machine_line(whole['machine'])}\n",
            "The ratio is that of an iteration to the bare meta-step between iterations;"
            " the shares are of the time inside iterations, validation and checkpoints"
            " spread over all.\n",
            measure.markdown(" | ".join(columns), part_rows(whole["found"])) + "\n",
        ]
    return "\n".join(text)


# ----- Command line -----


def measured(part: str, rounds: int) -> dict[str, Any]:
    """Measure one part of the page."""
    about = measure.machine(PACKAGES)
    found: dict[Any, Any]
    if part == "growth":
        found = {name: growth(name, rounds) for name in SIZES}
    elif part == "workers":
        found = {part: split(rounds)}
    elif part == "forms":
        found = forms()
    else:
        found = {
            name: iteration.compared(config, rounds)
            | {"parts": iteration.parts(config, rounds)}
            for name, config in iteration.ITERATIONS.items()
        }
    return {"machine": about, "found": found}


def main() -> None:
    """Measure, print the tables, and write them where that is asked for."""
    names = ("growth", "workers", "forms", "iteration")
    line = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    line.add_argument(
        "--only", nargs="+", choices=names, default=names, help="parts (default: all)"
    )
    line.add_argument("--rounds", type=int, default=5)
    line.add_argument("--write", action="store_true", help="scaling.json and scaling.md")
    options = line.parse_args()
    found = {part: measured(part, options.rounds) for part in options.only}
    found = json.loads(json.dumps(found))
    if options.write:
        before = json.loads(FIGURES.read_text("utf-8")) if FIGURES.exists() else {}
        found = before | found
        FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(page(found), encoding="utf-8")
    print(page(found))


if __name__ == "__main__":
    main()
