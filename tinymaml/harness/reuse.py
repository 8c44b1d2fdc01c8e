"""Feature reuse: which layers adaptation changes, and which changes the score needs.

`analyse` measures these figures on held-out tasks, by group and row:

    accuracy    of query examples, before and after adaptation
    frozen      LAYER: after adaptation with the layers up to this one held at theta_0
    NIL         by the nearest class mean of the features below the head, before and after
    head step   FACTOR: after steps of the head alone, its step size times a factor
    head        whether steps of the head alone can use the features; see `reach`
    change      LAYER: |theta_K - theta_0| / |theta_0|
    gradient    LAYER: norm of the gradient of the support loss at theta_0
    CKA, CCA    LAYER: similarity of query activations before and after adaptation

Batch norm sees support and query sets separately, as in adaptation. An accuracy is nan
for a task whose theta or outputs are not finite.

Source: Raghu, Raghu, Bengio, Vinyals, "Rapid Learning or Feature Reuse? Towards
Understanding the Effectiveness of MAML", ICLR 2020, sections 3 and 5. 15 queries per class
and NIL by mean features are those of analysis.ipynb in the official code of BOIL. The axis
of the head's step size and its reach are ours.
"""

from contextlib import suppress
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from tinymaml import maml, params, similarity
from tinymaml.errors import UsageError
from tinymaml.experiments import check_split, problem
from tinymaml.experiments.common import Config
from tinymaml.experiments.images import Images
from tinymaml.fewshot import Episode, EpisodeTask, Problem, as_task
from tinymaml.harness import evaluation
from tinymaml.harness.checkpoints import Kept
from tinymaml.harness.evaluation import of_finite
from tinymaml.harness.loop import initial_state
from tinymaml.losses import accuracy
from tinymaml.maml import Array
from tinymaml.models import Model
from tinymaml.speed.workers import Engine, gather, spans
from tinymaml.summary import interval, lost


QUERIES = 15
HEAD_STEPS = (1, 2, 5, 10, 50)
CHUNK = 5  # tasks side by side, whose activations are in memory
SIMILAR = 0.9  # the similarity that the paper's reused layers exceed

Figures = dict[tuple[str, str], Array]  # (group, row) -> a number for each task


class Reuse(NamedTuple):
    """The figures of a net on held-out tasks.

    config: the options with which it adapts; iteration: of its theta
    layers: the blocks that have parameters, the head last
    """

    config: Config
    iteration: int
    split: str
    steps: int
    tasks_sha256: str
    layers: tuple[str, ...]
    figures: Figures


def analyse(
    config: Config,
    kept: Kept,
    split: str,
    tasks: int,
    steps: int,
    queries: int | None,
    engine: Engine,
) -> tuple[Reuse, Reuse]:
    """Return the figures of a theta, and of the run's own theta before its training.

    queries: of each class; None for QUERIES, or as many as the data have
    steps: at least 1
    Raises UsageError for a run without images, and when a class has too few drawings.
    """
    check(config)

    def of(w: Array, iteration: int) -> Reuse:
        tuned = evaluation.tuned(config, w, steps, engine)
        tuned = asking(tuned, split, queries)
        start = tuned.method.start(w, problem(tuned))
        parts = gather(engine, chunk, (tuned, start, split, steps), spans(tasks, CHUNK))
        figures = {key: np.concatenate([one[key] for one in parts]) for key in parts[0]}
        sha256 = evaluation.fingerprint(tuned, split, tasks, engine)
        names = tuple(layers(problem(tuned).model))
        return Reuse(tuned, iteration, split, steps, sha256, names, figures)

    return of(kept.theta, kept.iteration), of(initial_state(config).theta, 0)


def check(config: Config) -> None:
    """Raise UsageError for a run whose experiment is not on images."""
    if not isinstance(config, Images):
        raise UsageError(f"reuse analyses nets of images; this is a run of {config.name}")


def asking(config: Config, split: str, queries: int | None) -> Config:
    """Return the options with a number of queries per class in the tasks of a split."""
    name = "queries" if split == "train" else "test_queries"
    for number in range(QUERIES, 1, -1) if queries is None else ():
        with suppress(UsageError):  # a class has too few drawings
            check_split(found := config.with_changes({name: number}), split)
            return found
    check_split(found := config.with_changes({name: queries or 1}), split)
    return found


