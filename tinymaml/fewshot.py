"""Few-shot tasks: the arrays of an episode and the N-way K-shot sampler.

Shapes: an episode of one task has x (n, ...), y (n, ...); `stack` puts tasks in front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from tinymaml.maml import Loss, Task
from tinymaml.models import Model


Array = np.ndarray
# Of one split and iteration: a number -> the random stream with that number.
Streams = Callable[[int], Generator]

# What random streams are for, in the order that keys them: tasks of the three splits, and
# the initial parameters.
STREAMS = ("train", "val", "test", "init")


class Episode(NamedTuple):
    """Support examples to adapt on and query examples to be judged on."""

    x_support: Array
    y_support: Array
    x_query: Array
    y_query: Array


class Problem(NamedTuple):
    """A family of tasks, the model that meta-learns it, and the options.

    model: the net
    alpha: inner step sizes, as `maml.path` takes them; 0 for what inner steps leave alone
    options: what the user chose, by name
    sample(split, streams, tasks) -> the stacked episodes of consecutive tasks; each is the
        same whatever others are drawn with it. `drawn` calls it
    task(episodes) -> their losses
    score(theta (T, P), episodes) -> one score for each task (T,)
    score_alone: the same with every query example scored on its own, for a model in which
        the examples of a batch see each other; None for others
    plain: `sample` without the parameters of the task that some algorithms show the net;
        None when it is `sample`
    test_scale(steps) -> factors of alpha at test time; None when they are 1
    arrays: inputs of the gradient that change with the iteration, if the algorithm has any
    """

    model: Model
    alpha: float | Array
    options: Any
    sample: Callable[[str, Streams, range], Episode]
    task: Callable[[Episode], Task]
    score: Callable[[Array, Episode], Array]
    score_alone: Callable[[Array, Episode], Array] | None = None
    plain: Callable[[str, Streams, range], Episode] | None = None
    test_scale: Callable[[int], Array] | None = None
    arrays: tuple[Array, ...] = ()

    def at_test(self, steps: int) -> Problem:
        """Return the problem with the step sizes of a test of `steps` steps."""
        if self.test_scale is None:
            return self
        return self._replace(alpha=self.alpha * self.test_scale(steps))


def stack(episodes: Sequence[Episode]) -> Episode:
    """Put episodes of equal shapes side by side: every array gains a leading axis."""
    return type(episodes[0])(*map(np.stack, zip(*episodes, strict=True)))


def stream(seed: int, split: str, iteration: int, number: int) -> Generator:
    """Return one random stream, the same whatever was drawn before it."""
    key = (STREAMS.index(split), iteration, number)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def drawn(problem: Problem, seed: int, split: str, iteration: int, tasks: range) -> Episode:
    """Return the episodes of consecutive tasks, stacked: the same in any range they are in.

    So neither chunks nor workers change a task.
    """
    return problem.sample(split, partial(stream, seed, split, iteration), tasks)


def each(
    draw: Callable[[str, Generator], Episode],
) -> Callable[[str, Streams, range], Episode]:
    """Return a problem's `sample` that draws every task from a stream of its own.

    draw(split, rng): the episode of one task
    """
    return lambda split, streams, tasks: stack(
        [draw(split, streams(task)) for task in tasks]
    )


def as_task(
    episode: Episode,
    apply: Callable[[Array, Array], Array],
    loss: Callable[[Array, Array], Array],
    query_loss: Callable[[Array, Array], Array] | None = None,
) -> Task:
    """Return the Task whose losses are `loss(apply(theta, x), y)` on the episode.

    query_loss: that of the query examples, when it is another
    """

    def maker(loss: Callable, x: Array, y: Array) -> Callable[[Array], Loss]:
        return lambda _: lambda theta: loss(apply(theta, x), y)

    return Task(
        support=maker(loss, episode.x_support, episode.y_support),
        query=maker(query_loss or loss, episode.x_query, episode.y_query),
    )


def apply_alone(
    apply: Callable[[Array, Array], Array], theta: Array, episode: Episode
) -> Array:
    """Return a net's outputs (..., queries, d), each query example judged on its own.

    The net sees one query example at a time, behind the support set, and only its last
    row is read: batch normalisation then has the statistics of the support set and that
    example. Source: Nichol, Achiam & Schulman 2018 (Reptile), section 6, where this is
    "non-transductive"; all queries at once, as the official MAML code has it, is
    transductive.
    """
    axis = theta.ndim - 1  # examples stand behind the tasks
    support, query = episode.x_support, episode.x_query
    queries = np.split(query, query.shape[axis], axis)
    outputs = (apply(theta, np.concatenate([support, one], axis)) for one in queries)
    return np.stack([output[..., -1, :] for output in outputs], axis)


def sample(
    rng: Generator,
    images: Array,
    classes: Array,
    ways: int,
    shots: int,
    queries: int,
    rotate: bool = False,
    dtype: str = "float32",
) -> Episode:
    """Draw an N-way K-shot episode of images.

    images: (all classes, drawings, h, w) uint8, or with channels (..., c)
    classes: indices of the classes of one split
    Returns x (ways * shots, h, w, c) and (ways * queries, h, w, c) in [0, 1], labels
    0..ways-1 in class order. The drawings of a class are distinct, so support and query
    are disjoint. `rotate` turns each class by a random multiple of 90 degrees, drawn for
    each class of each task in every split, as the official code does
    (data_generator.py:46-54).
    Raises ValueError when the split or a class is too small.
    """
    check_sizes(images.shape[1], len(classes), ways, shots, queries)
    support, query = [], []
    for row in rng.choice(classes, ways, replace=False):
        chosen = rng.choice(images.shape[1], shots + queries, replace=False)
        drawings = images[row, chosen]
        if rotate:
            drawings = np.rot90(drawings, rng.integers(4), axes=(1, 2))
        support.append(drawings[:shots])
        query.append(drawings[shots:])
    labels = np.arange(ways)
    return Episode(
        x_support=_pixels(support, dtype),
        y_support=labels.repeat(shots),
        x_query=_pixels(query, dtype),
        y_query=labels.repeat(queries),
    )


def check_sizes(drawings: int, classes: int, ways: int, shots: int, queries: int) -> None:
    """Raise ValueError when a split has too few classes or a class too few drawings."""
    if ways > classes:
        raise ValueError(f"{ways} ways asked for, the split has {classes} classes")
    if shots + queries > drawings:
        raise ValueError(
            f"{shots} shots and {queries} queries asked for, a class has {drawings}"
            " drawings"
        )


def _pixels(drawings: Sequence[Array], dtype: str) -> Array:
    x = np.concatenate(drawings).astype(dtype)
    x *= 1 / 255
    return x if x.ndim == 4 else x[..., None]
