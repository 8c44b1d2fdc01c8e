"""Where the time of a training iteration goes, beside its bare meta-step.

The parts are timed inside real iterations of `harness.loop.train`. There they take longer
than alone, since the meta-step between them fills the caches. Validation and checkpoints
are rare: their time is spread over the iterations between two of them.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import measure
import numpy as np

from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.sine import Sine
from tinymaml.fewshot import drawn
from tinymaml.harness import checkpoints, loop
from tinymaml.harness import step as training
from tinymaml.harness.metrics import Metrics
from tinymaml.speed import workers
from tinymaml.speed.sums import gather_sums


ITERATIONS: dict[str, Config] = {
    "sine, K=1": Sine(inner_steps=1, validate_every=500),
    "sine, K=2": Sine(validate_every=500),
    "sine, K=5": Sine(inner_steps=5, validate_every=500),
    "glyphs": Glyphs(filters=64),
}
RECORDING = 2  # calls: the first records, the second is compared
RARE, FEWEST = 5, 8  # validations in a measured training, iterations between two

META_STEP, REST = "meta-step", "the rest of the loop"
# Names of the parts, and the functions of the package that do them.
EVERY = {
    "drawing tasks": (training, "drawn"),
    "outer optimiser": (training, "update"),
    "records": (Metrics, "add"),
}
VALIDATION, CHECKPOINT = "validation", "checkpoint"
SAVING = ((Metrics, "sync"), (checkpoints, "save_best"), (checkpoints, "save"))


def bare_step(config: Config) -> Callable[[], Any]:
    """Return a function that computes the meta-gradient of tasks already drawn."""
    family, theta = problem(config), loop.initial_state(config).theta
    parts = [
        drawn(family, config.seed, "train", 0, tasks)
        for tasks in workers.spans(config.tasks, config.chunk)
    ]
    gradients = training.gradient_of(config, True)

    def of_chunk(chunk: tuple) -> tuple:
        at, part = chunk
        return gradients(at, *part)

    def step(start: np.ndarray = theta) -> Any:
        thetas = (np.broadcast_to(start, (len(p.x_support), *start.shape)) for p in parts)
        chunks = [*zip(thetas, parts, strict=True)]
        _, gradient = gather_sums(workers.Here(), of_chunk, (), chunks)
        return gradient / config.tasks

    for start in (theta, theta / 2):  # replays are compared until they have other inputs
        step(start)
    return step


def compared(config: Config, rounds: int) -> dict[str, float]:
    """Time iterations of the training loop, and the bare meta-step between them."""
    bare = bare_step(config)
    for _ in range(RECORDING):
        bare()
    count = rounds * measure.repeats_for(bare)
    times = {"bare": [], "whole": []}
    since = time.perf_counter()

    def progress(*_: Any) -> None:
        nonlocal since
        times["whole"].append(1e3 * (time.perf_counter() - since))
        times["bare"].append(1e3 * measure.seconds(bare))
        since = time.perf_counter()

    trained(config, RECORDING + count, progress)
    bares, wholes = (np.array(each[RECORDING:]) for each in times.values())
    middle = {"bare": float(np.median(bares)), "whole": float(np.median(wholes))}
    return middle | measure.summary(wholes / bares)._asdict()


def trained(config: Config, iterations: int, progress: Callable[..., None]) -> None:
    """Train in a folder that is then removed, in this process."""
    with tempfile.TemporaryDirectory() as folder, workers.engine(1) as engine:
        longer = config.with_changes({"iterations": iterations})
        loop.train(Path(folder), longer, engine, progress)


def parts(config: Config, rounds: int) -> dict[str, float]:
    """Return the milliseconds of each part of an iteration, medians.

    Validation and checkpoints are done more often than the options ask for, and then
    spread as these ask.
    """
    between = max(rounds * measure.repeats_for(bare_step(config)), FEWEST)
    often = {"validate_every": between, "checkpoint_every": between}
    usual: list[dict[str, float]] = []
    rare: dict[str, float] = dict.fromkeys((VALIDATION, CHECKPOINT), 0.0)
    since = time.perf_counter()

    def progress(number: int, record: dict) -> None:
        nonlocal since
        row = {name: 1e3 * sum(times) for name, times in taken.items()}
        whole = 1e3 * (time.perf_counter() - since)
        row[REST] = whole - sum(row.values())
        if number > 1:  # the first follows the checkpoint of the initial state
            rare.update({name: rare[name] + row.get(name, 0.0) for name in rare})
        if number % between > 1:  # no validation, and no checkpoint just before it
            usual.append(row)
        taken.clear()
        since = time.perf_counter()

    with watched() as taken:
        trained(config.with_changes(often), RARE * between + 1, progress)
    names = (*EVERY, META_STEP, REST)
    found = {
        name: float(np.median([row[name] for row in usual[RECORDING:]])) for name in names
    }
    every = {VALIDATION: config.validate_every, CHECKPOINT: config.checkpoint_every}
    return found | {name: rare[name] / RARE / every[name] for name in rare if every[name]}


@contextmanager
def watched() -> Iterator[dict[str, list[float]]]:
    """Yield the seconds of each part's calls, in every training inside."""
    taken: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, function: Callable, *args: Any) -> Any:
        start = time.perf_counter()
        found = function(*args)
        if found != {}:  # a validation that is not due
            taken[name].append(time.perf_counter() - start)
        return found

    def gradient_of(*args: Any) -> Callable:
        return partial(timed, META_STEP, gradients(*args))

    gradients = training.gradient_of
    places = [(name, *place) for name, place in EVERY.items()]
    places += [(VALIDATION, loop, "validate")]
    places += [(CHECKPOINT, *place) for place in SAVING]
    with ExitStack() as stack:
        for name, holder, attribute in places:
            stack.enter_context(_patched(holder, attribute, partial(timed, name)))
        stack.enter_context(mock.patch.object(training, "gradient_of", gradient_of))
        yield taken


def _patched(holder: Any, attribute: str, timed: Callable) -> Any:
    function = getattr(holder, attribute)
    return mock.patch.object(holder, attribute, lambda *args: timed(function, *args))
