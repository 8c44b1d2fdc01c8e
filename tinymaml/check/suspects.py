"""Likely causes of a wrong gradient, each with the figure that supports it.

A cause is tried as a hypothesis: what it predicts for the claimed slopes is compared with
them. Only what agrees is reported.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tinymaml.check.classify import EXACT, cosine
from tinymaml.check.differences import (
    Slopes,
    agrees,
    directions,
    gap,
    slopes,
    typical,
)
from tinymaml.check.program import Program
from tinymaml.check.trees import LISTED, listed
from tinymaml.maml import Array


# Directions within one array, and for the loop's hypotheses.
FEW = 4
# Predictions that were computed from measured slopes agree to this, if the cause is right.
CLOSE = 1e-4
# So many spans of entries are compared at most.
COMPARED = 60


class Suspect(NamedTuple):
    """A likely cause.

    cause: a short name that does not change; text: a sentence with its figures
    figure: how far the claimed slopes are from what the cause predicts, relative; or, for
        causes that predict no slopes, the size of the effect
    """

    cause: str
    text: str
    figure: float


class ArrayError(NamedTuple):
    """How one array's gradient compares with the measured slopes within it.

    right: None where it cannot be measured; factor: claimed = factor x measured, best fit
    rest: what remains after the factor, relative to the claimed slopes
    """

    name: str
    right: bool | None
    error: float
    factor: float
    rest: float

    def __str__(self) -> str:
        figures = f"{self.factor:.4g} times the measured slopes, off by {self.error:.1e}"
        return f"{self.name}: {figures}"


class Evidence(NamedTuple):
    """What is known of a program at a point `at` (P,).

    claimed, measured: slopes along `ways`; missing: names of arrays without a gradient
    """

    program: Program
    at: Array
    gradient: Array
    ways: list[Array]
    measured: Slopes
    noise: float
    missing: list[str]

    @property
    def claimed(self) -> Array:
        """The claimed slopes along the directions."""
        return np.array([self.gradient @ way for way in self.ways])

    def within(self, span: slice, number: int = FEW) -> tuple[Array, Slopes]:
        """Return claimed and measured slopes along directions within a part of theta."""
        ways, measured = self.part(span, number)
        return np.array([self.gradient @ way for way in ways]), measured

    def part(self, span: slice, number: int = FEW) -> tuple[list[Array], Slopes]:
        """Return directions within a part of theta, and the measured slopes along them."""
        ways = []
        width = len(range(*span.indices(self.at.size)))
        for part in directions(np.random.default_rng(width), (width,), number):
            ways.append(np.zeros_like(self.at))
            ways[-1][span] = part
        start = self.measured.start
        return ways, slopes(self.program.value, self.at, ways, self.noise, start)


def fit(claimed: Array, predicted: Array) -> tuple[float, float]:
    """Return c of claimed = c predicted, and what remains relative to the claimed."""
    factor = float(claimed @ predicted / (predicted @ predicted or 1.0))
    rest = np.linalg.norm(claimed - factor * predicted) / (np.linalg.norm(claimed) or 1.0)
    return factor, float(rest)


def arrays(evidence: Evidence, number: int = FEW) -> list[ArrayError]:
    """Return the comparison of each array, along a number of directions within it."""
    found = []
    for name, span in evidence.program.tree.spans.items():
        width = span.stop - span.start
        if not width:
            continue
        claimed, measured = evidence.within(span, number if width > 1 else 1)
        factor, rest = fit(claimed, measured.values)
        # Relative to the slopes of all, an array whose own cannot be measured is right.
        floor = typical(evidence.measured) * EXACT
        right = agrees(claimed, measured, EXACT)
        if right is None and np.abs(claimed - measured.values).max() <= floor:
            right = True
        found.append(ArrayError(name, right, gap(claimed, measured), factor, rest))
    return found


# ----- Causes that need the slopes only -----


def of_scale(evidence: Evidence) -> Iterator[Suspect]:
    """Yield a wrong factor of the whole gradient, or its sign."""
    if not evidence.gradient.any():
        text = (
            "the claimed gradient is 0: the loss is cut off from theta (detach, no_grad)?"
        )
        yield Suspect("zero", text, typical(evidence.measured))
        return
    known = evidence.measured.known
    claimed, measured = evidence.claimed[known], evidence.measured.values[known]
    factor, rest = fit(claimed, measured)
    if rest > CLOSE or abs(factor - 1) < EXACT:
        return
    figures = (
        f"{factor:.4g} times the exact gradient, cosine {cosine(claimed, measured):.4f}"
    )
    norm = float(np.linalg.norm(evidence.gradient))
    if factor < 0:
        yield Suspect("sign", f"{figures}: the sign is wrong", rest)
    elif any(abs(norm / n - 1) < 1e-6 for n in (0.1, 0.5, 1, 2, 5, 10)):
        yield Suspect("clipped", f"{figures}, and its norm is {norm:.6g}: clipped?", rest)
    else:
        why = (
            "a sum where a mean was meant"
            if factor > 1
            else "a mean, or divided, once more"
        )
        yield Suspect("scale", f"{figures}: {why}?", rest)


def of_arrays(evidence: Evidence, compared: list[ArrayError]) -> Iterator[Suspect]:
    """Yield what is wrong with some of the arrays, if others are right."""
    wrong = [one for one in compared if one.right is False]
    names = listed([one.name for one in wrong])
    if missing := [one.name for one in wrong if one.name in evidence.missing]:
        text = f"no gradient arrived at {listed(missing)}: detached or created anew?"
        yield Suspect("detached", text, float(len(missing)))
    if len(missing) == len(wrong):
        return
    scaled = wrong and all(one.rest < CLOSE for one in wrong)
    if not wrong or (len(wrong) == len(compared) and not scaled):
        return
    if len(wrong) == len(compared) and np.ptp([one.factor for one in wrong]) < CLOSE:
        return  # a factor of the whole
    some = len(wrong) < len(compared)
    only = f"only {names} of {len(compared)} arrays differ" + "s" * (len(wrong) == 1)
    only = only if len(wrong) > 1 else f"only {names} differs"
    only = only if some else "every array differs"
    worst = max(one.error for one in wrong)
    if all(one.factor == 0 for one in wrong):
        text = f"{only}, where the claimed gradient is 0: detached or created anew?"
        yield Suspect("detached", text, worst)
    elif scaled:
        factors = ", ".join(f"{one.factor:.4g}" for one in wrong[:LISTED])
        text = f"{only}, by the factor {factors}: scaled or clipped array by array?"
        yield Suspect("array scale", text, max(one.rest for one in wrong))
    else:
        yield Suspect(
            "array", f"{only}, by {worst:.1e} of its slopes: detached in part?", worst
        )


def of_order(evidence: Evidence, compared: list[ArrayError]) -> Iterator[Suspect]:
    """Yield two arrays in each other's place, and an array that is transposed."""
    tree, wrong = evidence.program.tree, [x.name for x in compared if x.right is False]
    shapes = dict(zip(tree.names, tree.shapes, strict=True))
    parts = {name: evidence.gradient[span] for name, span in tree.spans.items()}
    for number, one in enumerate(wrong):
        others = [other for other in wrong[number + 1 :] if shapes[other] == shapes[one]]
        swaps = [*itertools.combinations(range(len(shapes[one])), 2)]
        if not (others or swaps):
            continue
        ways, measured = evidence.part(tree.spans[one])
        ways = [way[tree.spans[one]] for way in ways]

        def right(part: Array, ways: list[Array] = ways, by: Slopes = measured) -> bool:
            return agrees(np.array([part.ravel() @ way for way in ways]), by, EXACT) is True

        for i, j in swaps:
            shape = [*shapes[one]]
            shape[i], shape[j] = shape[j], shape[i]
            if min(shape[i], shape[j]) > 1:
                moved = parts[one].reshape(shape).swapaxes(i, j)
                if right(moved):
                    text = f"`{one}` agrees when its axes {i} and {j} are transposed"
                    yield Suspect("transposed", text, 0.0)
        for other in others:
            if right(parts[other]):
                text = f"`{one}` agrees with the gradient given for `{other}`: swapped?"
                yield Suspect("swapped", text, 0.0)


