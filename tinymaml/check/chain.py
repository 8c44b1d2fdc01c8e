"""The verifier: is an algorithm's gradient exact, and how much of it is second order?

`verify` compares it in float64 with other ways to compute it. They share less and less
code with it. `classify`, in its own file, takes the meta-gradient of any framework.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import autograd.numpy as anp
import numpy as np
from autograd import grad, make_hvp

from tinymaml import maml, params
from tinymaml.algorithms.algorithm import Algorithm
from tinymaml.check import implicit
from tinymaml.check.differences import (
    NUMERIC,
    difference,
    directions,
    quiet,
    relative,
    remainder_rate,
    slopes_error,
)
from tinymaml.check.mixing import mixing
from tinymaml.errors import UsageError
from tinymaml.fewshot import Episode, Problem, drawn, stream
from tinymaml.maml import Array, Task
from tinymaml.summary import finite, lacking


DIRECTIONS = 8
# Exact ways differ by rounding only: some thousand operations of 1e-16 each.
ROUNDING = 1e-12
FIRST_RATE, SECOND_RATE = (1.9, 2.1), (2.8, 3.2)


class Row(NamedTuple):
    """One check: what was measured, the figure, and the range it must lie in."""

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
    """The results on one experiment."""

    title: str
    rows: list[Row]
    layers: list[Layer]

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.rows)

    def as_dict(self) -> dict:
        """Return the report for JSON. Figures that are not finite become None."""
        rows = [row._asdict() | {"passed": row.passed} for row in self.rows]
        layers = [layer._asdict() for layer in self.layers]
        found = {"title": self.title, "passed": self.passed, "rows": rows, "layers": layers}
        return finite(found)


class Case(NamedTuple):
    """An algorithm to check at w (T, M), on T tasks of a problem side by side."""

    method: Algorithm
    problem: Problem
    w: Array
    task: Task
    episodes: Episode

    @property
    def args(self) -> tuple[Array, Task, Problem]:
        """The arguments of the algorithm's functions."""
        return self.w, self.task, self.problem

    @property
    def gradient(self) -> Array:
        """The algorithm's gradient by w (T, M)."""
        return self.method.gradient(*self.args)[1]

    def objective(self, w: Array) -> Array:
        """Return the algorithm's objective, summed over the tasks."""
        if self.method.objective is None:
            raise UsageError(f"{self.method.name} has no objective")
        return anp.sum(self.method.objective(w, self.task, self.problem))


def case_of(method: Algorithm, problem: Problem, tasks: int) -> Case:
    """Return the first training tasks of seed 0, at a generic w."""
    episodes = drawn(problem, 0, "train", 0, range(tasks))
    rng = stream(0, "init", 0, 0)
    w = np.stack([method.init(rng, problem) for _ in range(tasks)])
    # Mistakes could hide at zeros. Step sizes and the like keep their size.
    noise, size = 0.1 * rng.standard_normal(w.shape), params.count(problem.model.shapes)
    w[:, :size] += noise[:, :size]
    rest = w[:, size:]
    rest += noise[:, size:] * np.where(rest == 0, 1, rest)
    return Case(method, problem, w, problem.task(episodes), episodes)


Collect = Callable[[Iterable[Row]], list[Row]]


@quiet
def verify(
    title: str,
    method: Algorithm,
    rough: Problem,
    smooth: Problem,
    tasks: int,
    collect: Collect = list,
) -> Report:
    """Verify the gradient of an algorithm on a problem in float64.

    smooth: the problem with a smooth activation, for the Taylor remainders. With relu the
        inner gradient jumps at a kink, and so does the objective
    collect(rows): the list of the rows, each of which is measured when it is asked for
    Raises UsageError when the algorithm has neither an objective nor `implicit`.
    """
    if method.objective is None and method.implicit is None:
        raise UsageError(f"{method.name} has no objective, so there is nothing to check")
    case = case_of(method, rough, tasks)
    if missing := lacking(case.gradient):
        return Report(title, [Row(f"gradient: {missing}", np.nan, 0, ROUNDING)], [])
    # Of two tasks, whatever their number: more take as long, and one has no neighbour.
    beside = case_of(method, rough, 2)
    rows = collect(_rows(case, case_of(method, smooth, tasks), beside))
    steps = f", K = {rough.options.inner_steps}" if method.inner_loop else ""
    title = f"{title}{steps}, P = {case.w.shape[-1]}"
    return Report(title, rows, second_order_part(case))


