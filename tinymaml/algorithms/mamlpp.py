"""MAML++: a loss after every step, learned step sizes, batch norm for each step.

    w = [theta | rates | b_1, ..., b_{K-1}],   L = sum over k = 1..K of u_k Q(theta_k)

b_k are batch norm's arrays (offsets, and scales with --norm-scale) of step k; theta has
b_0. S_k reads b_k. Q(theta_k) reads b_{k-1}, the arrays of the step that led to theta_k. The
chain runs on the vector [theta | b], in which every b has step size 0.

u_k depends on the epoch e. Until epoch E = --multi-step-epochs

    u_k = max(1/K - e/(K E), 0.03/K) for k < K,   u_K = min(1/K + e (K-1)/(K E), 1 - 0.03 (K-1)/K)

and from then on u = (0, ..., 0, 1). Each part is an option: the multi-step loss, the rates,
first-order epochs (derivative-order annealing), batch norm per step.

The official code also keeps running statistics of batch norm, but never reads them
(meta_neural_network_architectures.py:246-247), so they have no effect and are left out.

Source: Antoniou, Edwards, Storkey, "How to train your MAML", ICLR 2019; u_k and the arrays of
each step from few_shot_learning_system.py:90-101 and :217-243 of its official code.
"""

from dataclasses import dataclass
from itertools import count
from typing import Any

import autograd.numpy as anp
import numpy as np
from numpy.random import Generator

from tinymaml import chain, params
from tinymaml.algorithms import features, learned
from tinymaml.algorithms.learned import TENSOR, PartOptions
from tinymaml.fewshot import Problem
from tinymaml.maml import Array, Task
from tinymaml.options import MOST, option, redefault
from tinymaml.params import Shapes


FLOOR = 0.03  # few_shot_learning_system.py:90-101


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


def weights(options: Any, epoch: int) -> Array:
    """Return u_1, ..., u_K (K,) of an epoch before --multi-step-epochs. They sum to 1."""
    steps, last = options.inner_steps, options.multi_step_epochs
    others = max(1 / steps - epoch / (steps * last), FLOOR / steps)
    return np.array([*[others] * (steps - 1), 1 - others * (steps - 1)])


def phase(options: Any, iteration: int) -> tuple[tuple[bool, bool], tuple[Array, ...]]:
    """Return (multi-step loss?, exact?), and the weights of that loss."""
    epoch = iteration // options.epoch
    many = options.multi_step_loss and epoch < options.multi_step_epochs
    many = many and options.inner_steps > 1
    exact = options.order == "exact" and epoch >= options.first_order_epochs
    arrays = (weights(options, epoch).astype(options.dtype),) if many else ()
    return (many, exact), arrays


# ----- Batch norm for each step -----


def norm_places(problem: Problem) -> Array:
    """Return the places in theta of the arrays that each step has; none without them."""
    if not problem.options.step_norm:
        return np.arange(0)
    names, steps = problem.model.norm, params.spans(problem.model.shapes)
    return np.concatenate([np.arange(0), *(np.r_[steps[name]] for name in names)])


def shapes(problem: Problem) -> Shapes:
    """Return the arrays of the model, the rates, and batch norm's after the first step."""
    later = max(problem.options.inner_steps - 1, 0)
    found, norms = learned.shapes(problem), len(norm_places(problem))
    return {**found, "norms": (later, norms)} if later * norms else found


def init(rng: Generator, problem: Problem) -> Array:
    """Return the first theta, rates and batch norm's arrays, equal in every step."""
    w = learned.init(rng, problem)
    later = max(problem.options.inner_steps - 1, 0)
    first = w[norm_places(problem).astype(int)]
    return np.concatenate([w, np.tile(first, later)])


