"""MAML++: a loss after every step, learned step sizes, batch norm's arrays of each step.

    w = [theta | rates | b],   L = sum over k = 1..K of u_k Q(theta_k)

Each part is an option. `learned` has the rates, `stepnorm` has b, `multistep` has u_k. In
the first epochs the gradient may be first-order (derivative-order annealing). Cosine
annealing is --schedule cosine, for every algorithm.

Source: Antoniou, Edwards, Storkey, "How to train your MAML", ICLR 2019.
"""

from dataclasses import dataclass
from typing import Any

import autograd.numpy as anp

from tinymaml import chain
from tinymaml.algorithms import features, learned, multistep, stepnorm
from tinymaml.algorithms.learned import TENSOR, PartOptions
from tinymaml.errors import UsageError
from tinymaml.fewshot import Problem
from tinymaml.maml import Array, Task
from tinymaml.options import MOST, option, redefault


@dataclass(frozen=True)
class Options(PartOptions):
    """The parts of MAML++."""

    rates: str = redefault(TENSOR, "section 4, LSLR")
    multi_step_loss: bool = option(
        True, "add the query losses after every step, with annealed weights", "section 4"
    )
    multi_step_epochs: int = option(
        10,
        "epochs after which the last step's query loss alone counts",
        "10 on Omniglot, 15 on mini-ImageNet: the official experiment_config",
        least=1,
        most=MOST,
    )
    first_order_epochs: int = option(
        0,
        "number of first epochs with first-order gradients",
        "section 4: 50; the official configurations switch it off",
        least=0,
        most=MOST,
    )
    step_norm: bool = option(
        True,
        "learn batch norm's arrays for each inner step; nets without batch norm have none",
        "section 4, BNWB",
    )


def refuses(options: Any) -> str:
    """Return why the options do not fit, "" when they fit."""
    by_step = options.step_norm and options.inner_steps > 1
    if by_step and getattr(options, "adapt_norm", False):
        return "--adapt-norm: add --no-step-norm; arrays of one step do not move"
    return multistep.idle(options, Options()) or learned.refuses(options)


def gradient(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return the loss, weighted over the steps, and its gradient by w (T, M)."""
    (many, exact), steps = problem.phase, problem.options.inner_steps
    theta, alphas = stepnorm.split(w, problem, steps)
    u, norm = [*problem.arrays[0]] if many else None, stepnorm.layout(problem)
    if norm.later:
        task = norm.task(task, 0 if many else steps - 1)
        loss, v, slopes = chain.gradient(theta, task, alphas, u, exact)
    else:
        loss, v, slopes = features.gradient(theta, task, problem, alphas, u, exact)
    slopes = [s[..., : norm.size] for s in slopes]
    by_rates = learned.by_rates(v[..., : norm.size], slopes, problem)
    return loss, anp.concatenate([by_rates, v[..., norm.size :]], axis=-1)


def first_order(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return the same without Hessian products."""
    return gradient(w, task, problem._replace(phase=(problem.phase[0], False)))


def adapt(w: Array, task: Task, problem: Problem, steps: int) -> list[Array]:
    """Return [theta_0, ..., theta_steps], each with the b that its query loss reads."""
    (theta, alphas), norm = stepnorm.split(w, problem, steps), stepnorm.layout(problem)
    thetas = chain.path(theta, norm.task(task, 0), alphas)
    return [norm.read(at, max(k - 1, 0)) for k, at in enumerate(thetas)]


def objective(w: Array, task: Task, problem: Problem) -> Array:
    """Return the loss that `gradient` differentiates. Raises UsageError in first order."""
    many, exact = problem.phase
    if not exact:
        raise UsageError("a first-order gradient is that of no function; nothing to check")
    thetas = adapt(w, task, problem, problem.options.inner_steps)
    if not many:
        return task.query(thetas[-1])(thetas[-1])
    losses = [task.query(theta)(theta) for theta in thetas[1:]]
    return sum(u * loss for u, loss in zip(problem.arrays[0], losses, strict=True))


MAMLPP = learned.LEARNED._replace(
    name="maml++",
    label="MAML++",
    gradient=gradient,
    first_order=first_order,
    learns="theta, a step size per array and step, batch norm of each step",
    cost="1.7 of MAML with as many steps; then 1.05",
    source="Antoniou et al. 2019",
    adapt=adapt,
    objective=objective,
    options=Options,
    defaults=lambda given: learned.tested(5)({"rates": TENSOR, **given}),
    refuses=refuses,
    shapes=stepnorm.shapes,
    init=stepnorm.init,
    moved=learned.parts,
    phase=multistep.phase,
    uses=("epoch",),
)