def layers(model: Model) -> dict[str, slice]:
    """Return the blocks that have parameters, in order, and their places in theta."""
    places = params.spans(model.shapes)
    found = {block.name: [places[name] for name in block.shapes] for block in model.blocks}
    return {
        name: slice(some[0].start, some[-1].stop) for name, some in found.items() if some
    }


def head_of(model: Model) -> str:
    """Return the name of the last block that has parameters."""
    return [*layers(model)][-1]


def scaled(family: Problem, theta_0: Array, factors: Array) -> Problem:
    """Return the problem as one in phi, where theta = s phi + (1 - s) theta_0.

    factors: s (P,). 0 freezes a parameter at theta_0. Another multiplies its gradient step
        by s^2, whether step sizes are fixed or learned: s times in the gradient by phi, and
        s times in the move of theta
    """
    s = factors.astype(theta_0.dtype)
    rest = (1 - s) * theta_0

    def task(episodes: Episode) -> EpisodeTask:
        plain = family.task(episodes)

        def apply(phi: Array, x: Array) -> Array:
            return plain.apply(s * phi + rest, x)

        return as_task(episodes, apply, plain.support_loss, plain.query_loss)

    return family._replace(task=task)


# ----- A chunk of tasks -----


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # figures show divergence
def chunk(config: Config, start: Array, split: str, steps: int, tasks: range) -> Figures:
    """Return the figures (len(tasks),) of a chunk of the fixed tasks of a split."""
    episodes = evaluation.held_out(config, split, tasks)
    starts = np.tile(start, (len(tasks), 1))

    def adapted(family: Problem) -> tuple[EpisodeTask, list[Array]]:
        task = family.task(episodes)
        return task, config.method.adapt(starts, task, family, steps)

    family = problem(config).at_test(steps)
    task, (theta, *_, last) = adapted(family)
    found = by_layer(family.model, task, theta, last)
    for row, at in (("before", theta), ("after", last)):
        found["accuracy", row] = right(task, at)
        found["NIL", row] = nil(family.model, at, episodes, config.ways)

    at, (*body, head) = np.arange(theta.shape[-1]), layers(family.model).items()
    for name, place in body:
        task, thetas = adapted(scaled(family, theta, at >= place.stop))
        found["frozen", name] = right(task, thetas[-1])
    of_head = at >= head[1].start
    if not (family.alpha * of_head).any():  # the algorithm leaves the head alone
        family = family._replace(alpha=(config.alpha * of_head).astype(theta.dtype))
    for factor in HEAD_STEPS:
        task, thetas = adapted(scaled(family, theta, np.sqrt(factor) * of_head))
        found["head step", str(factor)] = right(task, thetas[-1])
        if factor == 1:
            found |= reach(family.model, task, thetas)
    return found


def by_layer(model: Model, task: EpisodeTask, theta: Array, last: Array) -> Figures:
    """Return how the parameters and the query activations of each layer change."""
    g = maml.gradient(task.support(theta), theta)
    before, after = (model.activations(at, task.episode.x_query) for at in (theta, last))
    found: Figures = {}
    for name, at in layers(model).items():
        change = similarity.relative_change(theta[..., at], last[..., at])
        found["change", name] = np.where(np.isfinite(change), change, np.nan)
        found["gradient", name] = np.linalg.norm(g[..., at], axis=-1)
        for group, alike in (("CKA", similarity.cka), ("CCA", similarity.cca)):
            pairs = zip(before[name], after[name], strict=True)
            found[group, name] = of_finite(last, np.array([alike(*pair) for pair in pairs]))
    return found


def right(task: EpisodeTask, theta: Array) -> Array:
    """Return the accuracy (T,) of the query examples at theta (T, P)."""
    _, _, query, wanted = task.episode
    return of_finite(theta, accuracy(task.apply(theta, query), wanted))


def features(model: Model, theta: Array, x: Array) -> Array:
    """Return what the head takes (T, n, d)."""
    below, _ = model.split(head_of(model))
    return below.apply(theta[..., : params.count(below.shapes)], x)


def nil(model: Model, theta: Array, episodes: Episode, ways: int) -> Array:
    """Return the accuracy (T,) by nearest class means."""
    support, query = (features(model, theta, x) for x in (episodes[0], episodes[2]))
    cosines = similarity.class_cosines(support, episodes.y_support, query, ways)
    return of_finite(theta, accuracy(cosines, episodes.y_query))


