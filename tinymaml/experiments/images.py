"""Few-shot image classification: the common part of every experiment on images.

The experiment `images`, on a user's own images, is in own_images.py.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from tinymaml import fewshot, losses, models, params
from tinymaml.errors import UsageError
from tinymaml.experiments.common import FewShot, check_parameters, configuration
from tinymaml.fewshot import Episode, Problem, apply_alone, as_task, each
from tinymaml.losses import Score
from tinymaml.maml import Array
from tinymaml.models import Model
from tinymaml.options import COUNT, DATA, MOST, NET, TASK, option, redefault


SCALES = ("mean", "sum_over_shots")
ANY, ONE = "any", "group"  # the values of `within` that name no group


@configuration
class Images(FewShot):
    """Classify images into `ways` classes after `shots` examples of each."""

    score: ClassVar[Score] = losses.ACCURACY
    picture: ClassVar[str] = "sheets"
    ink: ClassVar[bool] = False  # whether black is 1 and white is 0, as in drawings
    most_images: ClassVar[int] = 400  # side by side in an evaluation; more fill the memory

    ways: int = option(
        5, "classes of a task", "main.py:11: 5 or 20", role=TASK, least=2, most=MOST
    )
    shots: int = option(1, "number of support examples per class", role=TASK, **COUNT)
    queries: int = option(
        0, "query examples per class; 0: as many as shots", "main.py", least=0, most=MOST
    )
    test_queries: int = option(
        0,
        "queries per class at validation and test; 0: as in training, -1: as many as shots",
        "main.py:249: as many as shots, where mini-ImageNet's training has 15",
        role=DATA._replace(checked=False),
        least=-1,
        most=MOST,
    )
    validate_every: int = redefault(250)
    alpha: float = redefault(
        0.4,
        "main.py:11, where the loss is a sum over shots: 2.0 on the mean",
        "inner-loop learning rate, on the loss that --inner-loss names",
    )
    inner_loss: str = option(
        "mean",
        "support loss: mean over examples, or sum over examples divided by shots",
        "utils.py:56-58 divides by shots: WAYS times the mean",
        choices=SCALES,
    )
    outer_loss: str = option(
        "mean",
        "query loss: the mean, or the sum divided by shots; no matter to Adam alone",
        "utils.py:56-58 divides by shots: WAYS * QUERIES / SHOTS times the mean",
        choices=SCALES,
    )
    net: str = option(
        "conv",
        "conv: strided convolutions; pooled: max-pooling; dense: layers of 256-128-64-64",
        "section 5.2 of the paper: conv and dense on Omniglot, pooled on mini-ImageNet",
        role=NET,
        choices=("conv", "pooled", "dense"),
    )
    filters: int = option(
        64, "filters of a convolution", "section 5.2", role=NET, least=1, most=4096
    )
    head: str = option(
        "glorot",
        "initial weights of a convolutional head: glorot (uniform) or normal, N(0, 1)",
        "maml.py: N(0, 1) on Omniglot, Glorot on mini-ImageNet",
        role=NET,
        choices=tuple(models.HEADS),
    )
    norm_eps: float = option(
        1e-3,
        "constant that batch norm adds to each variance",
        "utils.py:41, the default of tf.contrib.layers.batch_norm (from memory)",
        above=0,
        most=1.0,
    )
    norm_scale: bool = option(
        False,
        "give batch norm a learned scale of each channel",
        "maml.py has none; MAML++ and BOIL have it",
        role=NET,
    )
    adapt_norm: bool = option(
        False,
        "let inner steps adapt batch norm's offsets, and scales",
        "maml.py: meta-learned only",
    )

    @property
    def image(self) -> tuple[int, int, int]:
        """Height, width and channels of the images; 0 where the data file is needed."""
        return 0, 0, 0

    @property
    def test_chunk(self) -> int:
        """Tasks side by side in an evaluation: at most `most_images`, or else one task."""
        images = max(
            ways * (shots + queries)
            for ways, shots, queries in (_sizes(self, split) for split in ("train", "test"))
        )
        return max(1, min(self.most_tasks, self.most_images // images))


@configuration
class Grouped(Images):
    """Options of experiments whose classes have groups, as the alphabets of characters."""

    within: str = option(
        ANY,
        "draw the classes of a task from all classes (any), from one group that is drawn"
        " first (group), or from the group of this name",
        "Lake et al. 2015: within an alphabet",
        role=DATA,
        choices=(ANY, ONE),
        others=r".{1,200}",
    )


def build(
    config: Images,
    images: Array | Sequence[Array],
    classes: dict[str, Array],
    rotate: bool,
) -> Problem:
    """Return the problem on images uint8 (all, drawings, h, w[, c]) and {split: rows}.

    images: as in `fewshot.sample`
    """
    *size, channels = (*images[0].shape[1:], 1)[:3]
    return from_data(config, (*size, channels), lambda: (images, classes), rotate)


def on_middle(
    config: Images,
    images: Array | Sequence[Array],
    classes: dict[str, Array],
    side: int,
) -> Problem:
    """Return the problem for a check of the gradients, on the middle of the images.

    images, classes: as `build` takes them; side: width and height of the middle in pixels
    There are no more queries than shots: at the full size a relu or maximum is always
    about to change sides, so that differences measure nothing.
    """
    edge = (images[0].shape[1] - side) // 2
    middle = slice(edge, edge + side)
    few = {"queries": min(config.queries, config.shots), "test_queries": 0}
    small = [one[:, middle, middle] for one in images]
    return build(config.with_changes(few), small, classes, rotate=False)


def from_data(
    config: Images,
    image: tuple[int, int, int],
    load: Callable[[], tuple[Array | Sequence[Array], dict[str, Array]]],
    rotate: bool,
    groups: Callable[[], Sequence[str]] | None = None,
) -> Problem:
    """Return the problem on images of a size (h, w, c).

    load() -> the images and classes that `build` takes; called for the first task
    groups() -> the group of each class, for `Grouped` options
    Raises UsageError for a huge model. A task raises it when its split has fewer classes
    than ways, or a class fewer drawings than shots and queries.
    """
    height, width, channels = image
    method, free = config.method, config.method.inputs(config)
    model = _net(config, (height, width, channels + free))
    if free:
        model = models.with_context(model, (height, width, free))
    model = method.build(model, config)
    check_parameters(params.count(model.shapes))
    load = cache(load)

    @cache
    def kinds(split: str) -> list[Array]:
        """Return the rows of a split's classes; of each group, where tasks stay in one."""
        images, classes = load()
        advice = _advice(config) if split == "val" else ""
        if split not in classes:
            lack = f"this split has no validation classes{advice}"
            raise UsageError(lack if advice else f"these data have no {split!r} classes")
        (ways, *few), rows = _sizes(config, split), classes[split]
        try:
            fewshot.check_sizes(fewshot.fewest(images, rows), len(rows), ways, *few)
            if groups is None or config.within == ANY:
                return [rows]
            return within(rows, groups(), config.within, ways)
        except ValueError as error:
            raise UsageError(f"split {split!r}: {error}{advice}") from error

    def draw(split: str, rng: Generator) -> Episode:
        some = kinds(split)
        rows = some[rng.integers(len(some))] if len(some) > 1 else some[0]
        wanted = _sizes(config, split)
        return fewshot.sample(rng, load()[0], rows, *wanted, rotate, config.dtype)

    if config.adapt_norm and not {*method.moved(model, config)} & {*model.norm}:
        raise UsageError("--adapt-norm: inner steps do not change batch norm")
    adapts_norm = config.adapt_norm or not config.uses("adapt_norm")
    apply, fixed = model.apply, () if adapts_norm else model.norm
    inner, outer = (
        partial(losses.cross_entropy, divisor=None if scale == "mean" else config.shots)
        for scale in (config.inner_loss, config.outer_loss)
    )
    return Problem(
        model=model,
        alpha=method.step_sizes(model, config, fixed),
        options=config,
        sample=each(draw),
        task=lambda e: as_task(e, apply, inner, outer),
        score=lambda theta, e: losses.accuracy(apply(theta, e.x_query), e.y_query),
        score_alone=lambda theta, e: losses.accuracy(
            apply_alone(apply, theta, e), e.y_query
        ),
    )