def _rows(case: Case, curved: Case, beside: Case) -> Iterator[Row]:
    """Yield every check.

    curved: the case with a smooth activation; beside: the case with two tasks
    """
    if case.method.objective is None:
        args = curved.method, curved.problem, curved.w, curved.task
        yield from (Row(*figure) for figure in implicit.figures(*args))
    else:
        yield from _gradient_rows(case)
        yield from _remainder_rows(curved)
    if case.method.inner_loop:
        yield from _hvp_rows(case)
    yield _mixing_row(beside)


def _gradient_rows(case: Case) -> Iterator[Row]:
    """Yield one row for each other way to the gradient."""
    exact, unrolled = case.gradient, grad(case.objective)(case.w)
    error = difference(exact, unrolled)
    yield Row("autodiff through the unrolled loop", error, 0, ROUNDING)
    if twin := case.method.twin:
        name = twin.__name__.replace("_", "-")
        _, same = twin(*case.args)
        yield Row(f"the {name} chain", difference(exact, same), 0, ROUNDING)
    ways = directions(np.random.default_rng(0), case.w.shape, DIRECTIONS)
    error = slopes_error(lambda at: float(case.objective(at)), case.w, ways, exact)
    yield Row(f"central differences, {DIRECTIONS} directions", error, 0, NUMERIC)


def _remainder_rows(case: Case) -> list[Row]:
    exact = case.gradient
    meta_hvp, _ = make_hvp(case.objective)(case.w)
    rates = []
    for way in directions(np.random.default_rng(0), case.w.shape, DIRECTIONS):
        terms = np.sum(exact * way), np.sum(way * meta_hvp(way))
        measured = lambda at: float(case.objective(at)), case.w, way
        rates.append([remainder_rate(*measured, *terms[:n]) for n in (1, 2)])
    first, second = (float(rate) for rate in np.median(rates, axis=0))
    return [
        Row("rate of the first Taylor remainder", first, *FIRST_RATE),
        Row("rate of the second, with the meta-HVP", second, *SECOND_RATE),
    ]


def _hvp_rows(case: Case) -> list[Row]:
    start = np.stack([case.method.start(w, case.problem) for w in case.w])
    (theta,) = case.method.adapt(start, case.task, case.problem, 0)
    hvp, _ = maml.hvp_and_gradient(case.task.support(theta), theta)
    u, v = directions(np.random.default_rng(1), theta.shape, 2)
    hu, hv, both = hvp(u), hvp(v), hvp(2.0 * u + v)
    # Relative to the factors, since the products themselves may nearly vanish.
    scale = np.linalg.norm(hu) + np.linalg.norm(hv)
    symmetry = relative(abs(np.sum(u * hv) - np.sum(v * hu)), scale)
    linearity = relative(np.linalg.norm(both - (2.0 * hu + hv)), scale)
    return [
        Row("symmetry of the Hessian product", symmetry, 0, ROUNDING),
        Row("linearity of the Hessian product", linearity, 0, ROUNDING),
    ]


def _mixing_row(case: Case) -> Row:
    def gradients(some: slice) -> Array:
        episodes = Episode(*(array[some] for array in case.episodes))
        return case._replace(w=case.w[some], task=case.problem.task(episodes)).gradient

    figure = mixing(gradients, len(case.w))
    return Row("a task beside another, against it alone", figure, 0, ROUNDING)


def second_order_part(case: Case) -> list[Layer]:
    """Return how much of each array's gradient needs Hessian products."""
    if case.method.first_order is None:
        return []
    exact, (_, first) = case.gradient, case.method.first_order(*case.args)
    spans = params.spans(case.method.shapes(case.problem)) | {"all": slice(None)}
    return [_layer(name, exact[..., at], first[..., at]) for name, at in spans.items()]


def _layer(name: str, exact: Array, first: Array) -> Layer:
    sizes = np.linalg.norm(exact), np.linalg.norm(first)
    cosine = relative(np.sum(exact * first), np.prod(sizes)) if all(sizes) else np.nan
    return Layer(name, difference(first, exact), cosine)
