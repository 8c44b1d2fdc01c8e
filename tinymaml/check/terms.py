"""The chain rule of a meta-gradient by differences, and gradients that deviate from it."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from tinymaml.check.differences import size, slope, slopes
from tinymaml.check.loop import FACTORS, MORE, Loop, deviations, roots, sets_of, without
from tinymaml.check.suspects import CLOSE, FEW, Evidence, Suspect, fit
from tinymaml.check.trees import listed
from tinymaml.maml import Array


# Factors of the second-order terms between which one is sought.
WEIGHTS = (-300.0, -30.0, -3.0, -1.3, -0.3, 0.3, 0.8, 1.3, 3.0, 8.0, 30.0, 300.0, 3000.0)
# Up to so many steps every subset of them is tried without its second-order term.
SUBSETS = 4
# Without the query loss, its gradient is solved for with so many entries at most.
DENSE = 300
# Another loop is looked at closer when its first slope is as near as this.
ROUGHLY = 1e-3
CUT = "no `create_graph`, or a `detach` or `stop_gradient`"
# Steps of central differences for Jacobians of inner steps, relative to theta.
NEAR = 1e-5


class Terms(NamedTuple):
    """The exact chain rule by differences: along a way w, J_{K-1} ... J_0 w, then Q.

    path: theta_0, ..., theta_K; noise: of Q
    """

    ways: list[Array]
    loop: Loop
    path: list[Array]
    last: Callable[[Array], float]

    def pushed(
        self,
        kept: tuple[bool, ...],
        mask: Array | float = 1.0,
        cut: bool = False,
        weight: float = 1.0,
    ) -> list[Array]:
        """Return the ways at theta_K, through the Jacobians of the steps that are kept.

        mask: (P,) 0 where a step's gradient has no graph; cut: nor has the step itself
        weight: factor of the second-order term of each step
        """
        found = []
        for way in self.ways:
            for theta, keeps in zip(self.path, kept, strict=False):
                if keeps and (length := np.linalg.norm(way)):
                    near = NEAR * size(theta)
                    shift = near / length * way
                    ahead, behind = (
                        self.loop.step(theta + shift),
                        self.loop.step(theta - shift),
                    )
                    after = (ahead - behind) * (length / (2 * near))
                    way = mask * after if cut else way + weight * mask * (after - way)
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
        near = min(slope(loop.query, path[-1], ways[0]).step, size(path[-1]))

        def last(way: Array) -> float:
            length = float(np.linalg.norm(way))
            if not length:
                return 0.0
            shift = near / length * way
            change = loop.query(path[-1] + shift) - loop.query(path[-1] - shift)
            return change * length / (2 * near)

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
    pushed = terms.pushed(whole)
    if loop.query_loss and (figure := same(terms.slopes(pushed))):
        text = (
            f"it is the gradient of query_loss after {steps} inner steps, and meta_loss is"
        )
        yield Suspect("another loss", f"{text} another loss{figure}", 0.0)
        return
    for kept in _subsets(steps):
        predicted = terms.slopes(terms.pushed(kept))
        if figure := same(predicted):
            _, rest = fit(claimed, predicted)
            yield Suspect("first-order", f"{_cut(kept)}{figure}", rest)
            return
    at_once = terms.pushed(none)
    exact, first = evidence.measured.values[:FEW], terms.slopes(at_once)
    factor, rest = fit(claimed - first, exact - first)
    if rest < CLOSE:
        text = f"its second-order term is {factor:.4g} times the exact one, to {rest:.1e}"
        yield Suspect("second-order term", text, rest)
        return
    yield from _of_chain(terms, claimed, same)
    yield from _of_support(terms, claimed, exact, same)
    spans = evidence.program.tree.spans
    for name in spans:
        mask = without([name], spans, at)
        for ways in (pushed, at_once):
            if mask.any() and (figure := same(terms.slopes(ways, mask))):
                text = f"the query loss's gradient by `{name}` is lost (detached there?)"
                yield Suspect("detached", f"{text}{figure}", 0.0)
                return
    yield from _of_parts(terms, spans, claimed, same)
    if loop.query_loss:
        yield from _of_loops(evidence, loop, same)


def _of_chain(
    terms: Terms, claimed: Array, same: Callable[[Array], str]
) -> Iterator[Suspect]:
    """Yield a chain that weights its terms otherwise, or has Hessians of other places."""
    *path, last = terms.path
    whole = (True,) * len(path)
    first = terms._replace(ways=terms.ways[:1])

    def off(weight: float) -> float:
        return float(first.slopes(first.pushed(whole, weight=weight))[0] - claimed[0])

    places = {
        "the steps in forward order": path[::-1],
        "every Hessian at the last theta": [last] * len(path),
        "every Hessian at theta_0": path[:1] * len(path),
        "the Hessians of theta_{k+1}": [*path[1:], last],
    }
    for what, others in places.items():
        moved = terms._replace(path=[*others, last])
        if figure := same(moved.slopes(moved.pushed(whole))):
            yield Suspect("second-order term", f"its chain has {what}{figure}", 0.0)
            return
    for weight in itertools.chain(FACTORS, roots([off], float, WEIGHTS)):
        if figure := same(terms.slopes(terms.pushed(whole, weight=weight))):
            text = f"the second-order term of each step is {weight:.4g} times the exact one"
            yield Suspect("second-order term", f"{text}{figure}", 0.0)
            return


def _of_parts(
    terms: Terms, spans: dict[str, slice], claimed: Array, same: Callable[[Array], str]
) -> Iterator[Suspect]:
    """Yield arrays whose inner steps have no graph."""
    at, whole = terms.path[0], (True,) * terms.loop.steps
    first = terms._replace(ways=terms.ways[:1])
    for some, cut in itertools.product(sets_of(spans), (False, True)):
        mask = without(some, spans, at)
        off = first.slopes(first.pushed(whole, mask, cut))[0] - claimed[0]
        if not (mask.any() and abs(off) < ROUGHLY * np.linalg.norm(claimed)):
            continue
        if figure := same(terms.slopes(terms.pushed(whole, mask, cut))):
            what = "updates" if cut else "second-order terms"
            text = f"the {what} of {listed(some)} have no graph in the inner steps"
            yield Suspect("detached" if cut else "first-order", f"{text}{figure}", 0.0)
            return


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

    def along(loss: Callable[[Array], float], theta: Array, way: Array) -> float:
        """Return a slope to about 1e-6, from two losses."""
        return float(loss(theta + step * way) - loss(theta - step * way)) / (2 * step)

    def whole(other: Loop, ways: list[Array]) -> Array:
        if other.of_query:
            return np.array([other.gradient(at) @ way for way in ways])
        return np.array([along(other.loss, at, way) for way in ways])

    def first(other: Loop, ways: list[Array]) -> Array:
        return np.array([along(loop.query, other.path(at)[-1], way) for way in ways])

    tried = {
        "it is the gradient of a loss that": whole,
        "without second-order terms, it is the gradient of a loss that": first,
    }
    mismatches = [
        lambda other, kind=kind, n=n: float(kind(other, ways[n : n + 1])[0] - claimed[n])
        for kind, n in ((whole, 0), (whole, 1), (first, 0))
        if n < len(ways)
    ]
    spans = evidence.program.tree.spans
    for cause, text, other in deviations(loop, at, spans, mismatches):
        for words, kind in tried.items():
            with np.errstate(all="ignore"):
                off = abs(kind(other, ways[:1])[0] - claimed[0])
                near = off < ROUGHLY * np.linalg.norm(claimed)
                figure = same(kind(other, ways)) if near else ""
            if figure:
                yield Suspect(cause, f"{words} {text}{figure}", 0.0)
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
        return f"first-order in all {len(kept)} steps: {CUT}"
    where = ", ".join(map(str, gone))
    return f"first-order in step {where} of {len(kept)}: {CUT}"
