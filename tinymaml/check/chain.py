"""The verifier: is a meta-gradient exact, and how much of it is second order?

`verify` judges this library's chain on a problem, in float64, by ways that share less and
less with it. `classify`, from its own file, judges anybody's meta-gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import autograd.numpy as anp
import numpy as np
from autograd import grad, make_hvp

from tinymaml import maml
from tinymaml.check.classify import classify
from tinymaml.check.differences import (
    NUMERIC,
    difference,
    directions,
    remainder_rate,
    slopes_error,
)
from tinymaml.experiments import MODULES
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Problem, drawn, stream
from tinymaml.maml import Task
from tinymaml.params import Shapes, spans


Array = np.ndarray

__all__ = ["classify", "second_order_part", "verify", "verify_experiment"]

DIRECTIONS = 8
# Two exact ways differ by rounding: some thousand operations of 1e-16 each.
ROUNDING = 1e-12
FIRST_RATE, SECOND_RATE = (1.9, 2.1), (2.8, 3.2)


class Row(NamedTuple):
    """One check: what was measured, the figure, and the range that it must lie in."""

    check: str
    figure: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether the figure is a number within its range."""
        return bool(self.low <= self.figure <= self.high)


class Layer(NamedTuple):
    """How much of one array's meta-gradient is second order.

    relative: |exact - first order| / |exact|; cosine: between the two.
    """

    name: str
    relative: float
    cosine: float


class Report(NamedTuple):
    """What was found on one experiment."""

    title: str
    rows: list[Row]
    layers: list[Layer]

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.rows)

    def __str__(self) -> str:
        lines = [f"{self.title:<44} figure     allowed"]
        for row in self.rows:
            allowed = (
                f"<= {row.high:.0e}" if not row.low else f"{row.low:g} to {row.high:g}"
            )
            figure = f"{row.figure:.1e}" if not row.low else f"{row.figure:.2f}"
            verdict = "ok" if row.passed else "WRONG"
            lines.append(f"  {row.check:<42} {figure:<9}  {allowed:<13} {verdict}")
        if self.layers:
            lines.append("second-order part of the meta-gradient       share      cosine")
        for layer in self.layers:
            share = f"{100 * layer.relative:.1f} %"
            lines.append(f"  {layer.name:<42} {share:<9}  {layer.cosine:.4f}")
        return "\n".join(lines)

    def as_dict(self) -> dict:
        """Return the same for machines; a figure that is not a number is null."""
        rows = [
            {**row._asdict(), "figure": _number(row.figure), "passed": row.passed}
            for row in self.rows
        ]
        layers = [
            {**layer._asdict(), "cosine": _number(layer.cosine)} for layer in self.layers
        ]
        return {"title": self.title, "passed": self.passed, "rows": rows, "layers": layers}


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


class Case(NamedTuple):
    """What to check: tasks side by side, where, with which step size and how many steps."""

    shapes: Shapes
    theta: Array
    task: Task
    alpha: float | Array
    steps: int

    @property
    def args(self) -> tuple[Array, Task, float | Array, int]:
        """What the functions of maml take."""
        return self.theta, self.task, self.alpha, self.steps


def case_of(problem: Problem, tasks: int, steps: int) -> Case:
    """Return a problem's first training tasks of seed 0, at a generic theta (tasks, P)."""
    episodes = drawn(problem, 0, "train", 0, range(tasks))
    init = stream(0, "init", 0, 0)
    theta = np.stack([problem.model.init(init) for _ in range(tasks)])
    # Off the zeros, where mistakes could hide.
    theta += 0.1 * init.standard_normal(theta.shape)
    return Case(problem.model.shapes, theta, problem.task(episodes), problem.alpha, steps)


def verify_experiment(config: Config) -> Report:
    """Verify the meta-gradient of an experiment with these options, in float64.

    Raises what its `setup` raises.
    """
    config = config.with_changes({"dtype": "float64", "activation": "relu"})
    rough, smooth = (
        case_of(MODULES[config.name].stand_in(wanted), config.tasks, config.inner_steps)
        for wanted in (config, config.with_changes({"activation": "tanh"}))
    )
    title = f"{config.name}, K = {config.inner_steps}, P = {rough.theta.shape[-1]}"
    return Report(title, verify(rough, smooth), second_order_part(rough))


