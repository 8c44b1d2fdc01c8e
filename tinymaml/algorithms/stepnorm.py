"""Batch norm's arrays for each inner step (BNWB of MAML++).

    w = [theta | rates | b_1, ..., b_{K-1}]

b_k are the arrays of step k: offsets, and scales with --norm-scale. theta has b_0. The
chain runs on the vector [theta | b], in which every b has step size 0. S_k reads b_k.
Q(theta_k) reads b_{k-1}, the arrays of the step that led to theta_k. After more steps than
in training, the last step's arrays continue.

The official code also keeps running statistics of each step (BNRS), but never reads them
(meta_neural_network_architectures.py:246-247): they have no effect, and are left out.

Source: Antoniou, Edwards, Storkey 2019, section 4; few_shot_learning_system.py:217-243.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

import autograd.numpy as anp
import numpy as np
from numpy.random import Generator

from tinymaml import params
from tinymaml.algorithms import learned
from tinymaml.fewshot import Problem
from tinymaml.maml import Array, Loss, Task
from tinymaml.params import Shapes


class Layout(NamedTuple):
    """Where b lies. size: P; places: of b_0 in theta; later: K - 1, or 0 without them."""

    size: int
    places: Array
    later: int

    def read(self, vector: Array, k: int) -> Array:
        """Return the theta (..., P) that step k sees, from [theta | b]."""
        if not self.later:
            return vector
        at, k, n = np.arange(self.size), min(k, self.later), len(self.places)
        if k:
            at[self.places] = self.size + (k - 1) * n + np.arange(n)
        return params.take(vector, at)

    def task(self, task: Task, first_query: int) -> Task:
        """Return the task with losses of [theta | b].

        first_query: k - 1, where Q(theta_k) is the first query loss that is asked for
        """
        if not self.later:
            return task

        def maker(make: Callable[[Array], Loss], steps: Iterator[int]):
            def of(vector: Array) -> Loss:
                k = next(steps)
                loss = make(self.read(vector, k))
                return lambda at: loss(self.read(at, k))

            return of

        return Task(maker(task.support, count()), maker(task.query, count(first_query)))

    def joined(
        self, theta: Array, alphas: list[Array], b: Array
    ) -> tuple[Array, list[Array]]:
        """Return [theta | b], and the step sizes with zeros for b."""
        if not self.later:
            return theta, alphas
        sizes = [anp.concatenate([alpha, 0.0 * b], axis=-1) for alpha in alphas]
        return anp.concatenate([theta, b], axis=-1), sizes


def layout(problem: Problem) -> Layout:
    """Return where b lies; nowhere with --no-step-norm or in a net without batch norm."""
    size, names = params.count(problem.model.shapes), problem.model.norm
    if not names or not problem.options.step_norm:
        return Layout(size, np.arange(0), 0)
    spans = params.spans(problem.model.shapes)
    places = np.concatenate([np.r_[spans[name]] for name in names])
    return Layout(size, places, max(problem.options.inner_steps - 1, 0))


def shapes(problem: Problem) -> Shapes:
    """Return the arrays of the model, the rates, and b."""
    found, norm = learned.shapes(problem), layout(problem)
    return {**found, "norms": (norm.later, len(norm.places))} if norm.later else found


def init(rng: Generator, problem: Problem) -> Array:
    """Return the first theta, rates, and batch norm's arrays, equal in every step."""
    w, norm = learned.init(rng, problem), layout(problem)
    return np.concatenate([w, np.tile(w[norm.places], norm.later)])


def split(w: Array, problem: Problem, steps: int) -> tuple[Array, list[Array]]:
    """Return [theta | b] (T, ...), and the step sizes of so many steps."""
    size = params.count(learned.shapes(problem))
    theta, alphas = learned.step_sizes(w[..., :size], problem, steps)
    return layout(problem).joined(theta, alphas, w[..., size:])
