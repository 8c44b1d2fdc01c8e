"""The proof of a gradient at a minimum, for algorithms that have `Implicit`.

The inner problem is solved to rounding here, by gradients alone. The gradient at its
minimum is then compared with differences of the minimum's query loss, with the implicit
function theorem on dense matrices, and with the chain through more and more inner steps.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import autograd.numpy as anp
import numpy as np
from autograd import grad

from tinymaml import chain, maml
from tinymaml.algorithms.algorithm import Algorithm, Implicit
from tinymaml.algorithms.learned import moved
from tinymaml.check.differences import NUMERIC, difference, directions, slopes_error
from tinymaml.fewshot import Problem
from tinymaml.maml import Array, Task


# The support loss is scaled at w to this curvature, relative to that of R, the pull to w.
# The minimum is then near and well conditioned for any lambda; the formula is the same.
CURVATURE = 0.5
# Search steps at most, and the gradient that is left, relative to the first.
MOST_STEPS, SOLVED = 300, 1e-8
SOLVER_STEPS = 40
DIRECTIONS = 3
DENSE, LARGEST = 1e-8, 2000  # parameters of a dense Hessian
SHORT, LONG = 6, 24  # inner steps
# Derivatives of k steps are off by about k rate^k, which is 8 % a step, and the curvature
# on the way is not that of the minimum. Wrong chains do not converge.
CONVERGED, RATE = 1e-3, (0.1, 1.15)
ROUNDING, RESOLUTION = 1e-12, 1e-15

Figure = tuple[str, float, float, float]  # a check, its figure, the least and the most


def _implicit(method: Algorithm) -> Implicit:
    if method.implicit is None:
        raise TypeError(f"{method.name} does not differentiate a minimum")
    return method.implicit


class Inner(NamedTuple):
    """An algorithm's inner problem on tasks side by side; w (T, P)."""

    method: Algorithm
    problem: Problem
    task: Task

    @property
    def moved(self) -> Array:
        """(P,) with 1 for the parameters that inner steps change, and 0 elsewhere."""
        return moved(self.problem)

    def near(self, w: Array) -> Task:
        """Return the task of the inner problem of w."""
        return _implicit(self.method).inner(w, self.task, self.problem)

    def slope(self, phi: Array, w: Array) -> Array:
        """Return the inner loss's gradient at phi (T, P)."""
        return grad(self.near(w).support(phi))(phi)

    def hvp(self, phi: Array, w: Array) -> maml.Hvp:
        """Return the product with the inner loss's Hessian at phi."""
        return maml.hvp_and_gradient(self.near(w).support(phi), phi)[0]

    def by_w(self, u: Array, phi: Array, w: Array) -> Array:
        """Return the gradient by w, with phi held, of u' slope(phi, w) (T, P)."""
        return grad(lambda at: anp.sum(u * self.slope(phi, at)))(w)

    def pull(self, w: Array) -> float:
        """Return the curvature of R at w along a random direction: lambda."""
        (u,) = directions(np.random.default_rng(0), w.shape, 1)
        return float(-np.sum(u * self.by_w(u, w, w)))

    def minimum(self, w: Array, start: Array, left: float) -> Array:
        """Return the minimum (T, P) by the method of Barzilai & Borwein (1988).

        left: the gradient at which the search ends, relative to that at the start
        """
        phi = self.moved * start + (1 - self.moved) * w
        slope, step = self.moved * self.slope(phi, w), 0.5 / self.pull(w)
        least, still = left * np.linalg.norm(slope), RESOLUTION * np.linalg.norm(phi)
        for k in range(MOST_STEPS):
            way = -step * slope
            if np.linalg.norm(slope) <= least or np.linalg.norm(way) <= still:
                break
            phi, before = phi + way, slope
            slope = self.moved * self.slope(phi, w)
            change = slope - before
            across = abs(np.sum(way * change))
            if not across:
                break
            step = across / np.sum(change**2) if k % 2 else np.sum(way**2) / across
        return phi


def figures(method: Algorithm, problem: Problem, w: Array, task: Task) -> Iterator[Figure]:
    """Yield every check of an algorithm that has `Implicit`, in float64.

    problem: one with a smooth activation
    """
    found = method.gradient(w, task, problem)[1]
    last = method.adapt(w, task, problem, problem.options.inner_steps)[-1]
    implicit = _implicit(method)
    same = implicit.gradient(last, w, task, problem)[1]
    yield "gradient at the last inner step", difference(found, same), 0, ROUNDING
    case = eased(Inner(method, problem, task), w)
    args = w, case.task, problem
    phi = case.minimum(w, w, SOLVED**1.5)
    size = np.linalg.norm(case.moved * case.slope(w, w))
    left = float(np.linalg.norm(case.moved * case.slope(phi, w)) / size)
    yield "inner problem: gradient at the minimum", left, 0, SOLVED
    _, gradient, residual, *_ = implicit.gradient(phi, *args, SOLVER_STEPS)
    yield f"residual after {SOLVER_STEPS} solver steps", residual.max(), 0, SOLVED
    hvp = case.hvp(phi, w)
    lowest, *_, highest = curvatures(lambda u: case.moved * hvp(u), case.moved + 0 * w)
    _, few, residual, *_ = implicit.gradient(phi, *args)
    # The error falls in the norm of the system: |r| <= sqrt(highest / lowest) |q|.
    bound = float(np.sqrt(highest / lowest))
    yield "solver steps as in training: residual", residual.max(), 0, bound
    error = difference(case.moved * few, case.moved * gradient)
    yield "solver steps as in training: error", error, 0, 1
    value = lambda at: query_at(case, case.minimum(at, phi, SOLVED**1.25))  # noqa: E731
    ways = directions(np.random.default_rng(0), w.shape, DIRECTIONS)
    error = slopes_error(value, w, ways, gradient)
    yield f"differences of the minimum, {DIRECTIONS} directions", error, 0, NUMERIC
    if case.moved.sum() <= LARGEST:
        error = difference(dense(case, phi, w), gradient)
        yield "implicit function theorem, dense matrices", error, 0, DENSE
    yield from _convergence(case, w, (phi, gradient), (lowest, highest))


