"""The inner loop as it was meant, and what a gradient is when the program deviates from it."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tinymaml.check.differences import Slopes, agrees, rounding, slope, slopes, typical
from tinymaml.check.suspects import CLOSE, FEW, Evidence, Suspect, fit
from tinymaml.maml import Array


# Other numbers of steps, and step sizes, that are tried.
MORE, FACTORS = 2, (0.5, 2.0, 0.1, 10.0, -1.0, 0.25, 4.0, 0.2, 5.0, 0.01, 100.0, 1 / 3, 3.0)
# Up to so many steps every subset of them is tried without its second-order term.
SUBSETS = 4
# A gradient by differences costs two losses for each entry.
LARGEST = 3000
# Two values of the same loss.
EQUAL = 1e-9


class Loop(NamedTuple):
    """The inner loop on vectors (P,).

    step: theta_k -> theta_{k+1}; steps: K; query: Q(theta); alpha: the step size, if known
    """

    step: Callable[[Array], Array]
    steps: int
    query: Callable[[Array], float] | None
    alpha: float | None = None

    def path(self, theta: Array, steps: int | None = None) -> list[Array]:
        """Return theta_0, ..., theta_K."""
        thetas = [theta]
        for _ in range(self.steps if steps is None else steps):
            thetas.append(self.step(thetas[-1]))
        return thetas

    def loss(self, theta: Array) -> float:
        """Return Q(theta_K)."""
        return self.query(self.path(theta)[-1])

    def scaled(self, factor: float) -> "Loop":
        """Return the loop with the step size times a factor."""
        return self._replace(step=lambda theta: theta + factor * (self.step(theta) - theta))

    def on_query(self) -> "Loop":
        """Return the loop that takes its steps on the query loss."""
        return self._replace(
            step=lambda theta: theta - self.alpha * by_entries(self.query, theta)
        )


def by_entries(function: Callable[[Array], float], at: Array) -> Array:
    """Return the gradient (P,) of a function at a point, from five values per entry."""
    step = 1e-3 * np.linalg.norm(at) / np.sqrt(at.size) or 1e-3
    found = np.empty_like(at)
    for entry in range(at.size):
        shift = np.zeros_like(at)
        shift[entry] = step
        far, near = (function(at + n * shift) - function(at - n * shift) for n in (2, 1))
        found[entry] = (8 * near - far) / (12 * step)
    return found


def of_state(loop: Loop, at: Array) -> Iterator[Suspect]:
    """Yield a query loss that an inner step changes though its theta does not."""
    before, again = loop.query(at), loop.query(at)
    loop.step(at)
    after = loop.query(at)
    change = abs(after - before) / (max(abs(before), abs(after)) or 1.0)
    if before == again and change > 1e-12:
        text = f"an inner step changes query_loss at the same theta by {change:.1e}:"
        yield Suspect("shared", f"{text} statistics shared by support and query?", change)


def of_values(evidence: Evidence, loop: Loop) -> Iterator[Suspect]:
    """Yield how the meta-loss differs from Q(theta_K) of the loop as it was meant."""
    value, at = evidence.program.value, evidence.at
    elsewhere = [at, at + 0.01 * np.linalg.norm(at) * evidence.ways[0]]
    seen = [value(point) for point in elsewhere]
    noise = 100 * evidence.noise

    def off(other: Loop) -> float:
        found = [other.loss(point) for point in elsewhere]
        gaps = [abs(a - b) for a, b in zip(seen, found, strict=True)]
        return max(gaps) / (max(map(abs, seen)) or 1.0) if max(gaps) > noise else 0.0

    error = off(loop)
    if not error > EQUAL:
        return
    for cause, text, other in deviations(loop, at.size, _factor(loop, at, seen[0])):
        if (rest := off(other)) < EQUAL:
            yield Suspect(cause, f"meta_loss {text}: agrees to {rest:.1e}", rest)
            return
    text = f"meta_loss is not query_loss after {loop.steps} inner steps: off by {error:.1e}"
    yield Suspect("another loss", text, error)


def _factor(loop: Loop, at: Array, value: float) -> Callable[[float], float]:
    return lambda factor: loop.scaled(factor).loss(at) - value


def deviations(
    loop: Loop, size: int, mismatch: Callable[[float], float]
) -> Iterator[tuple[str, str, Loop]]:
    """Yield (cause, text, loop) of loops that programs run by mistake.

    mismatch: factor of the step size -> how far a figure is from the program's, signed
    """
    for steps in range(max(0, loop.steps - MORE), loop.steps + MORE + 1):
        if steps != loop.steps:
            text = f"takes {steps} inner steps, not {loop.steps}"
            yield "steps", text, loop._replace(steps=steps)
    if loop.steps > MORE:
        yield "steps", f"takes 0 inner steps, not {loop.steps}", loop._replace(steps=0)
    for factor in (*FACTORS, *_roots(mismatch)):
        text = f"has inner steps of {factor:.4g} times the size"
        yield "step size", text, loop.scaled(factor)
    if loop.alpha is not None and size <= LARGEST:
        yield "query data", "takes its inner steps on the query data", loop.on_query()


def _roots(mismatch: Callable[[float], float]) -> list[float]:
    """Return factors near 1 at which the mismatch changes its sign, by bisection."""
    grid = np.array([-2, -1.5, -0.5, 0.05, 0.3, 0.7, 0.95, 1.05, 1.4, 2.5, 6.0, 15.0])
    with np.errstate(all="ignore"):
        values = [mismatch(factor) for factor in grid]
    found = []
    for (low, at_low), (high, at_high) in itertools.pairwise(
        zip(grid, values, strict=True)
    ):
        if not (np.isfinite([at_low, at_high]).all() and at_low * at_high < 0):
            continue
        for _ in range(60):
            middle = (low + high) / 2
            at_middle = mismatch(middle)
            if at_low * at_middle <= 0:
                high = middle
            else:
                low, at_low = middle, at_middle
        found.append((low + high) / 2)
    return found


# ----- What the claimed gradient is the gradient of -----


class Terms(NamedTuple):
    """Slopes of Q at theta_K along u, where u went through the steps' Jacobians or not."""

    ways: list[Array]
    claimed: Array
    jumps: list[list[Array]]  # per direction: theta_0 .. theta_K
    loop: Loop

    def slopes(self, kept: tuple[bool, ...], last: Array) -> Slopes:
        """Return the slopes of a gradient that keeps the Jacobians of some steps."""
        path = self.loop.path(self.jumps[0][0])
        found = []
        noise = rounding(self.loop.query, last)
        for way in self.ways:
            u = way
            for theta, keeps in zip(path[:-1], kept, strict=True):
                if keeps:
                    u = slope(self.loop.step, theta, u / np.linalg.norm(u)).value * (
                        np.linalg.norm(u)
                    )
            length = np.linalg.norm(u) or 1.0
            one = slope(self.loop.query, last, u / length, noise)
            found.append((float(one.value) * length, one.doubt * length))
        values, doubts = np.array(found).T
        return Slopes(values, doubts)


