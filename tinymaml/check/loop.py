"""The inner loop as it is meant, and the loops that programs run by mistake."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from tinymaml.check.calls import apart
from tinymaml.check.differences import five_points, size
from tinymaml.check.suspects import Evidence, Suspect
from tinymaml.check.trees import listed
from tinymaml.maml import Array


# Other numbers of steps, and step sizes, that are tried.
MORE, FACTORS = 2, (0.5, 2.0, 0.1, 10.0, -1.0, 0.25, 4.0, 0.2, 5.0, 0.01, 100.0, 1 / 3, 3.0)
Made = TypeVar("Made")  # a loop, or a number, made of a number
SAME_SIZE = 1e-3  # a factor that is as good as 1 explains nothing
# Grids on which a step size, a momentum, a weight decay and the length of clipped steps are
# bracketed, and how often a bracket shrinks at most.
SIZES = (-2, -1.5, -0.5, 0.05, 0.3, 0.7, 0.95, 1.05, 1.4, 2.5, 6.0, 15.0)
MOMENTA = (0.01, 0.1, 0.5, 0.9, 0.99, 1.5)
DECAYS = (-0.1, -1e-3, -1e-6, 1e-6, 1e-3, 0.03, 0.3)
LENGTHS = np.array([0.999, 0.7, 0.3, 0.1, 0.01, 1e-4])
ROUNDS = 40
# A gradient by differences costs four losses for each entry.
LARGEST = 1000
# Two values of the same loss.
EQUAL = 1e-9


class Loop(NamedTuple):
    """The inner loop on vectors (P,).

    step: theta_k -> theta_{k+1}; steps: K; query_loss, alpha: Q and the step size, if known
    momentum: the share of the step before that is added to each
    of_query: whether the steps are on the query data
    """

    step: Callable[[Array], Array]
    steps: int
    query_loss: Callable[[Array], float] | None
    alpha: float | None = None
    momentum: float = 0.0
    of_query: bool = False

    def query(self, theta: Array) -> float:
        """Return Q(theta)."""
        if self.query_loss is None:
            raise ValueError("query_loss was not given")
        return self.query_loss(theta)

    def path(self, theta: Array, steps: int | None = None) -> list[Array]:
        """Return theta_0, ..., theta_K."""
        thetas = [theta]
        for _ in range(self.steps if steps is None else steps):
            again = self.momentum * (thetas[-1] - thetas[-2]) if len(thetas) > 1 else 0.0
            thetas.append(self.step(thetas[-1]) + again)
        return thetas

    def loss(self, theta: Array) -> float:
        """Return Q(theta_K)."""
        return self.query(self.path(theta)[-1])

    def scaled(self, factor: float) -> "Loop":
        """Return the loop with the step size times a factor."""
        return self._replace(step=lambda theta: theta + factor * (self.step(theta) - theta))

    def adapting(self, moved: Array) -> "Loop":
        """Return the loop that moves some entries only. moved: (P,) of 0 and 1"""
        return self._replace(step=lambda theta: theta + moved * (self.step(theta) - theta))

    def decaying(self, factor: float) -> "Loop":
        """Return the loop whose steps also shrink theta by a factor of itself."""
        return self._replace(step=lambda theta: self.step(theta) - factor * theta)

    def clipped(self, length: float) -> "Loop":
        """Return the loop with steps of a length at most."""

        def step(theta: Array) -> Array:
            moved = self.step(theta) - theta
            return theta + moved * min(1.0, length / (np.linalg.norm(moved) or 1.0))

        return self._replace(step=step)

    def on_query(self) -> "Loop":
        """Return the loop that takes its steps on the query loss."""
        return self._replace(
            step=lambda theta: theta - self.alpha * by_entries(self.query, theta),
            of_query=True,
        )

    def gradient(self, theta: Array) -> Array:
        """Return the gradient (P,) of Q(theta_K) of steps on Q, by v - alpha H v."""
        *path, last = self.path(theta)
        v = by_entries(self.query, last)
        for at in reversed(path):
            shift = 1e-3 * size(at) / (np.linalg.norm(v) or 1.0)
            ahead, behind = (by_entries(self.query, at + s * shift * v) for s in (1, -1))
            v = v - self.alpha * (ahead - behind) / (2 * shift)
        return v


def by_entries(function: Callable[[Array], float], at: Array) -> Array:
    """Return the gradient (P,) of a function at a point, by `five_points`."""
    step = float(1e-3 * np.linalg.norm(at) / np.sqrt(at.size)) or 1e-3
    shifts = step * np.eye(at.size)
    return np.array([five_points(function, at, shift, step) for shift in shifts])


def of_state(loop: Loop, at: Array) -> Iterator[Suspect]:
    """Yield a query loss that an inner step changes though its theta does not, and what is
    not finite.
    """
    before, again = loop.query(at), loop.query(at)
    moved = loop.step(at)
    after = loop.query(at)
    for name, found in (("query_loss", [before, again, after]), ("inner_step", moved)):
        if not np.isfinite(found).all():
            yield Suspect("not finite", f"{name} is not finite at theta", float("nan"))
            return
    change = apart(after, before)
    if before == again and change > 1e-12:
        text = f"an inner step changes query_loss at the same theta by {change:.1e}:"
        yield Suspect("shared", f"{text} statistics shared by support and query?", change)


def of_values(evidence: Evidence, loop: Loop) -> tuple[Suspect | None, Loop]:
    """Return how the meta-loss differs from Q(theta_K) of the loop as it was meant.

    Also return the loop whose Q(theta_K) it is: the one that was meant, if none is found.
    """
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
        return None, loop
    spans = evidence.program.tree.spans
    mismatches = [
        lambda it, point=point, value=value: it.loss(point) - value
        for point, value in zip(elsewhere, seen, strict=True)
    ]
    for cause, text, other in deviations(loop, at, spans, mismatches):
        if (rest := off(other)) < EQUAL:
            return Suspect(cause, f"meta_loss {text}: agrees to {rest:.1e}", rest), other
    text = f"meta_loss is not query_loss after {loop.steps} inner steps: off by {error:.1e}"
    return Suspect("another loss", text, error), loop


def deviations(
    loop: Loop,
    at: Array,
    spans: dict[str, slice],
    mismatches: Sequence[Callable[[Loop], float]],
) -> Iterator[tuple[str, str, Loop]]:
    """Yield (cause, text, loop) of loops that programs run by mistake.

    mismatches: how far figures of a loop are from the program's, signed
    """
    for steps in range(max(0, loop.steps - MORE), loop.steps + MORE + 1):
        if steps != loop.steps:
            text = f"takes {steps} inner steps, not {loop.steps}"
            yield "steps", text, loop._replace(steps=steps)
    if loop.steps > MORE:
        yield "steps", f"takes 0 inner steps, not {loop.steps}", loop._replace(steps=0)
    if not loop.steps:
        return
    for factor in itertools.chain(FACTORS, roots(mismatches, loop.scaled, SIZES)):
        if abs(factor - 1) < SAME_SIZE:
            continue
        text = f"has inner steps of {factor:.4g} times the size"
        yield "step size", text, loop.scaled(factor)
    if loop.alpha is not None and at.size <= LARGEST:
        yield "query data", "takes its inner steps on the query data", loop.on_query()
    for some in sets_of(spans):
        if (moved := without(some, spans, at)).any():
            yield "adapted", f"does not adapt {listed(some)}", loop.adapting(moved)
    yield from _optimisers(loop, at, mismatches)


def _optimisers(
    loop: Loop, at: Array, mismatches: Sequence[Callable[[Loop], float]]
) -> Iterator[tuple[str, str, Loop]]:
    """Yield loops whose steps are those of another optimiser."""
    if loop.steps > 1:
        found = roots(mismatches, lambda x: loop._replace(momentum=x), MOMENTA)
        for share in itertools.chain((*MOMENTA, 1.0), found):
            text = f"has momentum {share:.4g} in its inner steps"
            text += " (no zero_grad there?)" if share == 1 else ""
            yield "momentum", text, loop._replace(momentum=share)
    for factor in roots(mismatches, loop.decaying, DECAYS):
        text = f"takes {factor:.4g} theta from theta in each inner step (weight decay?)"
        yield "weight decay", text, loop.decaying(factor)
    longest = max(np.linalg.norm(b - a) for a, b in itertools.pairwise(loop.path(at)))
    for length in roots(mismatches, loop.clipped, longest * LENGTHS):
        yield "clipped", f"clips its inner steps to {length:.4g}", loop.clipped(length)


def sets_of(spans: dict[str, slice]) -> list[tuple[str, ...]]:
    """Return sets of arrays: each, the last, the first, of one module and of one kind."""
    names, ends = [*spans], range(1, len(spans))
    every = [[name] for name in names], [names[n:] for n in ends], [names[:n] for n in ends]
    parts = [name.rpartition(".") for name in names]
    shared = [
        [name for name, part in zip(names, parts, strict=True) if part[place] == common]
        for place in (0, 2)  # as `conv` and as `bias`
        for common in dict.fromkeys(part[place] for part in parts)
    ]
    found = [tuple(some) for some in itertools.chain(*every, shared)]
    return [*dict.fromkeys(found)]


def without(some: Sequence[str], spans: dict[str, slice], at: Array) -> Array:
    """Return ones (P,), with zeros in some arrays."""
    mask = np.ones_like(at)
    for name in some:
        mask[spans[name]] = 0
    return mask


def roots(
    mismatches: Sequence[Callable[[Made], float]],
    make: Callable[[float], Made],
    grid: Sequence[float],
) -> Iterator[float]:
    """Yield where a mismatch of what is made changes its sign between points of a grid.

    One may only touch 0 at the number that is sought; then another changes its sign there.
    """
    for mismatch in mismatches:

        def function(x: float, by: Callable[[Made], float] = mismatch) -> float:
            return by(make(x))

        with np.errstate(all="ignore"):
            points = [(float(x), function(float(x))) for x in grid]
            found = [
                _root(function, *low, *high)
                for low, high in itertools.pairwise(points)
                if np.isfinite([low[1], high[1]]).all() and low[1] * high[1] < 0
            ]
        yield from found


def _root(
    function: Callable[[float], float], a: float, at_a: float, b: float, at_b: float
) -> float:
    """Return a zero between a and b, by false position (Illinois)."""
    enough = 1e-10 * max(abs(at_a), abs(at_b))
    for _ in range(ROUNDS):
        middle = (a * at_b - b * at_a) / (at_b - at_a)
        at_middle = function(middle)
        if abs(at_middle) <= enough or abs(middle - b) <= 1e-12 * abs(middle):
            return middle
        if at_middle * at_b < 0:
            a, at_a = b, at_b
        else:
            at_a /= 2
        b, at_b = middle, at_middle
    return b
