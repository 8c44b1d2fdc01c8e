"""Time one meta-step: tinymaml, and with --peers PyTorch, `higher` and JAX.

    python tests/bench/meta_step.py [--peers] [--memory] [--work NAME ...] [--rounds N]
        [--threads N] [--only CONTENDER ...] [--json FILE]
    python tests/bench/meta_step.py --family pooled --tasks 2 --steps 5 [...]

Named works are sine-1, sine-5, conv-1, conv-1-first and conv-5 (family and K). Options of
shape change all of them, or define one with --family: conv is Omniglot's net, pooled is
mini-ImageNet's. All contenders get the same numbers, and nothing is timed before their
gradients agree:

- in float64, to TOLERANCE. This is the proof;
- in float32, which is what is timed, to CLOSE, on this meta-batch or else on one of a
  few single tasks. Where a relu's input is as good as zero, or two pixels of a pool are
  as good as equal, rounding decides, and one such gate can move the gradient of an image
  net by per cents: the table has the distance on this meta-batch, tinymaml's own too.
  With many images every task has such gates. Where even tinymaml is close on none, a
  gradient may differ by as much as tinymaml's float64 gradient moves when its inputs are
  rounded.

Every round runs every contender; the figures are medians over rounds. Exits 1 when a
gradient differs.
"""

from __future__ import annotations

from tinymaml.speed import machine


machine.prepare_blas()

import argparse
import dataclasses
import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import measure
import numpy as np
import peers
import works
from works import Contender, Work

from tinymaml import kernels
from tinymaml.fewshot import Episode
from tinymaml.speed import workers
from tinymaml.speed.workers import Here


Array = np.ndarray

TOLERANCE = 1e-8  # relative, of float64 gradients
CLOSE = 1e-4  # of float32 gradients
DRAWS = 10  # of a single task
# Roundings of float32 that a sum over a layer's inputs collects, about; draws of them.
ROUNDINGS, NUDGES = 10, 3
WORKERS = 2
TRIALS = 2  # of each number of threads, after a warm one
GIVE_UP = 3  # times slower than the best: no further trial
MEMORY_STEPS = 2
PACKAGES = ("numpy", "autograd", "torch", "higher", "jax")
OURS = "tinymaml"
REPLAYED = f"{OURS} replayed"
IN_WORKERS = f", {WORKERS} processes"
HEAD = [
    "contender",
    "ms",
    "quartiles",
    "x ours",
    "threads",
    "first call s",
    "float64 diff",
    "float32 diff",
    "peak MB",
    "before MB",
]


# ----- Contenders -----


@contextmanager
def contenders(names: list[str]) -> Iterator[list[Contender]]:
    """Yield the named contenders, tinymaml's worker processes running."""
    with ExitStack() as stack:
        # A peer alone gets malloc's defaults; beside tinymaml it has our setting too.
        ours = set(names) & set(our_names())
        engines = {
            pooled: stack.enter_context(workers.engine(WORKERS if pooled else 1))
            for pooled in {name.endswith(IN_WORKERS) for name in ours}
        }
        yield [
            _our_contender(name, engines[name.endswith(IN_WORKERS)])
            if name in ours
            else peers.contender(name)
            for name in names
        ]


def our_names() -> list[str]:
    """Return the names of tinymaml's contenders; the first one is the reference."""
    kinds = [OURS, REPLAYED] if works.can_replay() else [OURS]
    return [name + where for where in ("", IN_WORKERS) for name in kinds]


def _our_contender(name: str, engine: Executor) -> Contender:
    chunk = works.replayed_chunk if name.startswith(REPLAYED) else works.eager_chunk

    def make(work: Work) -> Callable[[], Array]:
        theta, parts = works.parameters(work), works.chunks(work, works.episodes(work))
        return lambda: works.meta_step(work, theta, parts, engine, chunk)

    return Contender(name, make, lambda work, gradient: gradient)


# ----- Gradients -----


