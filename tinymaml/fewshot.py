"""Few-shot tasks: the arrays of an episode, and the sampler of images.

Shapes: an episode of one task has x (n, ...), y (n, ...); `stack` puts tasks in front.
"""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from tinymaml.maml import Array, Loss
from tinymaml.models import Model


Streams = Callable[[int], Generator]  # number -> random stream, of one split and iteration
Episodes = Any  # an `Episode`, or the arrays of another kind of task; tasks in front

# The uses of random streams. Their order is part of the key of a stream.
STREAMS = ("train", "val", "test", "init")


class Episode(NamedTuple):
    """Support examples to adapt on and query examples to evaluate on."""

    x_support: Array
    y_support: Array
    x_query: Array
    y_query: Array


class Problem(NamedTuple):
    """A family of tasks, the model that meta-learns it, and the options.

    alpha: inner step sizes, as `maml.path` takes them; 0 for parameters that stay
    options: the user's choices, by name
    sample(split, streams, tasks) -> the stacked episodes of consecutive tasks. An episode
        does not depend on the others. `drawn` calls it
    task(episodes) -> their losses: a `maml.Task`, or more fields beside its two
    score(theta (T, P), episodes) -> one score for each task (T,)
    score_alone: `score` with every query example on its own, for a model with batch
        statistics; None for others
    plain: `sample` without the task's parameters among the inputs; None when it is `sample`
    test_scale(steps) -> factors of alpha at test time; None when they are 1
    arrays: inputs of the gradient that change with the iteration
    phase: names the recording of the gradient; `Algorithm.phase` gives both
    """

    model: Model
    alpha: float | Array
    options: Any
    sample: Callable[[str, Streams, range], Episodes]
    task: Callable[[Episodes], Any]
    score: Callable[[Array, Episodes], Array]
    score_alone: Callable[[Array, Episodes], Array] | None = None
    plain: Callable[[str, Streams, range], Episodes] | None = None
    test_scale: Callable[[int], Array] | None = None
    arrays: tuple[Array, ...] = ()
    phase: Any = None

    def at_test(self, steps: int) -> "Problem":
        """Return the problem with the step sizes for a test of `steps` steps."""
        if self.test_scale is None:
            return self
        return self._replace(alpha=self.alpha * self.test_scale(steps))


class EpisodeTask(NamedTuple):
    """The `maml.Task` of an episode, and what its losses are made of.

    A loss is loss(model's output (..., n, d), targets); that of a task is a sum over tasks.
    """

    support: Callable[[Array], Loss]
    query: Callable[[Array], Loss]
    episode: Episode
    apply: Callable[[Array, Array], Array]
    support_loss: Callable[[Array, Array], Array]
    query_loss: Callable[[Array, Array], Array]


def stack(episodes: Sequence[Episode]) -> Episode:
    """Return episodes of equal shapes side by side: every array gains a leading axis.

    Raises ValueError for no episodes or for unequal shapes.
    """
    if not episodes:
        raise ValueError("no episodes to stack: ask for one task or more")
    return type(episodes[0])(*map(np.stack, zip(*episodes, strict=True)))


def stream(seed: int, split: str, iteration: int, number: int) -> Generator:
    """Return a random stream. It does not depend on earlier draws.

    split: one of STREAMS; seed, iteration, number: integers, 0 or more. Raises ValueError
    or TypeError otherwise.
    """
    if split not in STREAMS:
        raise ValueError(f"a split is one of {', '.join(STREAMS)}, not {split!r}")
    seed = operator.index(seed)  # None would be another stream at every call
    key = (STREAMS.index(split), iteration, number)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def drawn(problem: Problem, seed: int, split: str, iteration: int, tasks: range) -> Episode:
    """Return the stacked episodes of consecutive tasks, equal in chunks of any size.

    Raises ValueError when there is no task or tasks are not consecutive.
    """
    check_tasks(tasks)
    return problem.sample(split, partial(stream, seed, split, iteration), tasks)


def check_tasks(tasks: range) -> None:
    """Raise ValueError unless tasks are one or more consecutive numbers from 0 on."""
    if not tasks or tasks.step != 1 or tasks.start < 0:
        raise ValueError(f"tasks must be one or more consecutive numbers, not {tasks}")