def _convergence(
    case: Inner, w: Array, limits: tuple[Array, Array], ends: tuple[float, float]
) -> Iterator[Figure]:
    """Yield how inner steps, and the gradient through them, approach their limits.

    limits: the minimum and the gradient there; ends: the least and largest curvature there
    """
    (phi, gradient), (lowest, highest) = limits, ends
    alpha = 1 / highest
    case = case._replace(problem=case.problem._replace(alpha=alpha * case.moved))
    thetas = case.method.adapt(w, case.task, case.problem, LONG)
    steps = [difference(thetas[k], phi) for k in (SHORT, LONG)]
    chains = [difference(unrolled(case, w, k), gradient) for k in (SHORT, LONG)]
    for name, (short, long) in (("inner steps", steps), ("unrolled chain", chains)):
        yield f"{name}: error after {SHORT}", short, 0, 1
        yield f"{name}: error after {LONG}", long, 0, CONVERGED
        if long <= ROUNDING:
            continue  # the rate is that of rounding
        rate = (long / short) ** (1 / (LONG - SHORT))
        yield f"{name}: rate over max |1 - a h|", rate / (1 - alpha * lowest), *RATE


def eased(case: Inner, w: Array) -> Inner:
    """Return the case with its support loss scaled to CURVATURE at w (T, P)."""
    hvp, _ = maml.hvp_and_gradient(case.task.support(w), w)
    curvature = np.abs(curvatures(hvp, np.ones_like(w))).max()
    factor = CURVATURE * case.pull(w) / (curvature or 1.0)
    return case._replace(task=scaled(case.task, factor))


def scaled(task: Task, factor: float) -> Task:
    """Return the task with its support loss times a factor."""

    def support(at: Array) -> maml.Loss:
        loss = task.support(at)
        return lambda theta: factor * loss(theta)

    return Task(support, task.query)


def query_at(case: Inner, phi: Array) -> float:
    """Return the query loss at phi."""
    return float(case.task.query(phi)(phi))


def unrolled(case: Inner, w: Array, steps: int) -> Array:
    """Return the exact gradient by w of the query loss after so many inner steps (T, P).

    It is the chain of the inner problem. Since w is in each of its losses, every step adds
    the derivative of -alpha_k v_{k+1}' (inner gradient) by w: for lambda/2 |phi - w|^2,
    lambda alpha_k v_{k+1}.
    """
    alphas = maml._step_sizes(case.problem.alpha, w, steps)
    maps = [chain.Linear(*[partial(np.multiply, alpha)] * 2) for alpha in alphas]
    trail, phis = chain.forward(w, case.near(w), maps)
    _, v = maml.value_and_gradient(case.task.query(phis[-1]), phis[-1])
    total, later = chain.back(trail, v)
    for alpha, phi, v in zip(alphas, phis, later, strict=False):
        total = total - case.by_w(alpha * v, phi, w)
    return total


def dense(case: Inner, phi: Array, w: Array) -> Array:
    """Return the gradient by w at the minimum phi (T, P), with Hessians as matrices."""
    hvp = case.hvp(phi, w)
    _, q = maml.value_and_gradient(case.task.query(phi), phi)
    at = np.flatnonzero(case.moved)
    columns = [hvp(np.broadcast_to(row, w.shape)) for row in np.eye(w.shape[-1])[at]]
    hessians = np.stack(columns, axis=-1)[..., at, :]
    y = np.zeros_like(w)
    y[..., at] = np.linalg.solve(hessians, q[..., at, None])[..., 0]
    return (1 - case.moved) * (q - hvp(y)) - case.by_w(y, phi, w)


def curvatures(product: Callable[[Array], Array], rows: Array, number: int = 40) -> Array:
    """Return eigenvalues of a symmetric map, ascending, by the method of Lanczos (1950).

    product: (T, P) -> (T, P), taken as one map of T P numbers
    rows: (T, P), 0 where the map is not looked at
    The first and the last are the least and the largest, to a few digits; nan for a map
    whose products are not finite.
    """
    start = rows * np.random.default_rng(0).standard_normal(rows.shape)
    basis, found = [start / np.linalg.norm(start)], []
    for _ in range(min(number, int(np.count_nonzero(start)))):
        new = product(basis[-1])
        found.append([np.sum(new * old) for old in basis])
        for old in [*basis, *basis]:  # twice, against rounding
            new = new - np.sum(new * old) * old
        if not np.isfinite(new).all():
            return np.full(2, np.nan)
        if np.linalg.norm(new) <= ROUNDING * np.abs(found[-1]).max():
            break
        basis.append(new / np.linalg.norm(new))
    matrix = np.zeros((len(found), len(found)))
    for k, row in enumerate(found):
        matrix[k, : k + 1] = matrix[: k + 1, k] = row
    return np.linalg.eigvalsh(matrix)
