"""The inner loop as it is meant, and the gradients of programs that deviate from it."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tinymaml.check.calls import apart
from tinymaml.check.differences import five_points, rounding, slope, slopes
from tinymaml.check.suspects import CLOSE, FEW, Evidence, Suspect, fit
from tinymaml.maml import Array


# Other numbers of steps, and step sizes, that are tried.
MORE, FACTORS = 2, (0.5, 2.0, 0.1, 10.0, -1.0, 0.25, 4.0, 0.2, 5.0, 0.01, 100.0, 1 / 3, 3.0)
# Up to so many steps every subset of them is tried without its second-order term.
SUBSETS = 4
# A gradient by differences costs two losses for each entry.
LARGEST = 3000
# Without the query loss, its gradient is solved for with so many entries at most.
DENSE = 300
# Another loop is looked at closer when its first slope is as near as this.
ROUGHLY = 1e-3
# Two values of the same loss.
EQUAL = 1e-9


class Loop(NamedTuple):
    """The inner loop on vectors (P,).

    step: theta_k -> theta_{k+1}; steps: K; query_loss, alpha: Q and the step size, if known
    """

    step: Callable[[Array], Array]
    steps: int
    query_loss: Callable[[Array], float] | None
    alpha: float | None = None

    def query(self, theta: Array) -> float:
        """Return Q(theta)."""
        if self.query_loss is None:
            raise ValueError("query_loss was not given")
        return self.query_loss(theta)

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

    def adapting(self, moved: Array) -> "Loop":
        """Return the loop that moves some entries only. moved: (P,) of 0 and 1"""
        return self._replace(step=lambda theta: theta + moved * (self.step(theta) - theta))

    def on_query(self) -> "Loop":
        """Return the loop that takes its steps on the query loss."""
        return self._replace(
            step=lambda theta: theta - self.alpha * by_entries(self.query, theta)
        )


def by_entries(function: Callable[[Array], float], at: Array) -> Array:
    """Return the gradient (P,) of a function at a point, by `five_points`."""
    step = float(1e-3 * np.linalg.norm(at) / np.sqrt(at.size)) or 1e-3
    shifts = step * np.eye(at.size)
    return np.array([five_points(function, at, shift, step) for shift in shifts])


def of_state(loop: Loop, at: Array) -> Iterator[Suspect]:
    """Yield a query loss that an inner step changes though its theta does not."""
    before, again = loop.query(at), loop.query(at)
    loop.step(at)
    after = loop.query(at)
    change = apart(after, before)
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
    spans = evidence.program.tree.spans
    for cause, text, other in deviations(loop, at.size, spans, _factor(loop, at, seen[0])):
        if (rest := off(other)) < EQUAL:
            yield Suspect(cause, f"meta_loss {text}: agrees to {rest:.1e}", rest)
            return
    text = f"meta_loss is not query_loss after {loop.steps} inner steps: off by {error:.1e}"
    yield Suspect("another loss", text, error)


def _factor(loop: Loop, at: Array, value: float) -> Callable[[float], float]:
    return lambda factor: loop.scaled(factor).loss(at) - value


def deviations(
    loop: Loop, size: int, spans: dict[str, slice], mismatch: Callable[[float], float]
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
    names = [*spans]
    ends = range(1, len(names))
    for some in (
        *([name] for name in names),
        *(names[n:] for n in ends),
        *(names[:n] for n in ends),
    ):
        moved = np.ones(size)
        for name in some:
            moved[spans[name]] = 0
        if moved.any():
            listed = ", ".join(f"`{name}`" for name in some)
            yield "adapted", f"does not adapt {listed}", loop.adapting(moved)


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
    """The exact chain rule by differences: along a way w, J_{K-1} ... J_0 w, then Q.

    path: theta_0, ..., theta_K; noise: of Q
    """

    ways: list[Array]
    loop: Loop
    path: list[Array]
    last: Callable[[Array], float]

    def pushed(self, kept: tuple[bool, ...]) -> list[Array]:
        """Return the ways at theta_K, through the Jacobians of the steps that are kept."""
        found = []
        for way in self.ways:
            for theta, keeps in zip(self.path, kept, strict=False):
                if keeps and (length := np.linalg.norm(way)):
                    way = length * slope(self.loop.step, theta, way / length).value
            found.append(way)
        return found

    def slopes(self, pushed: list[Array], mask: Array | float = 1.0) -> Array:
        """Return the slopes of Q along ways at theta_K.

        mask: (P,) 0 where Q's gradient is lost
        """
        return np.array([self.last(mask * way) for way in pushed])


def terms_of(evidence: Evidence, loop: Loop) -> Terms | None:
    """Return the terms of the chain rule, None when Q's gradient cannot be had.

    Without Q, its gradient at theta_K follows from the measured slopes along every axis.
    """
    ways, path = evidence.ways[:FEW], loop.path(evidence.at)
    if loop.query_loss:
        noise = rounding(loop.query, path[-1])

        def last(way: Array) -> float:
            length = float(np.linalg.norm(way))
            if not length:
                return 0.0
            return length * float(slope(loop.query, path[-1], way / length, noise).value)

        return Terms(ways, loop, path, last)
    if evidence.at.size > DENSE:
        return None
    axes = [*np.eye(evidence.at.size)]
    measured = slopes(evidence.program.value, evidence.at, axes, evidence.noise).values
    pushed = Terms(axes, loop, path, len).pushed((True,) * loop.steps)
    gradient = np.linalg.lstsq(np.array(pushed), measured, rcond=None)[0]
    return Terms(ways, loop, path, lambda way: float(gradient @ way))


def of_gradient(evidence: Evidence, loop: Loop) -> Iterator[Suspect]:
    """Yield which deviating loop has the claimed gradient."""
    at, steps = evidence.at, loop.steps
    terms = terms_of(evidence, loop)
    claimed = evidence.claimed[:FEW]
    if terms is None or not claimed.any():
        return

    def same(predicted: Array) -> str:
        """Return with which figure the claim agrees with a prediction, nothing if not."""
        factor, rest = fit(claimed, predicted)
        if not rest < CLOSE or not factor:
            return ""
        times = "" if abs(factor - 1) < CLOSE else f", times {factor:.4g}"
        return f"{times}: agrees to {rest:.1e}"

    whole, none = (True,) * steps, (False,) * steps
    for kept in _subsets(steps):
        predicted = terms.slopes(terms.pushed(kept))
        if figure := same(predicted):
            _, rest = fit(claimed, predicted)
            yield Suspect("first-order", f"{_cut(kept)}{figure}", rest)
            return
    at_once, pushed = terms.pushed(none), terms.pushed(whole)
    exact, first = evidence.measured.values[:FEW], terms.slopes(at_once)
    factor, rest = fit(claimed - first, exact - first)
    if rest < CLOSE:
        text = f"its second-order term is {factor:.4g} times the exact one, to {rest:.1e}"
        yield Suspect("second-order term", text, rest)
        return
    yield from _of_support(terms, claimed, exact, same)
    for name, span in evidence.program.tree.spans.items():
        mask = np.ones_like(at)
        mask[span] = 0
        for ways in (pushed, at_once):
            if mask.any() and (figure := same(terms.slopes(ways, mask))):
                text = f"the query loss's gradient by `{name}` is lost (detached there?)"
                yield Suspect("detached", f"{text}{figure}", 0.0)
                return
    if loop.query_loss:
        yield from _of_loops(evidence, loop, same)


def _of_support(
    terms: Terms, claimed: Array, exact: Array, same: Callable[[Array], str]
) -> Iterator[Suspect]:
    """Yield a gradient of the support loss, which is theta_k - theta_{k+1} over alpha."""
    loop, path = terms.loop, terms.path
    for number, theta in enumerate(path):
        down = theta - loop.step(theta)
        for chained in (True, False):
            kept = tuple(chained and k < number for k in range(loop.steps))
            slopes = np.array([down @ way for way in terms.pushed(kept)])
            through = " through the steps" if chained and number else ""
            name = f"the gradient of the support loss at theta_{number}{through}"
            if figure := same(slopes):
                yield Suspect("support", f"it is {name}{figure}", 0.0)
                return
            _, rest = fit(claimed - exact, slopes)
            if rest < CLOSE:
                yield Suspect(
                    "support", f"it has {name} too much: agrees to {rest:.1e}", rest
                )
                return
    moved = np.array([(path[0] - path[-1]) @ way for way in terms.ways])
    if figure := same(moved):
        yield Suspect(
            "displacement", f"it is theta_0 - theta_K, as in Reptile{figure}", 0.0
        )


def _of_loops(
    evidence: Evidence, loop: Loop, same: Callable[[Array], str]
) -> Iterator[Suspect]:
    """Yield a loop with other steps whose loss has the claimed gradient."""
    at, ways = evidence.at, evidence.ways[:FEW]
    claimed = evidence.claimed[:FEW]
    for steps in range(loop.steps + MORE + 1):
        found = slopes(loop.query, loop.path(at, steps)[-1], ways).values
        if figure := same(found):
            text = f"it is the query gradient after {steps} of {loop.steps} inner steps,"
            yield Suspect("steps", f"{text} without second-order terms{figure}", 0.0)
            return
    step = 1e-4 * float(np.linalg.norm(at))

    def along(other: Loop, way: Array) -> float:
        """Return a slope to about 1e-6, from four losses."""
        return float(five_points(other.loss, at, step * way, step))

    def mismatch(factor: float) -> float:
        return along(loop.scaled(factor), ways[0]) - float(claimed[0])

    spans = evidence.program.tree.spans
    for cause, text, other in deviations(loop, at.size, spans, mismatch):
        with np.errstate(all="ignore"):
            off = abs(along(other, ways[0]) - claimed[0])
            if not off < ROUGHLY * np.linalg.norm(claimed):
                continue
            found = np.array([along(other, way) for way in ways])
        if figure := same(found):
            yield Suspect(cause, f"it is the gradient of a loss that {text}{figure}", 0.0)
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
        return f"first-order in all {len(kept)} steps: no `create_graph`, or detached"
    where = ", ".join(map(str, gone))
    return f"no `create_graph` in step {where} of {len(kept)}, or detached there"
