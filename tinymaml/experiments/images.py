"""Few-shot image classification: the common part of every experiment on images."""

from collections.abc import Callable
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


@configuration
class Images(FewShot):
    """Classify images into `ways` classes after `shots` examples of each."""

    score: ClassVar[Score] = losses.ACCURACY
    picture: ClassVar[str] = "sheets"

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


def build(
    config: Images, images: Array, classes: dict[str, Array], rotate: bool
) -> Problem:
    """Return the problem on images uint8 (all, drawings, h, w[, c]) and {split: rows}."""
    *size, channels = (*images.shape[2:4], *images.shape[4:], 1)[:3]
    return from_data(config, (*size, channels), lambda: (images, classes), rotate)


def from_data(
    config: Images,
    image: tuple[int, int, int],
    load: Callable[[], tuple[Array, dict[str, Array]]],
    rotate: bool,
) -> Problem:
    """Return the problem on images of a size (h, w, c).

    load() -> the images and classes that `build` takes; called for the first task
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

    def draw(split: str, rng: Generator) -> Episode:
        images, classes = load()
        advice = _advice(config) if split == "val" else ""
        if split not in classes:
            lack = f"this split has no validation classes{advice}"
            raise UsageError(lack if advice else f"these data have no {split!r} classes")
        wanted, rows = _sizes(config, split), classes[split]
        try:
            fewshot.check_sizes(images.shape[1], len(rows), *wanted)
        except ValueError as error:
            raise UsageError(f"split {split!r}: {error}{advice}") from error
        return fewshot.sample(rng, images, rows, *wanted, rotate, config.dtype)

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
