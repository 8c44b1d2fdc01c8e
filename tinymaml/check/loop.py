"""The inner loop as it is meant, and the gradients of programs that deviate from it."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from tinymaml.check.calls import apart
from tinymaml.check.differences import five_points, size, slope, slopes
from tinymaml.check.suspects import CLOSE, FEW, Evidence, Suspect, fit
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
# Factors of the second-order terms between which one is sought.
WEIGHTS = (-300.0, -30.0, -3.0, -1.3, -0.3, 0.3, 0.8, 1.3, 3.0, 8.0, 30.0, 300.0, 3000.0)
# Up to so many steps every subset of them is tried without its second-order term.
SUBSETS = 4
# A gradient by differences costs four losses for each entry.
LARGEST = 1000
# Without the query loss, its gradient is solved for with so many entries at most.
DENSE = 300
# Another loop is looked at closer when its first slope is as near as this.
ROUGHLY = 1e-3
# Two values of the same loss.
EQUAL = 1e-9
CUT = "no `create_graph`, or a `detach` or `stop_gradient`"
# Steps of central differences for Jacobians of inner steps, relative to theta.
NEAR = 1e-5


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
    for factor in itertools.chain(FACTORS, _roots(mismatches, loop.scaled, SIZES)):
        if abs(factor - 1) < SAME_SIZE:
            continue
        text = f"has inner steps of {factor:.4g} times the size"
        yield "step size", text, loop.scaled(factor)
    if loop.alpha is not None and at.size <= LARGEST:
        yield "query data", "takes its inner steps on the query data", loop.on_query()
    for some in _some(spans):
        if (moved := _without(some, spans, at)).any():
            yield "adapted", f"does not adapt {listed(some)}", loop.adapting(moved)
    yield from _optimisers(loop, at, mismatches)


def _optimisers(
    loop: Loop, at: Array, mismatches: Sequence[Callable[[Loop], float]]
) -> Iterator[tuple[str, str, Loop]]:
    """Yield loops whose steps are those of another optimiser."""
    if loop.steps > 1:
        found = _roots(mismatches, lambda x: loop._replace(momentum=x), MOMENTA)
        for share in itertools.chain((*MOMENTA, 1.0), found):
            text = f"has momentum {share:.4g} in its inner steps"
            text += " (no zero_grad there?)" if share == 1 else ""
            yield "momentum", text, loop._replace(momentum=share)
    for factor in _roots(mismatches, loop.decaying, DECAYS):
        text = f"takes {factor:.4g} theta from theta in each inner step (weight decay?)"
        yield "weight decay", text, loop.decaying(factor)
    longest = max(np.linalg.norm(b - a) for a, b in itertools.pairwise(loop.path(at)))
    for length in _roots(mismatches, loop.clipped, longest * LENGTHS):
        yield "clipped", f"clips its inner steps to {length:.4g}", loop.clipped(length)


def _some(spans: dict[str, slice]) -> list[tuple[str, ...]]:
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


def _without(some: Sequence[str], spans: dict[str, slice], at: Array) -> Array:
    """Return ones (P,), with zeros in some arrays."""
    mask = np.ones_like(at)
    for name in some:
        mask[spans[name]] = 0
    return mask


def _roots(
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


# ----- What the claimed gradient is the gradient of -----


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
        mask = _without([name], spans, at)
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
    for weight in itertools.chain(FACTORS, _roots([off], float, WEIGHTS)):
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
    for some, cut in itertools.product(_some(spans), (False, True)):
        mask = _without(some, spans, at)
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
