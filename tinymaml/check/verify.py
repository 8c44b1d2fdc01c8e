"""A report on anybody's meta-gradient: the verdict, the figures, and the likely causes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tinymaml import summary
from tinymaml.check import calls, loop, suspects, terms
from tinymaml.check import program as programs
from tinymaml.check.classify import (
    EXACT,
    UnmeasurableError,
    Verdict,
    judge,
    noise_of,
)
from tinymaml.check.differences import agrees, directions, slopes, typical
from tinymaml.check.loop import Loop
from tinymaml.check.program import Program
from tinymaml.check.suspects import FEW, ArrayError, Evidence, Suspect
from tinymaml.check.trees import LISTED
from tinymaml.maml import Array


NAN = float("nan")
# Directions over all arrays, and within each array when the slopes over all agree: wrong
# entries show along any random direction.
DIRECTIONS, WITHIN = 8, 1
# Causes for which the arrays that differ say more.
VAGUE = ("array", "unknown")


class Report(NamedTuple):
    """What was measured of a program.

    kind: "exact", "first-order", "neither" or "unmeasurable"
    verdict: the figures of `classify`; None when unmeasurable
    arrays: each array's comparison, when there are several
    suspects: the likely causes, the most likely first
    kinks: the share of directions in which the meta-loss is not smooth
    size: number of parameters, P
    """

    kind: str
    verdict: Verdict | None
    arrays: list[ArrayError]
    suspects: list[Suspect]
    kinks: float
    size: int

    @property
    def passed(self) -> bool:
        """Whether the gradient is exact, and nothing is suspected."""
        return self.kind == "exact" and not self.suspects

    def __str__(self) -> str:
        figures = str(self.verdict).partition(": ")[2] if self.verdict else "see below"
        lines = [f"{self.kind}, P = {self.size}: {figures}"]
        lines += [f"  {number}. {one.text}" for number, one in enumerate(self.suspects, 1)]
        wrong = [one for one in self.arrays if one.right is False]
        if self.suspects and self.suspects[0].cause in VAGUE:
            lines += [f"  {one}" for one in wrong[:LISTED]]
            more = len(wrong) - LISTED
            lines += [f"  and {more} more arrays"] if more > 0 else []
        if self.kinks > 0:
            lines.append(f"  not smooth along {100 * self.kinks:.0f} % of the directions")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON. Figures that are not finite become None."""
        found = self._asdict() | {
            "passed": self.passed,
            "verdict": self.verdict and self.verdict._asdict(),
            "arrays": [one._asdict() for one in self.arrays],
            "suspects": [one._asdict() for one in self.suspects],
        }
        return summary.finite(found)

    def to_json(self) -> str:
        """Return the report as JSON."""
        return summary.as_json(self.as_dict(), indent=2)


