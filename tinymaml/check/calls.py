"""Programs that return something else at every call: random, or with a memory."""

import random
import sys
from collections.abc import Callable, Iterator

import numpy as np

from tinymaml.check.classify import SAME
from tinymaml.check.program import Program
from tinymaml.check.suspects import Suspect
from tinymaml.maml import Array


CALLS = 8
# Two gradients that should be the same, or multiples of each other.
CLOSE = 1e-9


def of_calls(program: Program, at: Array, gradient: Array) -> Iterator[Suspect]:
    """Yield how results change though theta does not. gradient: of the first call."""
    values = np.array([program.value(at) for _ in range(CALLS)])
    if not (np.isfinite(values).all() and np.isfinite(gradient).all()):
        return
    spread = float(np.ptp(values) / (np.abs(values).max() or 1.0))
    if spread > SAME:
        yield from _changing(program, at, values, spread)
        return
    program.value(at * 1.01 + 0.01)
    after = program.value(at)
    if apart(after, values[0]) > SAME:
        text = (
            "the meta-loss depends on earlier calls: a call at another theta changed it by"
        )
        text += f" {apart(after, values[0]):.1e} (buffers, caches)"
        yield Suspect("state", text, apart(after, values[0]))
        return
    again = program.claimed(at)
    after = program.value(at)
    if apart(after, values[0]) > SAME:
        text = "the meta-loss depends on earlier calls: meta_gradient changed it by"
        text += f" {apart(after, values[0]):.1e} (an optimiser's step, buffers)"
        yield Suspect("state", text, apart(after, values[0]))
    yield from _gradients(program, at, gradient, again)


def _changing(
    program: Program, at: Array, values: Array, spread: float
) -> Iterator[Suspect]:
    steps = np.diff(values)
    drift = np.all(steps > 0) or np.all(steps < 0)
    settling = np.all(np.abs(steps[1:]) < np.abs(steps[:-1]) * (1 + 1e-9))
    period = next(
        (n for n in (2, 3, 4) if np.allclose(values[n:], values[:-n], SAME, 0)), 0
    )
    figures = f"in {CALLS} calls at the same theta it varies by {spread:.1e}"
    if _seeded(lambda: program.value(at)):
        text = f"the meta-loss is random: {figures}, and not with fixed seeds"
        yield Suspect("randomness", f"{text} (dropout, sampling)", spread)
    elif drift or settling or period:
        how = (
            f"repeats after {period} calls" if period else "drifts" if drift else "settles"
        )
        text = f"the meta-loss depends on earlier calls: {figures} and {how}"
        kept = "batch-norm buffers, optimiser state, the next batch"
        yield Suspect("state", f"{text} ({kept})", spread)
    else:
        text = f"the meta-loss is random: {figures} without a trend (dropout, sampling)"
        yield Suspect("randomness", text, spread)


def _gradients(
    program: Program, at: Array, first: Array, second: Array
) -> Iterator[Suspect]:
    """Yield gradients that add up, that are random or that change otherwise."""
    third = program.claimed(at)
    size = np.linalg.norm(first) or 1.0
    one, two = np.linalg.norm(second - first) / size, np.linalg.norm(third - second) / size
    if max(one, two) < CLOSE:
        return
    if abs(one - two) < 1e-6 * one:  # each call adds the same
        ratio = np.linalg.norm(second) / size
        text = (
            f"the gradient adds up from call to call: the second is {ratio:.2f} times the"
        )
        yield Suspect("accumulates", f"{text} first: zero_grad missing?", float(one))
    elif _seeded(lambda: program.claimed(at)):
        text = f"the gradient is random: two calls differ by {one:.1e}, but not with fixed"
        yield Suspect("randomness", f"{text} seeds (dropout, sampling)", float(one))
    else:
        text = f"the gradient depends on earlier calls: a second one differs by {one:.1e}"
        yield Suspect("state", f"{text} (buffers, optimiser state)", float(one))


def apart(a: float, b: float) -> float:
    """Return the relative difference of two values."""
    return abs(a - b) / (max(abs(a), abs(b)) or 1.0)


def _seeded(function: Callable) -> bool:
    """Return whether the global generators' seeds decide the result. They are restored."""
    torch = sys.modules.get("torch")
    saved = random.getstate(), np.random.get_state(), torch and torch.get_rng_state()
    found = []
    for seed in (1, 1, 2):
        random.seed(seed)
        np.random.seed(seed)
        if torch:
            torch.manual_seed(seed)
        found.append(np.asarray(function()))
    random.setstate(saved[0])
    np.random.set_state(saved[1])
    if torch:
        torch.set_rng_state(saved[2])
    return bool(np.allclose(found[0], found[1], SAME, 0) and (found[1] != found[2]).any())
