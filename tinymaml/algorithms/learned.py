"""Step sizes that are fixed, or learned together with theta.

    w = [theta | rates],   theta_{k+1} = theta_k - alpha_k g_k

    --rates     alpha_k                                         gradient of the rates
    fixed       --alpha                                         none
    parameter   a number per parameter, the same in all steps   sum over k of s_k
    tensor      a number per array of the model and step        s_k, summed over each array

s_k = -g_k v_{k+1} are the slopes of `chain`; first-order algorithms keep them. Where inner
steps leave a parameter alone, its rate is not used. After more steps than in training, the
last step's rates continue. Nothing keeps rates from becoming negative.

Sources: Meta-SGD (Li et al. 2017) learns a rate per parameter. MAML++ (Antoniou et al.
2019) learns one per array and step: inner_loop_optimizers.py:88-91 of its official code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import autograd.numpy as anp
import numpy as np
from numpy.random import Generator

from tinymaml import chain, maml, params
from tinymaml.algorithms import features
from tinymaml.algorithms.algorithm import RL, Algorithm, Tasks, loss_after
from tinymaml.errors import UsageError
from tinymaml.fewshot import Problem
from tinymaml.maml import Array, Task
from tinymaml.options import option
from tinymaml.params import Shapes
from tinymaml.summary import lacking


FIXED, PARAMETER, TENSOR = "fixed", "parameter", "tensor"
ALL, HEAD, BODY = "all", "head", "body"


@dataclass(frozen=True)
class Options:
    """The rates and the order of an algorithm that takes gradient steps."""

    rates: str = option(
        FIXED,
        "step sizes: fixed, or learned per parameter, or per array (tensor) and step",
        "parameter: Meta-SGD; tensor: MAML++",
        choices=(FIXED, PARAMETER, TENSOR),
    )
    order: str = option(
        "exact",
        "meta-gradient: exact, or first-order without Hessian products",
        "Finn et al. 2017, section 5.2",
        choices=("exact", "first"),
    )


@dataclass(frozen=True)
class PartOptions(Options):
    """The same, and the layers that inner steps change."""

    adapts: str = option(
        ALL,
        "parameters that inner steps change: all, the head, or the body (all but the head)",
        "head: ANIL (Raghu et al. 2020); body: BOIL (Oh et al. 2021)",
        choices=(ALL, HEAD, BODY),
    )


def parts(model: Any, options: Any) -> tuple[str, ...]:
    """Return the names of the arrays that `--adapts` names."""
    names = {ALL: tuple(model.shapes), HEAD: model.head, BODY: model.body}
    return names[options.adapts]


# ----- What is learned -----


def shapes(problem: Problem) -> Shapes:
    """Return the arrays of the model, then the rates."""
    model, options = problem.model.shapes, problem.options
    if options.rates == PARAMETER:
        return {**model, "alpha": (params.count(model),)}
    if options.rates == TENSOR:
        return {**model, "rates": (options.inner_steps, len(model))}
    return model


def init(rng: Generator, problem: Problem) -> Array:
    """Return the first theta, and rates that are all --alpha."""
    theta, options = problem.model.init(rng), problem.options
    alpha = np.broadcast_to(problem.alpha, theta.shape)
    if options.rates == PARAMETER:
        return np.concatenate([theta, alpha])
    if options.rates == TENSOR:
        each = alpha[params.starts(problem.model.shapes)]
        return np.concatenate([theta, np.tile(each, options.inner_steps)])
    return theta


def moved(problem: Problem) -> Array:
    """Return (P,) with 1 for the parameters that inner steps change, and 0 elsewhere."""
    size = params.count(problem.model.shapes)
    return (np.broadcast_to(problem.alpha, size) != 0).astype(float)


def step_sizes(w: Array, problem: Problem, steps: int) -> tuple[Array, list[Array]]:
    """Return theta (T, P) and the step sizes alpha_0, ..., alpha_{steps-1} (T, P)."""
    model, options = problem.model.shapes, problem.options
    size = params.count(model)
    theta, rates = w[..., :size], w[..., size:]
    if not rates.shape[-1]:  # fixed, or without a step in training
        return theta, [*maml._step_sizes(problem.alpha, theta, steps)]
    mask = moved(problem).astype(w.dtype)
    if options.rates == PARAMETER:
        return theta, [mask * rates[..., :size]] * steps
    n, last = len(model), options.inner_steps - 1
    rows = [rates[..., k * n : (k + 1) * n] for k in range(options.inner_steps)]
    found = [mask * params.spread(row, model) for row in rows]
    return theta, [found[min(k, last)] for k in range(steps)]


def by_rates(v: Array, slopes: list[Array], problem: Problem) -> Array:
    """Return the gradient by w, from that by theta and the slopes of each step (T, P)."""
    rates, mask = problem.options.rates, moved(problem).astype(v.dtype)
    if rates == PARAMETER:
        return anp.concatenate([v, mask * sum(slopes, 0.0 * v)], axis=-1)
    if rates == TENSOR:
        sums = [params.totals(mask * s, problem.model.shapes) for s in slopes]
        return anp.concatenate([v, *sums], axis=-1)
    return v


def learned_rates(w: Array, problem: Problem) -> Array | None:
    """Return the step sizes (K, P) in w (M,), (1, P) where steps share them, or None."""
    kind, steps = problem.options.rates, problem.options.inner_steps
    if kind == FIXED or not steps:
        return None
    _, alphas = step_sizes(w, problem, 1 if kind == PARAMETER else steps)
    return np.stack(alphas)


def described(rates: Array, problem: Problem) -> str:
    """Return the median and range of step sizes (steps, P), and how many are negative.

    Step sizes of exactly 0 belong to parameters that inner steps leave alone. One that an
    array shares counts once.
    """
    if getattr(problem.options, "rates", "") == TENSOR:
        rates = rates[:, params.starts(problem.model.shapes)]
    used = rates[rates != 0]
    if not used.size:
        return "no step sizes"
    if missing := lacking(used):
        return missing
    numbers = f"median {np.median(used):.3g}, from {used.min():.3g} to {used.max():.3g}"
    return f"{numbers}; {np.sum(used < 0)} of {used.size} negative"


def remarks(w: Array, problem: Problem, tasks: Tasks) -> list[str]:
    """Return the line on learned step sizes, if there are any."""
    rates = learned_rates(w, problem)
    return [] if rates is None else [f"learned step sizes: {described(rates, problem)}"]


# ----- The algorithm -----


def gradient(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return the query loss after adaptation and its gradient by w (T, M).

    Layers below the first that steps change are passed once; see `features`.
    """
    return _gradient(w, task, problem, features.gradient)


