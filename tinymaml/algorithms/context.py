"""A context vector z: free inputs beside every example. Inner steps change z only.

The net and the initial z are meta-learned. Source: appendix C.2 of the paper.
"""

from dataclasses import dataclass

from tinymaml.algorithms import mamls
from tinymaml.algorithms.algorithm import FEW_SHOT
from tinymaml.errors import UsageError
from tinymaml.fewshot import Problem
from tinymaml.maml import Array, Task
from tinymaml.options import option


@dataclass(frozen=True)
class Options:
    """The options of a context vector."""

    context: int = option(
        10,
        "number of free inputs z; for images, of free channels",
        "appendix C.2, without a number",
        least=1,
        most=4096,
    )
    order: str = option(
        "exact",
        "meta-gradient: exact, or first-order without Hessian products",
        "section 5.2",
        choices=("exact", "first"),
    )


def gradient(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return the query loss after adaptation and its gradient by z and the net (T, M)."""
    by_order = {"exact": mamls.exact, "first": mamls.first_order}
    return by_order[problem.options.order](w, task, problem)


def objective(w: Array, task: Task, problem: Problem) -> Array:
    """Return the query loss after adaptation. Raises UsageError for --order first."""
    if problem.options.order != "exact":
        raise UsageError("--order first is the gradient of no function; nothing to check")
    return mamls.MAML.objective(w, task, problem)


CONTEXT = mamls.MAML._replace(
    name="context",
    label="context vector of {context}",
    gradient=gradient,
    objective=objective,
    learns="theta and the first z",
    adapts="z",
    source="Finn et al. 2017, appendix C.2",
    options=Options,
    settings=(FEW_SHOT,),
    refuses=lambda options: (
        "with --algorithm context inner steps change z alone: no --adapt-norm"
        if getattr(options, "adapt_norm", False)
        else ""
    ),
    inputs=lambda options: options.context,
    moved=lambda model, options: ["z"],
)
