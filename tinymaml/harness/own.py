"""A trial of a user's own experiment or algorithm, before its training writes anything."""

import pickle
import random
from collections.abc import Callable

import numpy as np

from tinymaml import algorithms, experiments, loading, maml, params
from tinymaml.algorithms.algorithm import FEW_SHOT, Algorithm
from tinymaml.check.mixing import mixing
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Episode, drawn
from tinymaml.harness import loop, step
from tinymaml.maml import Array
from tinymaml.speed.replay import bits, recorded
from tinymaml.speed.tape import CannotRecordError, Function


TASKS = 2
NOISE = 0.01  # of theta in the second of two calls
# Independent tasks differ by rounding in float64, which kinks and many steps amplify.
INDEPENDENT = 1e-6


def name(config: Config) -> str:
    """Return the name of what is the user's own: the algorithm, else the experiment."""
    own = algorithms.file_of(config.algorithm)
    return config.algorithm if own else config.name


@np.errstate(over="ignore", invalid="ignore")  # the loop reports what diverges
def replay_fault(config: Config) -> str:
    """Try an own experiment or algorithm; return why it cannot be replayed, "" if it can.

    Those of the package, worlds to act in, and an algorithm's own `iterate` are not tried.
    Raises WorldError when something fails or has a wrong shape, when the gradient mixes
    tasks, or when it draws random numbers although it is to be replayed.
    """
    method, mine = config.method, experiments.is_own(config)
    if config.setting != FEW_SHOT or not (mine or algorithms.file_of(config.algorithm)):
        return ""
    if mine:
        setup = experiments.of(config).setup
        _called("experiment", lambda: _check_problem(config), setup)
    if method.iterate:
        return ""
    gradient = step.gradient_of(
        config.with_changes({"replay": False}), False, method.phase(config, 0)[0]
    )
    first, second = (_inputs(config, iteration) for iteration in range(2))
    _called(f"gradient of {name(config)}", lambda: _check_gradient(config, gradient, first))
    return _fault(gradient, first, second) if config.replay else ""


@np.errstate(over="ignore", invalid="ignore")
def unlearned(config: Config) -> str:
    """Return a line about matrices of an own model that stay at 0; "" without any.

    They begin at 0, and the losses have no slope there: a net whose weights all are 0
    passes no signal.
    """
    if config.setting != FEW_SHOT or not experiments.is_own(config):
        return ""
    family, method = problem(config), config.method
    start = np.tile(method.start(loop.initial_state(config).theta, family), (TASKS, 1))
    task = family.task(drawn(family, config.seed, "train", 0, range(TASKS)))
    theta = method.adapt(start, task, family, 0)[0]
    slopes = [_slope(make(theta), theta) for make in (task.support, task.query)]
    places = params.spans(family.model.shapes)
    found = [
        name
        for name, shape in family.model.shapes.items()
        if len(shape) > 1 and not any(x[..., places[name]].any() for x in (theta, *slopes))
    ]
    if not found:
        return ""
    some = ", ".join(found[:5]) + ", ..." * (len(found) > 5)
    advice = (
        f"give them random initial values: Block(..., draws={{{found[0]!r}: ...}}, ...)"
    )
    return f"{some} of the model begin at 0, where the losses have no slope; {advice}"


def _slope(loss: Callable, theta: Array) -> Array:
    try:
        return maml.gradient(loss, theta)
    except (TypeError, ValueError):  # a loss that does not depend on theta
        return np.zeros_like(theta)


def _called(what: str, trial: Callable[[], None], within: Callable | None = None) -> None:
    """Call a trial; raise WorldError with the line of the user's file where it fails."""
    try:
        trial()
    except (UsageError, WorldError):
        raise
    except Exception as error:
        raise WorldError(f"the {what} fails: {loading.described(error, within)}") from error


