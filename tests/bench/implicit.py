"""How exact is iMAML's gradient, and what memory does it take?

    python tests/bench/implicit.py

First, the error of the gradient against the exact implicit one, by inner steps and by steps
of conjugate gradients (CG), for two lambdas. At lambda = 2 the inner problem is not convex.
The last column is the chain through the same inner steps, which is exact for them and not
for the minimum. Second, the peak of allocated memory during a gradient of four tasks.
Sine with ten points, a tanh net, a generic theta, float64.
"""

from __future__ import annotations

import tracemalloc

import numpy as np

from tinymaml.algorithms import imaml
from tinymaml.algorithms.imaml import IMAML
from tinymaml.check.chain import case_of
from tinymaml.check.differences import difference
from tinymaml.check.implicit import Inner, unrolled
from tinymaml.experiments import problem
from tinymaml.experiments.sine import Sine
from tinymaml.harness import step


INNER, SOLVER = (5, 16, 64, 256), (1, 2, 3, 5, 8, 12)
STEPS = (5, 20, 80)  # of the second table
TASKS, EXACT = 4, 200  # solver steps
# lambda: alpha, small enough for the steps of every task to settle
STRENGTHS, LONG = {2.0: 0.05, 20.0: 0.025}, 1000
SMOOTH = {"activation": "tanh", "dtype": "float64"}
MEMORY = {"tasks": TASKS, "chunk": TASKS, **SMOOTH}
FORMS = (
    *(("imaml", False), ("imaml", True)),
    *(("maml", False), ("maml", True), ("maml-low-memory", False)),
)


def errors(strength: float, alpha: float) -> list[list[float]]:
    """Return the error of every number of inner steps (and of the minimum, the last row).

    A row has the errors by solver steps, and then that of the unrolled chain.
    """
    config = Sine(algorithm="imaml", proximal=strength, alpha=alpha, **SMOOTH)
    case = case_of(IMAML, problem(config), TASKS)
    inner = Inner(IMAML, case.problem, case.task)
    phis = IMAML.adapt(*case.args, LONG)  # where these steps lead: there are many minima
    minimum = inner.minimum(case.w, phis[-1], 1e-6)
    exact = imaml.implicit(minimum, *case.args, EXACT)[1]
    rows = []
    for steps in INNER:
        row = [imaml.implicit(phis[steps], *case.args, n)[1] for n in SOLVER]
        row.append(unrolled(inner, case.w, steps))
        rows.append([difference(found, exact) for found in row])
    row = [imaml.implicit(minimum, *case.args, n)[1] for n in SOLVER]
    return [*rows, [difference(found, exact) for found in row]]


def peak(algorithm: str, replay: bool, steps: int) -> float:
    """Return the most megabytes allocated during a gradient, after recording."""
    config = Sine(algorithm=algorithm, inner_steps=steps, replay=replay, **MEMORY)
    w = problem(config).model.init(np.random.default_rng(0))
    for _ in range(3):
        step.chunk_gradient(config, w, 0, range(TASKS))
    tracemalloc.start()
    step.chunk_gradient(config, w, 0, range(TASKS))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 1e6


def table(head: list[object], rows: list[list[object]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> None:
    """Print the tables."""
    for strength, alpha in STRENGTHS.items():
        rows = [
            [name, *(f"{error:.1e}" for error in row)]
            for name, row in zip([*INNER, "minimum"], errors(strength, alpha), strict=True)
        ]
        rows[-1].append("")
        print(f"lambda = {strength:g}, alpha = {alpha:g}\n")
        print(table(["inner steps", *(f"CG {n}" for n in SOLVER), "chain"], rows), "\n")
    memory = [
        [f"{name}{', replayed' * replay}", *(f"{peak(name, replay, k):.2f}" for k in STEPS)]
        for name, replay in FORMS
    ]
    print(table(["MB", *(f"K = {k}" for k in STEPS)], memory))


if __name__ == "__main__":
    main()
