"""What an algorithm is: one record, which the rest of the package asks and never names.

Everything that is meta-learned lies in one vector w (M,). For most algorithms it is theta
(P,); for others theta and more behind it, as step sizes. Adam, checkpoints and workers see
w only.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from tinymaml import maml, params
from tinymaml.fewshot import Episode, Problem
from tinymaml.maml import Task
from tinymaml.models import Model
from tinymaml.optim import State
from tinymaml.params import Shapes


Array = np.ndarray

FEW_SHOT, RL = "few-shot", "rl"


@dataclass(frozen=True)
class NoOptions:
    """The options of an algorithm that has none of its own."""


class Tasks(NamedTuple):
    """What the training loop does for an algorithm that replaces its iteration.

    draw(tasks) -> the episodes of a fixed list of training tasks, with the options that
        the algorithm's `task_options` changes
    gradients(thetas (n, P), tasks) -> (loss, gradients (n, P)): the loss summed over those
        tasks, and each one's gradient by its own theta; the workers compute it in chunks
        with the algorithm's `gradient`
    """

    draw: Callable[[range], Episode]
    gradients: Callable[[Array, range], tuple[float, Array]]


# ----- Defaults of the record -----


def _path(w: Array, task: Task, problem: Problem, steps: int) -> list[Array]:
    return maml.path(w, task, problem.alpha, steps)


def _init(rng: Generator, problem: Problem) -> Array:
    return problem.model.init(rng)


def _model_shapes(problem: Problem) -> Shapes:
    return problem.model.shapes


def _all(model: Model) -> list[str]:
    return [*model.shapes]


class Algorithm(NamedTuple):
    """One algorithm. In what follows T tasks are side by side, and P = theta's size.

    name: the value of --algorithm
    method: the name that published figures have it by; `name` when it is empty
    label: what tables and pictures call it; {option} is replaced by an option's value
    gradient(w (T, M), task, problem) -> the summed loss, and its gradient by w (T, M).
        problem.alpha, problem.options and, with `phase`, problem.arrays are its inputs
    learns, adapts, cost: what is meta-learned, what gradient steps change at test time, and
        the time of an iteration relative to MAML with one step; for `tinymaml list`
    source: where it is from
    adapt(w (T, M), task, problem, steps) -> [theta_0, ..., theta_steps], each (T, P).
        Validation, test and pictures use nothing else. Written with autograd's NumPy
    objective(w (T, M), task, problem) -> the loss that `gradient` differentiates, which
        `tinymaml check` measures; None when `gradient` is the gradient of nothing
    twin: another exact way to what `gradient` returns, for `check` to compare; None
    first_order: the same gradient without Hessian products, for `check` to compare; None

    options: a frozen dataclass of `tinymaml.options.option` fields, all with defaults
    defaults(given) -> the experiment's options that have other defaults here; given are
        the options that the user chose
    ignores: options of the experiment that have no effect here, and are refused
    inner_loop: False when training takes no gradient steps. A held-out task is then adapted
        to with a step size that validation tasks choose (option `tune`)
    second_order: False when `gradient` takes the Hessians of the inner steps for zero
    settings: "few-shot", "rl" or both. In "rl" w is theta, and `gradient` must call the
        makers of the task in the order of the steps
    needs: what the experiment must offer besides: "regression", "task parameters"
    refuses(options) -> why the options do not fit the algorithm, "" when they do
    sees_task: the net is shown the parameters of the task, as the paper's oracle

    inputs(options) -> the number of free inputs z that the net has beside an example's own
    moved(model) -> the names of the arrays that inner steps change
    shapes(problem) -> the names and shapes of what lies in w, end to end
    init(rng, problem) -> the first w (M,), float64
    start(w (M,), problem) -> what adaptation starts from (M',): w itself for most
    phase(options, iteration) -> (key, arrays): a new recording of `gradient` is made for
        each key, and the arrays, which may change in every iteration, are its inputs

    iterate(state, problem, tasks) -> the next state, and what to record of the iteration;
        for an algorithm whose outer step is not Adam on a meta-batch's mean gradient
    task_options(options) -> the options that the tasks of `Tasks` have
    remarks(w, problem, tasks) -> lines to print below a table of results
    """

    name: str
    label: str
    gradient: Callable[[Array, Task, Problem], tuple[Array, Array]]
    method: str = ""
    learns: str = "theta"
    adapts: str = "theta"
    cost: str = "1"
    source: str = ""
    adapt: Callable[[Array, Task, Problem, int], list[Array]] = _path
    objective: Callable[[Array, Task, Problem], Array] | None = None
    twin: Callable[[Array, Task, Problem], tuple[Array, Array]] | None = None
    first_order: Callable[[Array, Task, Problem], tuple[Array, Array]] | None = None

    options: type = NoOptions
    defaults: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda given: {}
    ignores: tuple[str, ...] = ()
    inner_loop: bool = True
    second_order: bool = True
    settings: tuple[str, ...] = (FEW_SHOT,)
    needs: tuple[str, ...] = ()
    refuses: Callable[[Any], str] = lambda options: ""
    sees_task: bool = False

    inputs: Callable[[Any], int] = lambda options: 0
    moved: Callable[[Model], list[str]] = _all
    shapes: Callable[[Problem], Shapes] = _model_shapes
    init: Callable[[Generator, Problem], Array] = _init
    start: Callable[[Array, Problem], Array] = lambda w, problem: w
    phase: Callable[[Any, int], tuple[Hashable, tuple[Array, ...]]] = (
        lambda options, iteration: (None, ())
    )

    iterate: Callable[[State, Problem, Tasks], tuple[State, dict]] | None = None
    task_options: Callable[[Any], dict[str, Any]] = lambda options: {}
    remarks: Callable[[Array, Problem, Tasks], list[str]] = lambda w, problem, tasks: []

    @property
    def published_as(self) -> str:
        """The name that published figures have it by."""
        return self.method or self.name

    def size(self, problem: Problem) -> int:
        """Return M, the number of meta-learned numbers."""
        return params.count(self.shapes(problem))

    def step_sizes(self, model: Model, alpha: float, fixed: tuple[str, ...]) -> Any:
        """Return alpha, and 0 for the parameters that inner steps do not change.

        fixed: arrays that no algorithm changes in this experiment
        Returns a scalar when inner steps change everything, else (P,).
        """
        moved = [name for name in self.moved(model) if name not in fixed]
        if len(moved) == len(model.shapes):
            return alpha
        return alpha * params.mask(model.shapes, moved)


# ----- Parts of objectives -----


def loss_after(
    adapt: Callable[[Array, Task, Problem, int], list[Array]],
) -> Callable[[Array, Task, Problem], Array]:
    """Return the objective of MAML: the query loss after `inner_steps` steps of `adapt`."""

    def objective(w: Array, task: Task, problem: Problem) -> Array:
        theta = adapt(w, task, problem, problem.options.inner_steps)[-1]
        return task.query(theta)(theta)

    return objective


adapted_loss = loss_after(_path)
