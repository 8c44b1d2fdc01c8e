"""The verifier: is an algorithm's gradient exact, and how much of it is second order?

`verify` compares it, in float64, with ways that share less and less with it. `classify`,
in its own file, judges anybody's meta-gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import autograd.numpy as anp
import numpy as np
from autograd import grad, make_hvp

from tinymaml import maml, params
from tinymaml.algorithms.algorithm import Algorithm
from tinymaml.check.differences import (
    NUMERIC,
    difference,
    directions,
    remainder_rate,
    slopes_error,
)
from tinymaml.errors import UsageError
from tinymaml.fewshot import Problem, drawn, stream
from tinymaml.maml import Task


Array = np.ndarray

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
    """What to check: an algorithm at w (T, M), on T tasks of a problem side by side."""

    method: Algorithm
    problem: Problem
    w: Array
    task: Task

    @property
    def args(self) -> tuple[Array, Task, Problem]:
        """What the functions of an algorithm take."""
        return self.w, self.task, self.problem

    @property
    def gradient(self) -> Array:
        """The gradient by w (T, M) that the algorithm returns."""
        return self.method.gradient(*self.args)[1]

    def objective(self, w: Array) -> Array:
        """Return the loss that it should be the gradient of, summed over the tasks."""
        return anp.sum(self.method.objective(w, self.task, self.problem))


def case_of(method: Algorithm, problem: Problem, tasks: int) -> Case:
    """Return the first training tasks of seed 0, at a generic w."""
    episodes = drawn(problem, 0, "train", 0, range(tasks))
    rng = stream(0, "init", 0, 0)
    w = np.stack([method.init(rng, problem) for _ in range(tasks)])
    # Off the zeros, where mistakes could hide. Step sizes and the like keep their size.
    noise, size = 0.1 * rng.standard_normal(w.shape), params.count(problem.model.shapes)
    w[:, :size] += noise[:, :size]
    w[:, size:] *= 1 + noise[:, size:]
    return Case(method, problem, w, problem.task(episodes))


def verify(
    title: str, method: Algorithm, rough: Problem, smooth: Problem, tasks: int
) -> Report:
    """Verify the gradient of an algorithm on a problem in float64.

    smooth: the same with a smooth activation, for the Taylor remainders: with relu the
        inner gradient jumps at a kink, so that the objective is not even continuous there
    Raises UsageError when the algorithm has no objective.
    """
    if method.objective is None:
        raise UsageError(f"{method.name} is the gradient of no function; nothing to check")
    case = case_of(method, rough, tasks)
    rows = [*_gradient_rows(case), *_remainder_rows(case_of(method, smooth, tasks))]
    if method.inner_loop:
        rows += _hvp_rows(case)
    title = f"{title}, K = {rough.options.inner_steps}, P = {case.w.shape[-1]}"
    return Report(title, rows, second_order_part(case))


def _gradient_rows(case: Case) -> list[Row]:
    """Return one row for each other way to the gradient."""
    exact, unrolled = case.gradient, grad(case.objective)(case.w)
    ways = directions(np.random.default_rng(0), case.w.shape, DIRECTIONS)
    slopes = slopes_error(lambda at: float(case.objective(at)), case.w, ways, exact)
    rows = [
        Row("autodiff through the unrolled loop", difference(exact, unrolled), 0, ROUNDING)
    ]
    if twin := case.method.twin:
        name = twin.__name__.replace("_", "-")
        _, same = twin(*case.args)
        rows.append(Row(f"the {name} chain", difference(exact, same), 0, ROUNDING))
    return [*rows, Row(f"central differences, {DIRECTIONS} directions", slopes, 0, NUMERIC)]


def _remainder_rows(case: Case) -> list[Row]:
    exact = case.gradient
    meta_hvp, _ = make_hvp(case.objective)(case.w)
    first, second = [], []
    for way in directions(np.random.default_rng(0), case.w.shape, DIRECTIONS):
        terms = np.sum(exact * way), np.sum(way * meta_hvp(way))
        value = lambda at: float(case.objective(at))  # noqa: E731
        first.append(remainder_rate(value, case.w, way, terms[0]))
        second.append(remainder_rate(value, case.w, way, *terms))
    return [
        Row("rate of the first Taylor remainder", float(np.median(first)), *FIRST_RATE),
        Row(
            "rate of the second, with the meta-HVP", float(np.median(second)), *SECOND_RATE
        ),
    ]


def _hvp_rows(case: Case) -> list[Row]:
    (theta,) = case.method.adapt(*case.args, 0)
    hvp, _ = maml.hvp_and_gradient(case.task.support(theta), theta)
    u, v = directions(np.random.default_rng(1), theta.shape, 2)
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
    """Return how much of each array's gradient is lost without Hessian products."""
    if case.method.first_order is None:
        return []
    exact, (_, first) = case.gradient, case.method.first_order(*case.args)
    layers = [
        _layer(name, exact[..., span], first[..., span])
        for name, span in params.spans(case.method.shapes(case.problem)).items()
    ]
    return [*layers, _layer("all", exact, first)]


def _layer(name: str, exact: Array, first: Array) -> Layer:
    sizes = np.linalg.norm(exact), np.linalg.norm(first)
    cosine = np.sum(exact * first) / (sizes[0] * sizes[1]) if all(sizes) else float("nan")
    return Layer(name, difference(first, exact), float(cosine))
