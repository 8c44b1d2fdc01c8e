"""MAML: exact, exact with less memory, first-order, and with E-MAML's score term."""

from tinymaml import maml
from tinymaml.algorithms.algorithm import FEW_SHOT, RL, Algorithm, adapted_loss
from tinymaml.fewshot import Problem
from tinymaml.maml import Array, Task
from tinymaml.rl import surrogates


def exact(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return `maml.meta_gradient`."""
    return maml.meta_gradient(w, task, problem.alpha, problem.options.inner_steps)


def low_memory(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return `maml.meta_gradient_low_memory`."""
    steps = problem.options.inner_steps
    return maml.meta_gradient_low_memory(w, task, problem.alpha, steps)


def first_order(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return `maml.first_order`."""
    return maml.first_order(w, task, problem.alpha, problem.options.inner_steps)


def with_score_term(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return `surrogates.e_maml`."""
    return surrogates.e_maml(w, task, problem.alpha, problem.options.inner_steps)


MAML = Algorithm(
    name="maml",
    label="MAML",
    gradient=exact,
    cost="1; 3.8 with five steps",
    source="Finn et al. 2017, algorithms 1 to 3",
    objective=adapted_loss,
    twin=low_memory,
    first_order=first_order,
    settings=(FEW_SHOT, RL),
)
LOW_MEMORY = MAML._replace(
    name="maml-low-memory",
    method="maml",
    gradient=low_memory,
    cost="1.3; memory of one step",
    twin=exact,
)
FIRST_ORDER = Algorithm(
    name="fomaml",
    label="first-order MAML",
    gradient=first_order,
    cost="0.65",
    source="Finn et al. 2017, section 5.2",
    second_order=False,
    settings=(FEW_SHOT, RL),
)
E_MAML = Algorithm(
    name="e-maml",
    label="E-MAML",
    gradient=with_score_term,
    cost="1.3; noisy",
    source="Stadie et al. 2018; the score term is proved by `tinymaml check pointnav`",
    settings=(RL,),
    refuses=lambda options: (
        ""
        if options.surrogate == "naive"
        else "E-MAML is right with --surrogate naive only"
    ),
)