def verify(
    meta_loss: Callable[[Any], Any],
    meta_gradient: Callable[[Any], Any],
    theta: Any,
    adapt: Callable[[Any], Any] | None = None,
    *,
    inner_step: Callable[[Any], Any] | None = None,
    query_loss: Callable[[Any], Any] | None = None,
    steps: int = 1,
    alpha: float | None = None,
    seed: int = 0,
    number: int = DIRECTIONS,
) -> Report:
    """Check a meta-gradient, and name the likely causes of what is wrong.

    meta_loss, meta_gradient, theta, adapt, seed, number: as for `classify`
    inner_step: theta_k -> theta_{k+1}, one inner step as it is meant, on the support data;
        then `adapt` may be left out. It shows in which steps second-order terms are missing
    query_loss: theta -> Q(theta). With inner_step, it shows other numbers of steps, other
        step sizes, lost terms, and a meta-loss that is not Q(theta_K)
    steps: K, the number of inner steps
    alpha: inner step size; with it, inner steps on the query data are recognized
    Raises ValueError when an argument is unfit or a function returns something else.
    """
    at, program = programs.program_of(meta_loss, meta_gradient, theta, adapt)
    if not (isinstance(steps, int | np.integer) and steps >= 0):
        raise ValueError(f"steps is {steps!r}: pass the number of inner steps, 0 or more")
    meant = None
    if inner_step is not None:
        meant = _loop(program, inner_step, query_loss, int(steps), alpha)
        if adapt is None:
            program = _adapting(program, meant)
    gradient, missing = program.claim(at)
    found = [*calls.of_calls(program, at, gradient)]
    if meant and meant.query_loss:
        found += loop.of_state(meant, at)
    ways = directions(np.random.default_rng(seed), at.shape, number)
    try:
        noise = noise_of(program, at, gradient)
        measured = slopes(program.value, at, ways, noise)
        verdict = judge(program, at, gradient, ways, measured, noise)
    except UnmeasurableError as error:
        if not found or error.cause != "randomness":  # the calls say more about it
            found.append(Suspect(error.cause, str(error), NAN))
        return Report("unmeasurable", None, [], found, NAN, at.size)
    evidence = Evidence(program, at, gradient, ways, measured, noise, missing)
    compared = []
    if len(program.tree.names) > 1:
        compared = suspects.arrays(evidence, FEW if verdict.kind != "exact" else WITHIN)
    wrong = any(one.right is False for one in compared)
    if verdict.kind == "exact" and (wrong or any(x.cause == "accumulates" for x in found)):
        verdict = verdict._replace(kind="neither")
    value = None
    if meant and meant.query_loss:
        value, meant = loop.of_values(evidence, meant)
    causes = []
    if agrees(evidence.claimed, measured, EXACT) is not True or wrong:
        causes = [*_causes(evidence, compared, meant, verdict)]
    if verdict.kind != "exact" and not found + causes:
        causes = [suspects.of_direction(evidence, meant is not None)]
    if value:  # it comes after what is known of the gradient, unless it is explained
        unknown = not causes or causes[0].cause == "unknown"
        explained = value.cause != "another loss"
        causes.insert(0 if explained or unknown else len(causes), value)
    found += causes
    kinks = float(np.mean(measured.doubts > EXACT * typical(measured)))
    return Report(verdict.kind, verdict, compared, found, kinks, at.size)


def _loop(
    program: Program,
    inner_step: Callable[[Any], Any],
    query_loss: Callable[[Any], Any] | None,
    steps: int,
    alpha: float | None,
) -> Loop:
    tree = program.tree

    def step(theta: Array) -> Array:
        found = inner_step(tree.rebuild(theta))
        return tree.vector(found, "inner_step's result", zeros=False)

    if query_loss is None:
        return Loop(step, steps, None, alpha)

    def query(theta: Array) -> float:
        return programs.number(query_loss(tree.rebuild(theta)), "query_loss")

    return Loop(step, steps, query, alpha)


def _adapting(program: Program, meant: Loop) -> Program:
    """Return the program with the adaptation of the inner loop as it is meant."""

    def adaptation(theta: Any) -> Any:
        vector = program.tree.vector(theta, "theta")
        return program.tree.rebuild(meant.path(vector)[-1])

    return replace(program, adaptation=adaptation)


def _causes(
    evidence: Evidence, compared: list[ArrayError], meant: Loop | None, verdict: Verdict
) -> Iterator[Suspect]:
    """Yield causes, those that explain the whole gradient first."""
    causes = [*suspects.of_scale(evidence), *suspects.of_order(evidence, compared)]
    if not causes and meant:
        causes += terms.of_gradient(evidence, meant)
    if verdict.kind == "first-order" and not any(x.cause == "first-order" for x in causes):
        text = (
            "it is grad Q(theta_K), without second-order terms (no `create_graph`?): agrees"
        )
        error = verdict.first_order_error
        causes.insert(0, Suspect("first-order", f"{text} to {error:.1e}", error))
    causes += suspects.of_terms(evidence)
    named = len(causes)
    causes += [
        one
        for one in suspects.of_arrays(evidence, compared)
        if not (named and one.cause == "array")
    ]
    if not causes or all(one.cause == "array" for one in causes):
        causes = [*suspects.of_entries(evidence), *causes]
    yield from causes
