"""An algorithm is one record, which the rest of the package reads.

Everything that is meta-learned lies in one vector w (M,). For most algorithms w is theta
(P,), the arrays of the model; others append more to it, such as step sizes. Adam,
checkpoints and workers see w.

A record needs a name, a label and a gradient. What else it gives depends on what is new:

    new                                fields                       an example
    another gradient                   gradient, adapt, objective   README.md
    inner steps change other arrays    moved                        anil.py
    another net                        build, and moved             tnet.py
    more is learned than theta         shapes, init, and those of   curvature.py
                                       another gradient

`learned.LEARNED` is MAML with the options --rates and --order. Replace its fields to have
these options too.
"""

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.random import Generator

from tinymaml import maml, params
from tinymaml.errors import UsageError
from tinymaml.fewshot import Episode, Problem
from tinymaml.maml import Array, Task
from tinymaml.models import Model
from tinymaml.optim import State
from tinymaml.params import Shapes


# The task is what `Problem.task` returns: a `maml.Task`, or more fields beside its two.
Gradient = Callable[[Array, Any, Problem], tuple[Array, ...]]
Adaptation = Callable[[Array, Any, Problem, int], list[Array]]

FEW_SHOT, RL = "few-shot", "rl"


@dataclass(frozen=True)
class NoOptions:
    """The options of an algorithm that has none of its own."""


class Tasks(NamedTuple):
    """The tasks that the training loop offers to an algorithm's own iteration.

    draw(tasks) -> the episodes of fixed training tasks, drawn with `task_options`
    gradients(thetas (n, P), tasks) -> (loss, gradients (n, P)): the loss summed over those
        tasks, and the gradient of each task by its own theta. Workers compute it in chunks
        with the algorithm's `gradient`
    """

    draw: Callable[[range], Episode]
    gradients: Callable[[Array, range], tuple[float, Array]]


class Implicit(NamedTuple):
    """What `check` needs of an algorithm that differentiates a minimum, not its steps.

    inner(w (T, P), task, problem) -> a task. `adapt` takes gradient steps on its support
        loss S(phi) + R(phi, w). The objective is its query loss at the minimum over the
        parameters that inner steps move; the others have w's values
    gradient(phi (T, P), w, task, problem, steps=0) -> what `Algorithm.gradient` returns, as
        if phi were that minimum, with so many steps of a linear solver; 0: as in training.
        `residual` is its first figure
    """

    inner: Callable[[Array, Task, Problem], Task]
    gradient: Callable[..., tuple[Array, ...]]


def _path(w: Array, task: Task, problem: Problem, steps: int) -> list[Array]:
    return maml.path(w, task, problem.alpha, steps)