def gradient(contender: Contender, work: Work) -> Array:
    """Return a contender's gradient (P,)."""
    contender.set_threads(1)
    with contender.precision(work.dtype):
        found = contender.flat(work, contender.make(work)())
    if found.dtype != work.dtype:
        raise SystemExit(f"{contender.name} computes in {found.dtype}")
    return found


def distance(a: Array, b: Array) -> float:
    """Return |a - b| / |b|."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def compare(work: Work, entrants: list[Contender]) -> dict[str, dict[str, float]]:
    """Return each contender's distances from tinymaml's float64 gradient."""
    precise = in_float64(work)
    reference = gradient(entrants[0], precise)
    return {
        c.name: {
            "float64": distance(gradient(c, precise), reference),
            "float32": distance(gradient(c, work), reference),
        }
        for c in entrants
    }


def second_order_share(work: Work, ours: Contender) -> float:
    """Return how far exact and first-order gradients are apart: what a check can see."""
    exact, first = (
        gradient(ours, dataclasses.replace(work, order=order)) for order in works.ORDERS
    )
    return distance(first, exact)


def in_float64(work: Work) -> Work:
    """Return the work with its numbers in float64."""
    return dataclasses.replace(work, dtype="float64")


def differing(
    work: Work, entrants: list[Contender], found: dict[str, dict[str, float]]
) -> list[str]:
    """Return the contenders whose gradients are not ours; a NaN is not either."""
    ours, most = entrants[0], CLOSE
    own = found[ours.name]["float32"] <= CLOSE or close_on_a_task(ours, work, ours)
    if not own:
        most = max(CLOSE, rounding(work))

    def close(c: Contender) -> bool:
        return found[c.name]["float32"] <= most or (own and close_on_a_task(c, work, ours))

    return [
        c.name for c in entrants if not (found[c.name]["float64"] <= TOLERANCE and close(c))
    ]


def close_on_a_task(contender: Contender, work: Work, ours: Contender) -> bool:
    """Say whether some single task's float32 gradient is tinymaml's float64 one."""
    for seed in range(DRAWS):
        one = dataclasses.replace(work, tasks=1, seed=seed)
        reference = gradient(ours, in_float64(one))
        if distance(gradient(contender, one), reference) <= CLOSE:
            return True
    return False


def rounding(work: Work) -> float:
    """Return how far tinymaml's float64 gradient moves when its inputs are rounded.

    Parameters and images move by ROUNDINGS of float32; of NUDGES draws the largest counts.
    """
    work = in_float64(work)
    theta, batch = works.parameters(work), works.episodes(work)

    def at(theta: Array, batch: Episode) -> Array:
        return works.meta_step(work, theta, works.chunks(work, batch), Here())

    def nudged(array: Array, rng: np.random.Generator) -> Array:
        if array.dtype != theta.dtype:  # labels
            return array
        step = ROUNDINGS * np.finfo("float32").eps
        return array * (1 + step * rng.uniform(-1, 1, array.shape))

    reference, found = at(theta, batch), []
    for seed in range(NUDGES):
        rng = np.random.default_rng(seed)
        there = nudged(theta, rng), Episode(*(nudged(array, rng) for array in batch))
        found.append(distance(at(*there), reference))
    return float(np.max(found))


# ----- Times and memory -----


def best_threads(contender: Contender, step: Callable[[], Any]) -> int | None:
    """Return the number of threads with which a short trial was quickest."""
    if len(contender.threads) < 2:
        return next(iter(contender.threads), None)
    trials = {}
    for threads in contender.threads:
        contender.set_threads(threads)
        trials[threads] = measure.seconds(step)
        # On busy cores threads wait for each other without end; once is enough then.
        if trials[threads] <= GIVE_UP * min(trials.values()):
            trials[threads] = min(measure.seconds(step) for _ in range(TRIALS))
    return min(trials, key=trials.get)


def ready(contender: Contender, work: Work) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Return a contender's step with its best setting, and what was found on the way."""
    contender.set_threads(1)
    step = contender.make(work)
    first = measure.seconds(step)
    threads = best_threads(contender, step)

    def with_threads() -> Any:
        contender.set_threads(threads)
        return step()

    found = {"threads": threads, "first_call_s": first}
    return step if threads is None else with_threads, found