class Steps:
    """The vector [theta | b] of w (T, M): which parts of it each step reads."""

    def __init__(self, w: Array, problem: Problem, steps: int) -> None:
        size = params.count(problem.model.shapes)
        norms = params.count(learned.shapes(problem))  # where they begin in w
        theta, alphas = learned.step_sizes(w[..., :norms], problem, steps)
        self.theta, self.alphas, more = theta, alphas, w[..., norms:]
        self.later, self.places = more.shape[-1], norm_places(problem).astype(int)
        if self.later:
            self.theta = anp.concatenate([theta, more], axis=-1)
            self.alphas = [anp.concatenate([a, 0 * more], axis=-1) for a in alphas]
        self.size, self.last = size, max(problem.options.inner_steps - 1, 0)

    def read(self, vector: Array, k: int) -> Array:
        """Return the theta (T, P) that step k reads; the last step's arrays continue."""
        if not self.later:
            return vector
        at, k, n = np.arange(self.size), min(k, self.last), len(self.places)
        if k:
            at[self.places] = self.size + (k - 1) * n + np.arange(n)
        return params.take(vector, at)

    def task(self, task: Task, first_query: int) -> Task:
        """Return the task as losses of [theta | b].

        first_query: k - 1, where theta_k is the first of which the query loss is asked for
        """
        if not self.later:
            return task

        def maker(of, counted):
            def make(vector):
                k = next(counted)
                loss = of(self.read(vector, k))
                return lambda at: loss(self.read(at, k))

            return make

        return Task(maker(task.support, count()), maker(task.query, count(first_query)))


# ----- The algorithm -----


def gradient(w: Array, task: Task, problem: Problem) -> tuple[Array, Array]:
    """Return the loss, weighted over the steps, and its gradient by w (T, M)."""
    (many, exact), steps = problem.phase, problem.options.inner_steps
    parts = Steps(w, problem, steps)
    task = parts.task(task, 0 if many else steps - 1)
    u = [problem.arrays[0][k] for k in range(steps)] if many else None
    if parts.later:
        loss, v, slopes = chain.gradient(parts.theta, task, parts.alphas, u, exact)
    else:
        args = parts.theta, task, problem, parts.alphas, u, exact
        loss, v, slopes = features.gradient(*args)
    found = learned.by_rates(
        v[..., : parts.size], [s[..., : parts.size] for s in slopes], problem
    )
    return loss, anp.concatenate([found, v[..., parts.size :]], axis=-1)


def adapt(w: Array, task: Task, problem: Problem, steps: int) -> list[Array]:
    """Return [theta_0, ..., theta_steps], each with the arrays that its query loss reads."""
    parts = Steps(w, problem, steps)
    thetas = chain.path(parts.theta, parts.task(task, 0), parts.alphas)
    return [parts.read(at, max(k - 1, 0)) for k, at in enumerate(thetas)]


def loss(w: Array, task: Task, problem: Problem) -> Array:
    """Return the loss that `gradient` differentiates, at the weights of problem.arrays."""
    steps, many = problem.options.inner_steps, problem.phase[0]
    thetas = adapt(w, task, problem, steps)
    if not many:
        return task.query(thetas[-1])(thetas[-1])
    pairs = zip(problem.arrays[0], thetas[1:], strict=True)
    return sum(u * task.query(at)(at) for u, at in pairs)


def objective(w: Array, task: Task, problem: Problem) -> Array:
    """Return `loss`. Raises UsageError in first-order epochs."""
    return learned.exactly(loss)(w, task, problem)


MAMLPP = learned.LEARNED._replace(
    name="maml++",
    label="MAML++",
    gradient=gradient,
    first_order=None,
    learns="theta, a step size per array and step, batch norm of each step",
    cost="1.33 of MAML with as many steps; then 1",
    source="Antoniou et al. 2019",
    adapt=adapt,
    objective=objective,
    options=Options,
    defaults=lambda given: learned.tested(5)({"rates": TENSOR, **given}),
    shapes=shapes,
    init=init,
    moved=learned.parts,
    phase=phase,
    uses=("epoch",),
)
