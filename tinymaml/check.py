"""The verifier: one meta-gradient, several ways, in float64.

The explicit chain is compared with automatic differentiation through the unrolled inner
loop, with the low-memory chain, and with central finite differences, which know nothing
of derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import autograd.numpy as anp
import numpy as np
from autograd import grad

from tinymaml import losses, maml, models
from tinymaml.data import sine
from tinymaml.fewshot import Episode, as_task, stack, stream
from tinymaml.maml import Task


Array = np.ndarray

# Central differences have an error of order STEP^2 plus rounding / STEP.
STEP = 1e-5
DIRECTIONS = 4
ANALYTIC, NUMERIC = 1e-12, 1e-6  # relative errors allowed


class Row(NamedTuple):
    """One comparison: what with what, the relative error, and what is allowed."""

    case: str
    steps: int
    against: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is a number within the tolerance."""
        return bool(self.error <= self.tolerance)


class Case(NamedTuple):
    """A problem to check on: stacked tasks, where, and with which step size."""

    name: str
    theta: Array
    task: Task
    alpha: float


def sine_case() -> Case:
    """The sine MLP 1-40-40-1 on three tasks of ten points."""
    model = models.mlp((1, 40, 40, 1))
    rngs = [stream(0, "train", 0, task) for task in range(3)]
    episodes = stack([sine.sample(rng, 10, 10, "float64") for rng in rngs])
    return Case(
        "sine MLP",
        _generic_theta(model, 3),
        as_task(episodes, model.apply, losses.mse),
        0.01,
    )


def conv_case() -> Case:
    """A small Omniglot net with batch norm: two 5-way 2-shot tasks of 12x12 noise."""
    model = models.conv_net((12, 12, 1), ways=5, filters=4, layers=3)
    rng = stream(0, "train", 0, 0)
    x, labels = rng.uniform(size=(2, 2, 10, 12, 12, 1)), np.arange(5).repeat(2)
    labels = np.stack([labels, labels])
    episodes = Episode(x[0], labels, x[1], labels)
    return Case(
        "conv net",
        _generic_theta(model, 2),
        as_task(episodes, model.apply, losses.cross_entropy),
        0.1,
    )


def _generic_theta(model: models.Model, tasks: int) -> Array:
    """Initial values of each task, moved off the zeros where a mistake could hide."""
    rng = stream(0, "init", 0, 0)
    theta = np.stack([model.init(rng) for _ in range(tasks)])
    return theta + 0.1 * rng.standard_normal(theta.shape)


CASES: dict[str, Callable[[], Case]] = {"sine": sine_case, "conv": conv_case}


def check_case(case: Case, steps: int) -> list[Row]:
    """Return one row for each comparison of the exact meta-gradient."""
    args = case.theta, case.task, case.alpha, steps
    _, exact = maml.meta_gradient(*args)
    unrolled = grad(lambda theta: query_after(theta, *args[1:]))(case.theta)
    _, frugal = maml.meta_gradient_low_memory(*args)
    told = [
        ("autodiff through the unrolled loop", difference(exact, unrolled), ANALYTIC),
        ("the low-memory chain", difference(exact, frugal), ANALYTIC),
        ("central finite differences", against_differences(exact, *args), NUMERIC),
    ]
    return [Row(case.name, steps, *row) for row in told]


def query_after(theta: Array, task: Task, alpha: float | Array, steps: int) -> Array:
    """Return Q(theta_K): what the meta-gradient is the gradient of."""
    theta_k = maml.adapt(theta, task, alpha, steps)
    return anp.sum(task.query(theta_k)(theta_k))


def against_differences(
    gradient: Array, theta: Array, task: Task, alpha: float | Array, steps: int
) -> float:
    """Return the worst relative error of the gradient along random directions."""
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(DIRECTIONS):
        direction = rng.standard_normal(theta.shape)
        direction /= np.linalg.norm(direction)
        ahead = query_after(theta + STEP * direction, task, alpha, steps)
        behind = query_after(theta - STEP * direction, task, alpha, steps)
        slope = (ahead - behind) / (2 * STEP)
        # By the size of the gradient, since along one direction it may vanish.
        error = abs(slope - np.sum(gradient * direction)) / np.linalg.norm(gradient)
        worst = max(worst, float(error))
    return worst


def difference(a: Array, b: Array) -> float:
    """Return the norm of a - b relative to that of b."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def table(rows: list[Row]) -> str:
    """Return the rows for people."""
    lines = [f"{'case':<10} K  {'explicit chain against':<36} error      allowed"]
    for row in rows:
        verdict = "ok" if row.passed else "WRONG"
        lines.append(
            f"{row.case:<10} {row.steps}  {row.against:<36} {row.error:.1e}"
            f"    {row.tolerance:.0e}  {verdict}"
        )
    return "\n".join(lines)
