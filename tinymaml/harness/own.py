"""A trial of a user's own algorithm, before its training writes anything."""

import pickle
import random
import traceback
from pathlib import Path

import numpy as np

from tinymaml import algorithms
from tinymaml.algorithms.algorithm import FEW_SHOT, Algorithm
from tinymaml.check.mixing import mixing
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments.common import Config
from tinymaml.fewshot import drawn
from tinymaml.harness import loop, step
from tinymaml.maml import Array
from tinymaml.speed.replay import CannotRecordError, Function, bits, recorded


TASKS = 2
NOISE = 0.01  # of theta in the second of two calls
# Independent tasks differ by rounding in float64, which kinks and many steps amplify.
INDEPENDENT = 1e-6


@np.errstate(over="ignore", invalid="ignore")  # the loop reports what diverges
def replay_fault(config: Config) -> str:
    """Try the gradient of an own algorithm; return why it cannot be replayed, "" if it can.

    Algorithms of the package, of worlds to act in, or with an own `iterate` are not tried.
    Raises WorldError when the gradient fails, mixes tasks, or draws random numbers although
    it is to be replayed.
    """
    method, name = config.method, f"the gradient of {config.algorithm}"
    ours = config.algorithm in algorithms.ALGORITHMS
    if ours or method.iterate or config.setting != FEW_SHOT:
        return ""
    key, arrays = method.phase(config, 0)
    gradient = step.gradient_of(config.with_changes({"replay": False}), False, key)
    first, second = (_inputs(config, iteration) for iteration in range(2))
    try:
        before, found = _random_state(method), gradient(*first)
        drew = _random_state(method) != before
        is_random = drew or bits(gradient(*first)) != bits(found)
        if is_random and config.replay:
            raise WorldError(
                f"{name} draws random numbers, so a run cannot be repeated, and a replay"
                " would draw once only; train with --no-replay"
            )
        if np.isfinite(found[1]).all() and not is_random:
            change = _mixing(gradient, len(arrays), first)
            if not change <= INDEPENDENT:
                raise WorldError(
                    f"{name} mixes tasks: that of a task changes by {100 * change:.3g} %"
                    " beside another task; a loss is the sum over tasks, not their mean"
                )
    except (UsageError, WorldError):
        raise
    except Exception as error:
        raise WorldError(f"{name} fails: {_told(error, config.algorithm)}") from error
    return _fault(gradient, first, second) if config.replay else ""


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


def _told(error: Exception, algorithm: str) -> str:
    """Return an error's type and message, after the line of the algorithm's file."""
    file = Path(algorithm.rpartition(":")[0]).resolve()
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == file]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}"