def _check_problem(config: Config) -> None:
    """Raise WorldError where episodes, losses or scores have wrong shapes."""
    family, theta = problem(config), loop.initial_state(config).theta
    start = np.tile(config.method.start(theta, family), (TASKS, 1))
    for split in ("train", "val", "test"):
        both, last = (
            drawn(family, config.seed, split, 0, range(i, TASKS)) for i in (0, TASKS - 1)
        )
        here = loading.place(family.sample)
        for field, some, one in zip(Episode._fields, both, last, strict=True):
            if np.shape(some)[:1] != (TASKS,):
                found = f"{field} of {TASKS} tasks has shape {np.shape(some)}"
                raise WorldError(f"{here}{found}, not ({TASKS}, ...)")
            numbers = np.asarray(some)
            if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
                raise WorldError(f"{here}{field} of {split} tasks is not finite")
            if bits([some[-1]]) != bits([one[0]]):
                what = f"{field} of a task depends on the tasks beside it"
                raise WorldError(f"{here}{what}; draw each from its own stream")
        task = family.task(both)
        theta_0 = config.method.adapt(start, task, family, 0)[0]
        for kind in ("support", "query"):
            try:
                loss = getattr(task, kind)(theta_0)
                value = loss(theta_0)
            except Exception as error:
                what = loading.described(error, family.task)
                raise WorldError(f"the {kind} loss fails: {what}") from error
            if np.ndim(value):
                own = loading.place(getattr(task, f"{kind}_loss", loss))
                found = f"the {kind} loss has shape {np.shape(value)}"
                raise WorldError(f"{own}{found}, not (): it is a sum over the tasks")
        scores = family.score(theta_0, both)
        if np.shape(scores) != (TASKS,):
            found = f"the scores of {TASKS} tasks have shape {np.shape(scores)}"
            raise WorldError(f"{loading.place(family.score)}{found}, not ({TASKS},)")


def _check_gradient(config: Config, gradient: Function, inputs: tuple[Array, ...]) -> None:
    """Raise WorldError where a gradient mixes tasks, or is random and to be replayed."""
    method, what = config.method, f"the gradient of {name(config)}"
    before, found = _random_state(method), gradient(*inputs)
    drew = _random_state(method) != before
    is_random = drew or bits(gradient(*inputs)) != bits(found)
    if is_random and config.replay:
        raise WorldError(
            f"{what} draws random numbers, so a run cannot be repeated, and a replay"
            " would draw once only; train with --no-replay"
        )
    if np.isfinite(found[1]).all() and not is_random:
        change = _mixing(gradient, len(method.phase(config, 0)[1]), inputs)
        if not change <= INDEPENDENT:
            raise WorldError(
                f"{what} mixes tasks: that of a task changes by {100 * change:.3g} %"
                " beside another task; a loss is the sum over tasks, not their mean"
            )


def _inputs(config: Config, iteration: int) -> tuple[Array, ...]:
    """Return inputs of the gradient: w (TASKS, M), the arrays of phase and episodes."""
    family, theta = step.training(config), loop.initial_state(config).theta
    noise = iteration * NOISE * np.random.default_rng(0).standard_normal(theta.shape)
    w = np.tile((theta + noise).astype(theta.dtype), (TASKS, 1))
    _, arrays = config.method.phase(config, 0)
    return w, *arrays, *drawn(family, config.seed, "train", iteration, range(TASKS))


def _mixing(gradient: Function, phased: int, inputs: tuple[Array, ...]) -> float:
    """Return `mixing` in float64. phased: number of arrays after w that no task owns."""
    exact = [x.astype(float) if x.dtype.kind == "f" else x for x in inputs]

    def gradients(some: slice) -> Array:
        shared = range(1, 1 + phased)
        own = (x if i in shared else x[some] for i, x in enumerate(exact))
        return gradient(*own)[1]

    return mixing(gradients, TASKS)


def _fault(gradient: Function, first: tuple[Array, ...], second: tuple[Array, ...]) -> str:
    replay = recorded(gradient)
    try:
        for inputs in (first, second):
            replay(*inputs)
    except CannotRecordError as error:
        return str(error.args[0])
    except Exception as error:  # whatever a function says of a traced value
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


def _random_state(method: Algorithm) -> bytes:
    """Return the state of the global random streams, and of those in the gradient's file.

    A draw need not change a gradient: a dropout may drop nothing in two calls.
    """
    names = getattr(method.gradient, "__globals__", {}).values()
    streams = [x.bit_generator.state for x in names if isinstance(x, np.random.Generator)]
    return pickle.dumps((random.getstate(), np.random.get_state(), streams))
