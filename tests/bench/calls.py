"""Where the time of a replayed meta-step goes: its NumPy calls, by primitive.

    python tests/bench/calls.py [--work NAME] [--rounds N]

Makes the calls of one chunk's meta-gradient one by one, each timed, and prints the median
microseconds of each primitive's calls together, the share of the products, and what one
replay of all takes.
"""

from __future__ import annotations

from tinymaml.speed import machine


machine.prepare_blas()

import argparse
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

import measure
import numpy as np
import works
from works import WORKS, Work

from tinymaml.speed import replay
from tinymaml.speed.tape import Call, last_uses, taped


Array = np.ndarray

PRODUCTS = ("matmul", "matmul_nt", "matmul_tn", "affine")


def inputs_of(work: Work) -> list[Array]:
    """Return the arrays that a chunk's meta-gradient is a function of."""
    part = works.chunks(work, works.episodes(work))[0]
    theta = works.parameters(work)
    return [np.broadcast_to(theta, (len(part.x_support), *theta.shape)), *part]


def name(call: Call) -> str:
    """Return what a call calls."""
    return call.function.__name__


def timed(tape: list[Call], inputs: Iterable[Array]) -> Array:
    """Make all calls once; return the microseconds of each."""
    values: dict[str, Any] = {f"x{i}": array for i, array in enumerate(inputs)}
    last = last_uses(tape)
    spent = np.empty(len(tape))
    for i, call in enumerate(tape):
        args = call.given(values)
        start = time.perf_counter()
        values[call.name] = call.function(*args, **call.kwargs)
        spent[i] = 1e6 * (time.perf_counter() - start)
        del args  # as a replay does: what is used again lies where something just was
        for parent in set(call.parents.values()):
            if last[parent] == i:
                del values[parent]
    return spent


def main() -> None:
    """Time and print."""
    line = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    line.add_argument("--work", choices=WORKS, default="sine-1")
    line.add_argument("--rounds", type=int, default=100)
    options = line.parse_args()
    machine.keep_freed_memory()
    print(measure.machine_line(measure.machine(["numpy", "autograd"])))
    work = WORKS[options.work]
    inputs, gradient = inputs_of(work), partial(works.chunk_gradient, work)
    tape, *_ = taped(gradient, *inputs)
    each = np.median([timed(tape, inputs) for _ in range(options.rounds)], axis=0)
    whole = measure.interleaved({"": partial(replay.record(gradient, *inputs), *inputs)}, 5)
    calls, spent = Counter(map(name, tape)), Counter()
    for call, microseconds in zip(tape, each, strict=True):
        spent[name(call)] += microseconds
    products = sum(spent[product] for product in PRODUCTS)
    print(f"{work.title}; chunks of {work.chunk}")
    rows = [[key, calls[key], us, us / each.sum()] for key, us in spent.most_common()]
    print(measure.table(["", "calls", "us", "share"], rows))
    print(
        f"{len(tape)} calls, {each.sum():.0f} us one by one, products"
        f" {products / each.sum():.0%}; one replay {1e3 * np.median(whole['']):.0f} us"
    )


if __name__ == "__main__":
    main()