def masked(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return the same by `chain` on the whole theta, with step sizes 0."""

    def whole(theta, task, problem, *more):
        return chain.gradient(theta, task, *more)

    return _gradient(w, task, problem, whole)


def first_order(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return the same without Hessian products, the slopes of the rates included."""
    return _gradient(w, task, problem, features.gradient, exact=False)


def _gradient(
    w: Array, task: Task, problem: Problem, way: Callable, exact: bool = True
) -> tuple[Array, Array]:
    options = problem.options
    theta, alphas = step_sizes(w, problem, options.inner_steps)
    exact = exact and options.order == "exact"
    loss, v, slopes = way(theta, task, problem, alphas, None, exact)
    return loss, by_rates(v, slopes, problem)


def adapt(w: Array, task: Task, problem: Problem, steps: int) -> list[Array]:
    """Return [theta_0, ..., theta_steps]."""
    theta, alphas = step_sizes(w, problem, steps)
    return chain.path(theta, task, alphas)


def exactly(objective: Callable) -> Callable[[Array, Task, Problem], Array]:
    """Return an objective that raises UsageError for --order first."""

    def checked(w: Array, task: Task, problem: Problem) -> Array:
        if problem.options.order != "exact":
            message = "--order first is the gradient of no function; nothing to check"
            raise UsageError(message)
        return objective(w, task, problem)

    return checked


objective = exactly(loss_after(adapt))


def tested(inner_steps: int) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return the defaults of an algorithm that trains with so many inner steps.

    Learned rates do not carry over to more steps than they were learned with, so such a
    run is tested with as many as it was trained with.
    """

    def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
        steps = given.get("inner_steps", inner_steps)
        learned = given.get("rates", FIXED) != FIXED
        return {"inner_steps": inner_steps} | ({"test_steps": steps} if learned else {})

    return defaults


def usual(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of an algorithm that takes those of the experiment.

    With learned rates it trains and is tested with one step, as Meta-SGD does.
    """
    return tested(1)(given) if given.get("rates", FIXED) != FIXED else {}


def refuses(options: Any) -> str:
    """Return why the options do not fit, "" when they fit."""
    if options.setting == RL and options.order != "exact":
        return "--order first: TRPO's metric has the Hessians of the steps"
    if options.rates == FIXED:
        return ""
    if options.setting == RL:
        return "--rates: TRPO's metric is of the policy's parameters, and rates are none"
    known = options.alpha or options.alpha_head
    return "" if known else "learned step sizes start at --alpha: above 0"


def refuses_norm(options: Any) -> str:
    """Return why the options do not fit an algorithm whose inner steps change z alone."""
    if getattr(options, "adapt_norm", False):
        name = options.algorithm
        return f"with --algorithm {name} inner steps change z alone: no --adapt-norm"
    return refuses(options)


LEARNED = Algorithm(
    name="",
    label="",
    gradient=gradient,
    adapt=adapt,
    objective=objective,
    first_order=first_order,
    options=Options,
    defaults=usual,
    refuses=refuses,
    not_in_rl="TRPO's metric is of the policy's parameters, and it learns others too",
    shapes=shapes,
    init=init,
    rates=learned_rates,
    remarks=remarks,
)