def of_entries(evidence: Evidence) -> Iterator[Suspect]:
    """Yield the few wrong entries, found by halving theta."""
    found: list[int] = []
    spans, compared = [(0, evidence.at.size)], 0
    while spans and len(found) <= LISTED and compared < COMPARED:
        low, high = spans.pop()
        compared += 1
        if agrees(*evidence.within(slice(low, high), 2), EXACT) is not False:
            continue
        if high - low == 1:
            found.append(low)
        else:
            middle = (low + high) // 2
            spans += [(middle, high), (low, middle)]
    if found and not spans and len(found) <= min(LISTED, evidence.at.size // 2):
        named = [_entry(evidence, entry) for entry in found]
        claimed, measured = evidence.within(slice(found[0], found[0] + 1), 1)
        text = f"only entries differ: {', '.join(named)}"
        yield Suspect("entries", text, gap(claimed, measured))


def _entry(evidence: Evidence, entry: int) -> str:
    for (name, span), shape in zip(
        evidence.program.tree.spans.items(), evidence.program.tree.shapes, strict=True
    ):
        if span.start <= entry < span.stop:
            place = np.unravel_index(entry - span.start, shape)
            return f"{name}[{', '.join(map(str, place))}]"
    return str(entry)


def of_terms(evidence: Evidence) -> Iterator[Suspect]:
    """Yield a multiple of theta in the gradient, and entries that are all of one size."""
    known = evidence.measured.known
    apart = (evidence.claimed - evidence.measured.values)[known]
    along = np.array([evidence.at @ way for way in evidence.ways])[known]
    factor, rest = fit(apart, along)
    if rest < 1e-3 and abs(factor) > 0:
        text = f"it has {factor:.4g} theta too much, to {rest:.1e}: weight decay?"
        if factor < 0:
            text = (
                f"it lacks {-factor:.4g} theta, to {rest:.1e}: is the gradient of a penalty"
            )
            text += " or of weight decay missing?"
        yield Suspect("weight decay", text, rest)
    sizes = np.abs(evidence.gradient[evidence.gradient != 0])
    if sizes.size > 3 and np.ptp(sizes) < 1e-3 * sizes.max():
        text = (
            f"all its entries are {sizes.mean():.3g} or -{sizes.mean():.3g}: the signs, as"
        )
        yield Suspect("signs", f"{text} in Adam's first step", float(np.ptp(sizes)))
    elif (most := np.count_nonzero(sizes > sizes.max(initial=0) * (1 - 1e-9))) > 2:
        text = f"{most} entries are exactly {sizes.max():.4g} in size: clipped one by one?"
        yield Suspect("clipped", text, float(most))


def of_direction(evidence: Evidence, loop: bool) -> Suspect:
    """Return how the claimed gradient lies to the exact one, for want of a better cause.

    loop: whether the inner loop was given, too
    """
    known = evidence.measured.known
    claimed, measured = evidence.claimed[known], evidence.measured.values[known]
    ratio = np.linalg.norm(claimed) / (np.linalg.norm(measured) or 1.0)
    text = (
        f"cosine {cosine(claimed, measured):.4f} to the exact gradient, {ratio:.3g} times"
    )
    text += " as long; "
    if loop:
        text += "no usual cause agrees: compare data, losses, tasks and what is detached"
    else:
        text += "give inner_step, query_loss and steps for more"
    return Suspect("unknown", text, float(ratio))
