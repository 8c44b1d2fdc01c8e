"""What is timed: the shape of one meta-step, its numbers, and tinymaml's way to do it.

A meta-step is the gradient, by the shared theta, of a whole meta-batch: the mean over
tasks of the query loss after `steps` inner gradient steps.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from tinymaml import fewshot, losses, maml, models
from tinymaml.fewshot import Episode
from tinymaml.models import Model
from tinymaml.speed.sums import gather_sums
from tinymaml.speed.workers import spans


Array = np.ndarray

ORDERS = {"exact": maml.meta_gradient, "first": maml.first_order}
# Added to the initial values, near which the sine net is so flat that a second-order
# term left out would not be noticed.
SPREAD = 0.05


PROVED: set[tuple] = set()  # works and tasks whose replay has been compared


@dataclass(frozen=True)
class Work:
    """The shape of a meta-step. All parameters are adapted, batch norm's offsets too."""

    family: str  # sine, conv (Omniglot's net) or pooled (mini-ImageNet's)
    tasks: int
    ways: int  # 1 for sine
    shots: int  # examples of a class, or points
    queries: int  # likewise
    filters: int  # of a convolution, or hidden units
    image: tuple[int, int, int]  # not of sine
    steps: int
    order: str
    alpha: float
    chunk: int  # tasks side by side in tinymaml
    dtype: str = "float32"
    seed: int = 1

    @property
    def title(self) -> str:
        """Say the shape in one line."""
        where = "" if self.family == "sine" else f" of {'x'.join(map(str, self.image))}"
        return (
            f"{self.family}{where}: {self.tasks} tasks, {self.ways}-way {self.shots}-shot"
            f" {self.queries}-query, width {self.filters}, K={self.steps}, {self.order}"
        )


FAMILIES = {
    "sine": Work("sine", 25, 1, 10, 10, 40, (1, 1, 1), 1, "exact", 0.01, 25),
    "conv": Work("conv", 32, 5, 1, 1, 64, (28, 28, 1), 1, "exact", 0.4, 4),
    "pooled": Work("pooled", 4, 5, 1, 15, 32, (84, 84, 3), 1, "exact", 0.01, 1),
}
WORKS = {
    "sine-1": FAMILIES["sine"],
    "sine-5": dataclasses.replace(FAMILIES["sine"], steps=5),
    "conv-1": FAMILIES["conv"],
    "conv-1-first": dataclasses.replace(FAMILIES["conv"], order="first"),
    "conv-5": dataclasses.replace(FAMILIES["conv"], steps=5),
}


# As many as lie side by side in a chunk: more do not fit the caches.
CHUNK_IMAGES = 40


def usual_chunk(work: Work) -> int:
    """Return the tasks of a chunk of another shape than its family's."""
    if work.family != "conv":
        return work.chunk
    return max(1, CHUNK_IMAGES // (work.ways * (work.shots + work.queries)))


class Contender(NamedTuple):
    """A way to do a meta-step.

    make(work) returns a function that does one; flat(work, its result) is the gradient
    (P,) in tinymaml's order. precision(dtype) is held around both.
    """

    name: str
    make: Callable[[Work], Callable[[], Any]]
    flat: Callable[[Work, Any], Array]
    precision: Callable[[str], AbstractContextManager] = nullcontext
    threads: tuple[int, ...] = ()  # settings to choose from
    set_threads: Callable[[int], None] = abs  # nothing to set


@lru_cache
def model(work: Work) -> Model:
    """Return the net of a work."""
    if work.family == "sine":
        return models.mlp((1, work.filters, work.filters, 1))
    make = {"conv": models.conv_net, "pooled": models.pooled_conv_net}[work.family]
    return make(work.image, work.ways, work.filters)


def parameters(work: Work) -> Array:
    """Return theta (P,)."""
    rng = np.random.default_rng(0)
    theta = model(work).init(rng)
    return (theta + SPREAD * rng.standard_normal(theta.shape)).astype(work.dtype)


def episodes(work: Work) -> Episode:
    """Return the meta-batch; its images are noise, which costs the same as drawings."""
    rng = np.random.default_rng(work.seed)
    support, query = work.ways * work.shots, work.ways * work.queries
    if work.family == "sine":
        x = rng.uniform(-5, 5, (work.tasks, support + query, 1)).astype(work.dtype)
        y = np.sin(x)
        parts = x[:, :support], y[:, :support], x[:, support:], y[:, support:]
        return Episode(*map(np.ascontiguousarray, parts))  # as `data.sine` makes them

    def images(n: int) -> Array:
        return rng.random((work.tasks, n, *work.image)).astype(work.dtype)

    def labels(each: int) -> Array:
        return np.tile(np.arange(work.ways).repeat(each), (work.tasks, 1))

    return Episode(images(support), labels(work.shots), images(query), labels(work.queries))


# ----- One meta-step in tinymaml -----


def chunk_gradient(work: Work, thetas: Array, *episode: Array) -> tuple[Array, Array]:
    """Return the loss and meta-gradient (P,), summed over the tasks of a chunk."""
    loss = losses.mse if work.family == "sine" else losses.cross_entropy
    task = fewshot.as_task(Episode(*episode), model(work).apply, loss)
    value, gradients = ORDERS[work.order](thetas, task, work.alpha, work.steps)
    return value, gradients.sum(axis=0)


def eager_chunk(work: Work, theta: Array, episode: Episode) -> tuple[Array]:
    """Return the summed meta-gradient of a chunk, traced anew."""
    return chunk_gradient(work, _tiled(theta, episode), *episode)[1:]


def replayed_chunk(work: Work, theta: Array, episode: Episode) -> tuple[Array]:
    """Return what `eager_chunk` returns, from recorded calls."""
    replay, inputs = ours_replayed(work), (_tiled(theta, episode), *episode)
    kind = work, len(inputs[0])
    if kind not in PROVED:  # by other inputs than the recording's
        replay(*inputs)
        replay(_tiled(theta / 2, episode), *episode)
        PROVED.add(kind)
    return replay(*inputs)[1:]


def _tiled(theta: Array, episode: Episode) -> Array:
    return np.broadcast_to(theta, (len(episode.x_support), *theta.shape))


@lru_cache
def ours_replayed(work: Work) -> Callable[..., tuple[Array, Array]]:
    """Return `chunk_gradient` of a work, recorded: the one place that knows replay."""
    from tinymaml.speed import replay

    return replay.recorded(partial(chunk_gradient, work))


def can_replay() -> bool:
    """Say whether this tinymaml has replay."""
    return importlib.util.find_spec("tinymaml.speed.replay") is not None


quickest_chunk = replayed_chunk if can_replay() else eager_chunk


def chunks(work: Work, batch: Episode) -> list[Episode]:
    """Split a meta-batch into chunks of work.chunk tasks."""
    return [
        Episode(*(array[span.start : span.stop] for array in batch))
        for span in spans(work.tasks, work.chunk)
    ]


def meta_step(
    work: Work,
    theta: Array,
    parts: list[Episode],
    engine: Executor,
    chunk: Callable[[Work, Array, Episode], tuple[Array]] = eager_chunk,
) -> Array:
    """Return the meta-gradient (P,) of a meta-batch, averaged over its tasks."""
    (total,) = gather_sums(engine, chunk, (work, theta), parts)
    return total / work.tasks