def of_gradient(evidence: Evidence, loop: Loop) -> Iterator[Suspect]:
    """Yield which deviating loop has the claimed gradient."""
    at, ways = evidence.at, evidence.ways[:FEW]
    claimed = evidence.claimed[:FEW]
    terms = Terms(ways, claimed, [[at]], loop)
    last = loop.path(at)[-1]

    def close(predicted: Slopes) -> float:
        error = np.linalg.norm(claimed - predicted.values) / (
            np.linalg.norm(claimed) or 1.0
        )
        return float(error)

    first = terms.slopes((False,) * loop.steps, last)
    for kept in _subsets(loop.steps):
        found = terms.slopes(kept, last)
        if (error := close(found)) < CLOSE:
            yield Suspect("first-order", f"{_cut(kept)}: agrees to {error:.1e}", error)
            return
    exact = evidence.measured.values[:FEW]
    factor, rest = fit(claimed - first.values, exact - first.values)
    if rest < CLOSE and abs(factor - 1) > CLOSE and typical(first) > 0:
        text = f"its second-order term is {factor:.4g} times the exact one, to {rest:.1e}"
        yield Suspect("second-order term", text, rest)
        return
    for steps in range(loop.steps + MORE + 1):
        point = loop.path(at, steps)[-1]
        found = slopes(loop.query, point, ways)
        if steps != loop.steps and (error := close(found)) < CLOSE:
            text = (
                f"it is the query gradient after {steps} of {loop.steps} inner steps, with"
            )
            yield Suspect(
                "steps", f"{text}out second-order term: agrees to {error:.1e}", error
            )
            return

    def mismatch(factor: float) -> float:
        other = loop.scaled(factor)
        step = 1e-4 * np.linalg.norm(at)
        two = [other.loss(at + s * ways[0]) for s in (step, -step)]
        return (two[0] - two[1]) / (2 * step) - float(claimed[0])

    for cause, text, other in deviations(loop, at.size, mismatch):
        with np.errstate(all="ignore"):
            one = slopes(other.loss, at, ways[:1], evidence.noise)
        tolerance = 1e-2 if cause == "query data" else CLOSE
        if abs(one.values[0] - claimed[0]) > tolerance * np.linalg.norm(claimed):
            continue
        found = slopes(other.loss, at, ways, evidence.noise)
        if (error := close(found)) < CLOSE:
            yield Suspect(
                cause,
                f"it is the gradient of a loss that {text}: agrees to {error:.1e}",
                error,
            )
            return


def _subsets(steps: int) -> list[tuple[bool, ...]]:
    """Return which steps keep their Jacobian: first those with the fewest that do not."""
    if steps <= SUBSETS:
        every = itertools.product((True, False), repeat=steps)
        return sorted((kept for kept in every if not all(kept)), key=sum, reverse=True)
    single = [tuple(k != j for j in range(steps)) for k in range(steps)]
    heads = [tuple(j >= k for j in range(steps)) for k in range(2, steps + 1)]
    tails = [tuple(j < k for j in range(steps)) for k in range(1, steps - 1)]
    return [*single, *heads, *tails]


def _cut(kept: tuple[bool, ...]) -> str:
    gone = [k for k, keeps in enumerate(kept, start=1) if not keeps]
    if len(gone) == len(kept):
        return f"first-order in all {len(kept)} steps (no `create_graph`, or a detached gradient)"
    where = ", ".join(map(str, gone))
    return f"no `create_graph` in step {where} of {len(kept)} (or a detached gradient)"


def agreeing(claimed: Array, found: Slopes) -> bool:
    """Return whether slopes agree to the tolerance of predictions."""
    return agrees(claimed, found, CLOSE) is True