def run_alone(work: Work, name: str, threads: int | None) -> list[float]:
    """Do a few meta-steps; return the peaks of tinymaml's workers, if any."""
    with contenders([name]) as [contender]:
        if threads is not None:
            contender.set_threads(threads)
        step = contender.make(work)
        for _ in range(MEMORY_STEPS):
            step()
        return measure.peaks_of_children()


# ----- The floor: the matrix products alone -----


def _operand(a: Array) -> tuple[tuple[int, ...], bool]:
    transposed = a.strides[-2] < a.strides[-1]
    return a.shape, transposed


def products(work: Work) -> Counter:
    """Return the operands (shape, transposed) of a meta-step's products, counted."""
    counted: Counter = Counter()
    product = kernels.product

    def note(a: Array, b: Array, *out: Array) -> Array:
        counted[_operand(a), _operand(b)] += 1
        return product(a, b, *out)

    kernels.product = note
    try:
        with contenders([OURS]) as [ours]:
            ours.make(work)()
    finally:
        kernels.product = product
    return counted


def floor(work: Work, rounds: int) -> dict[str, float]:
    """Time the matrix products of a meta-step alone, with one BLAS thread."""
    counted = products(work)
    ready = [(*_operands(pair, work.dtype), n) for pair, n in counted.items()]

    def multiply() -> None:
        for a, b, out, n in ready:
            for _ in range(n):
                np.matmul(a, b, out=out)

    times = measure.interleaved({"floor": multiply}, rounds)["floor"]
    gflop = sum(2e-9 * out.size * a.shape[-1] * n for a, _, out, n in ready)
    ms = measure.summary(times).median
    return {"ms": ms, "gflop": gflop, "gflop_per_s": 1e3 * gflop / ms}


def _operands(pair: tuple, dtype: str) -> tuple[Array, Array, Array]:
    a, b = (
        np.ones((*shape[:-2], *shape[:-3:-1]), dtype).swapaxes(-1, -2)
        if transposed
        else np.ones(shape, dtype)
        for shape, transposed in pair
    )
    return a, b, np.empty((*a.shape[:-1], b.shape[-1]), dtype)


# ----- One work -----


def bench(
    work: Work, names: list[str], rounds: int, memory: bool, threads: int | None
) -> dict[str, Any]:
    """Compare, time and weigh all contenders on one work. Exits 1 if one differs."""
    with contenders(names) as entrants:
        if threads is not None:
            entrants = [
                c._replace(threads=(threads,) if c.threads else ()) for c in entrants
            ]
        share = second_order_share(work, entrants[0])
        distances = compare(work, entrants)
        if wrong := differing(work, entrants, distances):
            print(f"gradients differ: {', '.join(wrong)}: {distances}", file=sys.stderr)
            raise SystemExit(1)
        steps, rows = {}, {}
        for contender in entrants:
            steps[contender.name], rows[contender.name] = ready(contender, work)
        times = measure.interleaved(steps, rounds)
    for name, row in rows.items():
        row |= measure.summary(times[name])._asdict() | {"difference": distances[name]}
        if memory:
            row |= measure.peak_in_child(run_alone, work, name, row["threads"])
    best = min(row["median"] for name, row in rows.items() if name in our_names())
    for row in rows.values():
        row["ratio"] = row["median"] / best
    return {
        "title": work.title,
        "work": dataclasses.asdict(work),
        "second_order_share": share,
        "floor": floor(work, rounds),
        "contenders": rows,
    }