def each(
    draw: Callable[[str, Generator], Episodes],
) -> Callable[[str, Streams, range], Episodes]:
    """Return a problem's `sample` that draws each task from its own stream.

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
) -> EpisodeTask:
    """Return the task whose losses are `loss(apply(theta, x), y)` on the episode.

    query_loss: loss of the query examples, by default `loss`
    """

    def maker(loss: Callable, x: Array, y: Array) -> Callable[[Array], Loss]:
        return lambda _: lambda theta: loss(apply(theta, x), y)

    query_loss = query_loss or loss
    support = maker(loss, episode.x_support, episode.y_support)
    query = maker(query_loss, episode.x_query, episode.y_query)
    return EpisodeTask(support, query, episode, apply, loss, query_loss)


def apply_alone(
    apply: Callable[[Array, Array], Array], theta: Array, episode: Episode
) -> Array:
    """Return a net's outputs (..., queries, d) for each query example on its own.

    Batch normalisation then uses the statistics of the support set and that example.
    Nichol, Achiam & Schulman 2018 (Reptile), section 6, call this "non-transductive". The
    official MAML code takes all queries at once, which is transductive. Raises ValueError
    when there is no query or no support example.
    """
    axis = theta.ndim - 1  # of the examples, after the tasks
    support, query = episode.x_support, episode.x_query
    for name, x in (("support", support), ("query", query)):
        if not x.shape[axis]:
            raise ValueError(f"no {name} examples")
    queries = np.split(query, query.shape[axis], axis)
    outputs = (apply(theta, np.concatenate([support, one], axis)) for one in queries)
    return np.stack([output[..., -1, :] for output in outputs], axis)


def sample(
    rng: Generator,
    images: Array | Sequence[Array],
    classes: Array,
    ways: int,
    shots: int,
    queries: int,
    rotate: bool = False,
    dtype: str = "float32",
) -> Episode:
    """Draw a few-shot episode of images.

    images: (all classes, drawings, h, w) uint8, or with channels (..., c); of classes of
        unequal sizes a list of classes
    classes: indices of the classes of one split, none of them twice
    rotate: turn each class of each task by a random multiple of 90 degrees, in every split,
        as the official code does (data_generator.py:46-54)
    Returns x (ways * shots, h, w, c) and (ways * queries, h, w, c) in [0, 1], labels
    0..ways-1 in class order. Support and query drawings are disjoint.
    Raises ValueError when the split or a class is too small, the classes are not such
    indices or images to rotate are not square, TypeError when the images are not uint8.
    """
    if not len(images):
        raise ValueError("no classes of images")
    first = images[0]
    if first.dtype != np.uint8 or first.ndim not in (3, 4) or 0 in first.shape[1:]:
        wanted = "images must be uint8 (classes, drawings, h, w), or with channels (..., c)"
        raise TypeError(f"{wanted}, not {first.dtype} {(len(images), *first.shape)}")
    if rotate and first.shape[1] != first.shape[2]:
        raise ValueError(f"only square images can be rotated, not {first.shape[1:3]}")
    rows = np.asarray(classes)
    whole = rows.ndim == 1 and (rows.dtype.kind in "iu" or not len(rows))
    if not whole or (
        len(rows) and (rows.min() < 0 or rows.max() >= len(images) or _repeat(rows))
    ):
        raise ValueError(f"classes must be different rows of {len(images)}, not {classes}")
    check_sizes(fewest(images, rows), len(rows), ways, shots, queries)
    support, query = [], []
    for row in rng.choice(classes, ways, replace=False):
        drawings = images[row]
        chosen = rng.choice(len(drawings), shots + queries, replace=False)
        drawings = drawings[chosen]
        if rotate:
            drawings = np.rot90(drawings, int(rng.integers(4)), axes=(1, 2))
        support.append(drawings[:shots])
        query.append(drawings[shots:])
    labels = np.arange(ways)
    return Episode(
        x_support=pixels(np.concatenate(support), dtype),
        y_support=labels.repeat(shots),
        x_query=pixels(np.concatenate(query), dtype),
        y_query=labels.repeat(queries),
    )


def fewest(images: Array | Sequence[Array], classes: Array) -> int:
    """Return the number of drawings of the smallest of some classes; 0 for no class.

    images, classes: as in `sample`
    """
    if isinstance(images, np.ndarray):
        return images.shape[1]
    return min((len(images[row]) for row in classes), default=0)


def _repeat(rows: Array) -> bool:
    return bool(np.bincount(rows).max() > 1)  # faster than to sort them


def check_sizes(drawings: int, classes: int, ways: int, shots: int, queries: int) -> None:
    """Raise ValueError when a split has too few classes or a class too few drawings."""
    if min(ways, shots, queries) < 1:
        wanted = f"{ways} ways, {shots} shots and {queries} queries"
        raise ValueError(f"ways, shots and queries must be 1 or more, not {wanted}")
    if ways > classes:
        raise ValueError(f"{ways} ways asked for, the split has {classes} classes")
    if shots + queries > drawings:
        wanted = f"{shots} shots and {queries} queries asked for"
        raise ValueError(f"{wanted}, a class has {drawings} drawings")


def pixels(images: Array, dtype: str) -> Array:
    """Return a net's inputs (n, h, w, c) in [0, 1] of images uint8 (n, h, w[, c])."""
    x = images.astype(dtype)
    x *= 1 / 255
    return x if x.ndim == 4 else x[..., None]