def reach(model: Model, task: EpisodeTask, thetas: list[Array]) -> Figures:
    """Return whether K steps of the head alone can use the features that they are given.

    The margin of a query example is the logit of its class minus the mean of the others.

        feature norm^2   mean of |f|^2 + 1 of the support features f; the 1 is the bias's
        step size        the head's first move, divided by the gradient of the mean
                         cross-entropy: alpha where that is the loss and alpha is fixed
        self gain        step size * feature norm^2 / ways. Step size * curvature is at most
                         this, and gradient descent overshoots where it exceeds 2
        gain             mean margin that the first step adds
        share            gain / self gain, for any step size: the part of the squared norm
                         that separates classes
        reach            K * share

    At equal probabilities gain = step size / ways * mean of (q . m - mean of q . m'), for a
    query feature q, the mean m of its class and m' of the others. What all features share
    cancels in it, but it has most of the norm, and with it most of the curvature. Along the
    directions that separate classes, the curvature is about `share` times the largest. So
    steps that do not overshoot need about 1 / share of them: the head alone suffices where
    the reach is well above 1.
    """
    theta, first = thetas[:2]
    x, labels, query, wanted = task.episode
    f, z = features(model, theta, x).astype(float), task.apply(theta, x).astype(float)
    f = np.concatenate([f, np.ones((*f.shape[:-1], 1))], axis=-1)
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    off = (p - (labels[..., None] == np.arange(z.shape[-1]))) / z.shape[-2]
    gradient = np.linalg.norm(np.swapaxes(f, -1, -2) @ off, axis=(-2, -1))
    norm = np.mean(np.sum(f**2, axis=-1), axis=-1)
    size = (
        np.linalg.norm((first - theta)[..., layers(model)[head_of(model)]], axis=-1)
        / gradient
    )
    before, after = (margins(task.apply(at, query), wanted) for at in (theta, first))
    gain, self_gain = (after - before).mean(axis=-1), size * norm / z.shape[-1]
    found = {
        "feature norm^2": norm,
        "step size": size,
        "self gain": self_gain,
        "gain": gain,
        "share": gain / self_gain,
        "reach": (len(thetas) - 1) * gain / self_gain,
    }
    return {("head", name): values for name, values in found.items()}


def margins(outputs: Array, labels: Array) -> Array:
    """Return each example's logit of its class minus the mean of the others: (T, n)."""
    ways = outputs.shape[-1]
    own = labels[..., None] == np.arange(ways)
    return np.sum(outputs * np.where(own, 1.0, -1.0 / (ways - 1)), axis=-1)


# ----- Verdict -----


class Verdict(NamedTuple):
    """Whether adaptation reuses features.

    reuse: True when `reused` are all layers but the head, `suffice` holds and `changed` is
        empty. None when adaptation does not improve the accuracy. With a figure that is not
        finite all four are None
    reused: layers without whose adaptation, and that of those below, the accuracy is not
        below the interval of full adaptation
    suffice: whether NIL before adaptation is at least halfway from the untrained net's NIL
        to the accuracy of full adaptation
    changed: layers whose CKA is below SIMILAR
    """

    reuse: bool | None
    reused: tuple[str, ...] | None
    suffice: bool | None
    changed: tuple[str, ...] | None


def verdict(found: Reuse, untrained: Reuse) -> Verdict:
    """Return the verdict on a net, from means over the tasks."""
    body, figures = found.layers[:-1], found.figures
    before, full = figures["accuracy", "before"], figures["accuracy", "after"]
    after, half = interval(full)
    frozen, cka = (
        {name: figures[g, name].mean() for name in body} for g in ("frozen", "CKA")
    )
    nil, floor = (one.figures["NIL", "before"].mean() for one in (found, untrained))
    gain, uncertain = interval(full - before)
    if lost(np.array([gain, half, nil, floor, *frozen.values(), *cka.values()])):
        return Verdict(None, None, None, None)
    held = takewhile(lambda name: frozen[name] >= after - half, body)
    reused, suffice = tuple(held), bool(2 * nil >= after + floor)
    changed = tuple(name for name in body if cka[name] < SIMILAR)
    reuse = reused == body and suffice and not changed
    return Verdict(reuse if gain > uncertain else None, reused, suffice, changed)