def within(rows: Array, groups: Sequence[str], wanted: str, ways: int) -> list[Array]:
    """Return the rows of each group with enough classes for a task.

    groups: the group of each class, "" for none; wanted: ONE, or the name of a group
    Raises ValueError when there is no group, not this one, or none with so many classes.
    """
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(groups[row], []).append(row)
    found.pop("", None)
    if not found:
        raise ValueError("--within: the classes have no groups")
    if wanted not in (ONE, *found):
        names = ", ".join([*found][:5]) + ", ..." * (len(found) > 5)
        raise ValueError(f"--within {wanted!r}: no such group; there are {names}")
    some = found.values() if wanted == ONE else [found[wanted]]
    enough = [np.array(group) for group in some if len(group) >= ways]
    if not enough:
        largest = max(map(len, some))
        raise ValueError(f"{ways} ways asked for, a group has {largest} classes at most")
    return enough


def _advice(config: Images) -> str:
    """Return what to do about a run whose validation tasks cannot be drawn."""
    if not config.uses("alpha"):
        return " to tune the step size on; add --no-tune and --alpha"
    return "; add --validate-every 0" if config.validate_every else ""


def _sizes(config: Images, split: str) -> tuple[int, int, int]:
    """Return ways, shots and queries of an episode."""
    queries = config.queries or config.shots
    if split != "train" and config.test_queries:
        queries = max(config.test_queries, 0) or config.shots
    return config.ways, config.shots, queries


def _net(config: Images, image: tuple[int, int, int]) -> Model:
    activation, eps = models.ACTIVATIONS[config.activation], config.norm_eps
    scale = config.norm_scale
    if config.net == "dense":
        widths = (int(np.prod(image)), 256, 128, 64, 64, config.ways)
        dense = models.mlp(widths, activation, batch_norm=True, eps=eps, scale=scale)
        return models.flat_images(dense)
    net: Callable[..., Model] = models.conv_net
    if config.net == "pooled":
        net = partial(models.pooled_conv_net, pool=models.POOLS[config.activation])
    made = {"activation": activation, "head": models.HEADS[config.head], "eps": eps}
    return net(image, config.ways, config.filters, scale=scale, **made)