def report(result: dict[str, Any]) -> str:
    """Lay one work's figures out."""
    floor = result["floor"]
    rows = [
        [
            name,
            row["median"],
            f"{measure.shown(row['low'])}-{measure.shown(row['high'])}",
            row["ratio"],
            row["threads"],
            row["first_call_s"],
            f"{row['difference']['float64']:.0e}",
            f"{row['difference']['float32']:.0e}",
            row.get("peak"),
            row.get("idle"),
        ]
        for name, row in result["contenders"].items()
    ]
    return (
        f"\n{result['title']}\n{measure.table(HEAD, rows)}\n"
        f"matrix products alone, one thread: {measure.shown(floor['ms'])} ms,"
        f" {measure.shown(floor['gflop'])} GFLOP at {floor['gflop_per_s']:.0f} GFLOP/s;"
        f" exact and first order differ by {result['second_order_share']:.1e}"
    )


# ----- Command line -----


def parser() -> argparse.ArgumentParser:
    """Return the command line's options."""
    line = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    line.add_argument(
        "--peers",
        action="store_true",
        help="PyTorch, higher and JAX too: pip install torch higher jax",
    )
    line.add_argument("--memory", action="store_true", help="peaks, each in a child")
    line.add_argument("--work", nargs="+", choices=works.WORKS, default=[*works.WORKS])
    line.add_argument(
        "--only",
        nargs="+",
        metavar="CONTENDER",
        help="these and tinymaml alone, by their names in the first column of the table, as"
        ' "tinymaml replayed, 2 processes" "PyTorch loop"',
    )
    line.add_argument(
        "--threads", type=int, help="PyTorch's; without it, the better of 1 and all"
    )
    line.add_argument("--rounds", type=int, default=15, help="(default: %(default)s)")
    line.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    shape = line.add_argument_group("shape of the meta-step")
    shape.add_argument("--family", choices=works.FAMILIES, help="in place of --work")
    for name in ("tasks", "ways", "shots", "queries", "filters", "steps", "chunk"):
        shape.add_argument(f"--{name}", type=int)
    shape.add_argument("--image", type=int, nargs=3, metavar=("H", "W", "C"))
    shape.add_argument("--order", choices=works.ORDERS, help="of the meta-gradient")
    shape.add_argument("--alpha", type=float, help="inner-loop learning rate")
    return line


def chosen_works(options: argparse.Namespace) -> list[Work]:
    """Return the works that the options name or define."""
    changes = {
        field.name: value
        for field in dataclasses.fields(Work)
        if (value := getattr(options, field.name, None)) is not None
    }
    if "image" in changes:
        changes["image"] = tuple(changes["image"])
    named = [works.WORKS[name] for name in options.work]
    bases = [works.FAMILIES[options.family]] if options.family else named
    chosen = [dataclasses.replace(base, **changes) for base in bases]
    if options.chunk is None:
        chosen = [dataclasses.replace(w, chunk=works.usual_chunk(w)) for w in chosen]
    return chosen


def chosen_names(options: argparse.Namespace, line: argparse.ArgumentParser) -> list[str]:
    """Return the contenders to run, tinymaml first."""
    names = our_names()
    if options.peers:
        missing = [p for p in peers.PACKAGES if importlib.util.find_spec(p) is None]
        if missing:
            line.error(f"--peers needs {', '.join(missing)}")
        names += peers.PEERS
    if options.only:
        if unknown := set(options.only) - set(names):
            line.error(f"--only: no contender {', '.join(unknown)} among {names}")
        names = [name for name in names if name == OURS or name in options.only]
    return names


def main() -> None:
    """Bench the chosen works, print tables, write JSON."""
    line = parser()
    options = line.parse_args()
    names, about = chosen_names(options, line), measure.machine(PACKAGES)
    print(measure.machine_line(about))
    results = []
    for work in chosen_works(options):
        results.append(bench(work, names, options.rounds, options.memory, options.threads))
        print(report(results[-1]), flush=True)
    if options.json:
        found = {"machine": about, "rounds": options.rounds, "works": results}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