class Algorithm(NamedTuple):
    """One algorithm. Below, T tasks are side by side and theta has P numbers.

    name: the value of --algorithm
    label: the name in tables and pictures; an option's value replaces {option}
    gradient(w (T, M), task, problem) -> the summed loss, and its gradient by w (T, M). It
        reads problem.alpha, problem.options and, with `phase`, problem.arrays and .phase.
        After these it returns `figures`: a number (T,) each, of which the means are logged.
        It uses autograd's NumPy, keeps the precision of w and leaves tasks independent.
        Its NumPy calls are recorded once and replayed. One that decides by values trains
        without a replay, after a note; one that draws at random needs --no-replay
    method: the name in published figures; `name` when it is empty
    learns, adapts, cost: the meta-learned parameters, those that gradient steps change at
        test time, and the time of an iteration relative to MAML with one step
    source: the publication; `tinymaml list` shows these four
    adapt(w (T, M), task, problem, steps) -> [theta_0, ..., theta_steps], each (T, P).
        Validation, test and pictures adapt with it alone. It uses autograd's NumPy
    objective(w (T, M), task, problem) -> the loss that `gradient` differentiates, for
        `tinymaml check`; None when `gradient` is the gradient of no function
    implicit: in place of an objective, an inner problem and the gradient at its minimum
    twin: another exact way to compute `gradient`, for `check` to compare
    first_order: `gradient` without Hessian products, for `check` to compare

    options: a frozen dataclass of `tinymaml.options.option` fields with defaults
    defaults(given) -> other defaults of options; given: the user's choices, by name. An
        option that it does not name has the experiment's default
    ignores: options of the experiment that have no effect here and are refused
    inner_loop: whether training takes inner steps. Without them, validation tasks choose
        the step size of adaptation (option `tune`)
    second_order: whether `gradient` uses the Hessians of inner steps
    settings: "few-shot", "rl" or both. In "rl" w is theta, and `gradient` must call the
        makers of the task in the order of the steps
    not_in_rl: why it does not work in "rl", for the error message
    needs: requirements on the experiment: "regression", "task parameters"
    refuses(options) -> why the options do not fit the algorithm, "" when they fit
    sees_task: whether the parameters of the task are inputs of the net, as for the oracle

    inputs(options) -> the number of free inputs z that the net has besides an example
    build(model, options) -> the model that is trained in place of the experiment's, in
        few-shot experiments
    moved(model, options) -> the names of the arrays of that model which inner steps change.
        problem.alpha is 0 for all others, and for those that stay in this experiment
    shapes(problem) -> the names and shapes of the arrays that lie in w end to end. If theta
        is a part of w, it comes first. `params.unpack` reads w by them
    init(rng, problem) -> the initial w (M,), float64
    start(w (M,), problem) -> the w (M',) that `adapt` takes at test time: w itself for most
    rates(w (M,), problem) -> the learned step sizes (K, P) of each inner step, 0 for
        parameters that stay; (1, P) where steps share them; None when none are learned
    phase(options, iteration) -> (key, arrays): each new key, in problem.phase, makes a new
        recording of `gradient`; the arrays, in problem.arrays, are its inputs and may
        change in every iteration. `check` takes those of iteration 0
    uses: options of the experiment that have an effect because of the algorithm: "epoch"

    iterate(state, problem, tasks) -> the next state, and the iteration's record. None for
        an Adam step on the mean gradient of a meta-batch
    task_options(options) -> other options that training tasks have
    remarks(w, problem, tasks) -> lines to print below a table of results
    """

    name: str
    label: str
    gradient: Gradient
    method: str = ""
    learns: str = "theta"
    adapts: str = "theta"
    cost: str = "1"
    source: str = ""
    figures: tuple[str, ...] = ()
    adapt: Adaptation = _path
    objective: Callable[[Array, Any, Problem], Any] | None = None
    implicit: Implicit | None = None
    twin: Gradient | None = None
    first_order: Gradient | None = None

    options: type = NoOptions
    defaults: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda given: {}
    ignores: tuple[str, ...] = ()
    inner_loop: bool = True
    second_order: bool = True
    settings: tuple[str, ...] = (FEW_SHOT,)
    not_in_rl: str = ""
    needs: tuple[str, ...] = ()
    refuses: Callable[[Any], str] = lambda options: ""
    sees_task: bool = False

    inputs: Callable[[Any], int] = lambda options: 0
    build: Callable[[Model, Any], Model] = lambda model, options: model
    moved: Callable[[Model, Any], Collection[str]] = lambda model, options: model.shapes
    shapes: Callable[[Problem], Shapes] = lambda problem: problem.model.shapes
    init: Callable[[Generator, Problem], Array] = lambda rng, p: p.model.init(rng)
    start: Callable[[Array, Problem], Array] = lambda w, problem: w
    rates: Callable[[Array, Problem], Array | None] = lambda w, problem: None
    phase: Callable[[Any, int], tuple[Hashable, tuple[Array, ...]]] = (
        lambda options, iteration: (None, ())
    )
    uses: tuple[str, ...] = ()

    iterate: Callable[[State, Problem, Tasks], tuple[State, dict]] | None = None
    task_options: Callable[[Any], dict[str, Any]] = lambda options: {}
    remarks: Callable[[Array, Problem, Tasks], list[str]] = lambda w, problem, tasks: []

    @property
    def published_as(self) -> str:
        """The name in published figures."""
        return self.method or self.name

    def at_iteration(self, problem: Problem, iteration: int) -> Problem:
        """Return the problem with the arrays and the phase of an iteration."""
        key, arrays = self.phase(problem.options, iteration)
        return problem._replace(arrays=arrays, phase=key)

    def size(self, problem: Problem) -> int:
        """Return M, the number of meta-learned numbers."""
        return params.count(self.shapes(problem))

    def step_sizes(self, model: Model, options: Any, fixed: tuple[str, ...] = ()) -> Any:
        """Return alpha, or (P,) with 0 for the parameters that inner steps do not change.

        fixed: arrays that no algorithm changes in this experiment
        """
        asked = self.moved(model, options)
        if unknown := {*asked} - model.shapes.keys():
            lack = f"{self.name} moves what the model lacks: {sorted(unknown)}"
            raise UsageError(f"{lack}{self._needed(options)}")
        moved = [name for name in asked if name not in fixed]
        alpha, head = options.alpha, options.alpha_head
        if head and not {*moved} & {*model.head}:
            raise UsageError("--alpha-head: inner steps do not change the head")
        if head and head != alpha:
            alpha = alpha + (head - alpha) * params.mask(model.shapes, model.head)
        if len(moved) == len(model.shapes):
            return alpha
        return alpha * params.mask(model.shapes, moved)

    def _needed(self, options: Any) -> str:
        """Return what an experiment must do for the arrays that this algorithm adds."""
        if free := self.inputs(options):
            net = f"models.with_context(model, ({free},))"
            return f"; the inputs need {free} columns more, from model = {net}"
        if self.build is not Algorithm._field_defaults["build"]:
            return "; it needs model = config.method.build(model, config)"
        return ""


def loss_after(adapt: Adaptation) -> Callable[[Array, Any, Problem], Any]:
    """Return the objective of MAML: the query loss after `inner_steps` steps of `adapt`."""

    def objective(w: Array, task: Task, problem: Problem) -> Array:
        theta = adapt(w, task, problem, problem.options.inner_steps)[-1]
        return task.query(theta)(theta)

    return objective


adapted_loss = loss_after(_path)