def query_after(theta: Array, task: Task, alpha: float | Array, steps: int) -> Array:
    """Return Q(theta_K): what the meta-gradient is the gradient of."""
    theta_k = maml.adapt(theta, task, alpha, steps)
    return anp.sum(task.query(theta_k)(theta_k))


def verify(case: Case, smooth: Case) -> list[Row]:
    """Return one row for each check of the explicit chain on a case in float64.

    smooth: the same with a smooth activation, for the Taylor remainders: with relu the
    inner gradient jumps at a kink, so that Q(theta_K) is not even continuous there
    """
    theta, *rest = case.args
    _, exact = maml.meta_gradient(*case.args)
    _, frugal = maml.meta_gradient_low_memory(*case.args)
    unrolled = grad(query_after)(theta, *rest)
    ways = directions(np.random.default_rng(0), theta.shape, DIRECTIONS)
    slopes = slopes_error(lambda at: float(query_after(at, *rest)), theta, ways, exact)
    return [
        Row("autodiff through the unrolled loop", difference(exact, unrolled), 0, ROUNDING),
        Row("the low-memory chain", difference(exact, frugal), 0, ROUNDING),
        Row(f"central differences, {DIRECTIONS} directions", slopes, 0, NUMERIC),
        *_remainder_rows(smooth),
        *_hvp_rows(case),
    ]


def _remainder_rows(case: Case) -> list[Row]:
    theta, *rest = case.args
    _, exact = maml.meta_gradient(*case.args)
    meta_hvp, _ = make_hvp(lambda at: query_after(at, *rest))(theta)
    first, second = [], []
    for way in directions(np.random.default_rng(0), theta.shape, DIRECTIONS):
        terms = np.sum(exact * way), np.sum(way * meta_hvp(way))
        value = lambda at: float(query_after(at, *rest))  # noqa: E731
        first.append(remainder_rate(value, theta, way, terms[0]))
        second.append(remainder_rate(value, theta, way, *terms))
    return [
        Row("rate of the first Taylor remainder", float(np.median(first)), *FIRST_RATE),
        Row(
            "rate of the second, with the meta-HVP", float(np.median(second)), *SECOND_RATE
        ),
    ]


def _hvp_rows(case: Case) -> list[Row]:
    hvp, _ = maml.hvp_and_gradient(case.task.support(case.theta), case.theta)
    u, v = directions(np.random.default_rng(1), case.theta.shape, 2)
    hu, hv, both = hvp(u), hvp(v), hvp(2.0 * u + v)
    # By the sizes of the factors: the products themselves may nearly vanish.
    scale = np.linalg.norm(hu) + np.linalg.norm(hv) or 1.0
    symmetry = abs(np.sum(u * hv) - np.sum(v * hu)) / scale
    linearity = np.linalg.norm(both - (2.0 * hu + hv)) / scale
    return [
        Row("symmetry of the Hessian product", float(symmetry), 0, ROUNDING),
        Row("linearity of the Hessian product", float(linearity), 0, ROUNDING),
    ]


def second_order_part(case: Case) -> list[Layer]:
    """Return how much of each array's meta-gradient first-order MAML leaves out."""
    _, exact = maml.meta_gradient(*case.args)
    _, first = maml.first_order(*case.args)
    layers = [
        _layer(name, exact[..., span], first[..., span])
        for name, span in spans(case.shapes).items()
    ]
    return [*layers, _layer("all", exact, first)]


def _layer(name: str, exact: Array, first: Array) -> Layer:
    sizes = np.linalg.norm(exact), np.linalg.norm(first)
    cosine = np.sum(exact * first) / (sizes[0] * sizes[1]) if all(sizes) else float("nan")
    return Layer(name, difference(first, exact), float(cosine))
