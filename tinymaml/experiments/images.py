"""Few-shot image classification: what every experiment on images has in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from tinymaml import fewshot, losses, models, params
from tinymaml.errors import UsageError
from tinymaml.experiments.common import MOST, USED_BY, Config, option
from tinymaml.fewshot import Episode, Problem, apply_alone, as_task, each
from tinymaml.models import Model


Array = np.ndarray

SCALES = ("mean", "sum_over_shots")


@dataclass(frozen=True)
class Images(Config):
    """Tell `ways` classes of images apart after `shots` examples of each."""

    used_by: ClassVar[dict[str, tuple[str, ...]]] = USED_BY
    score: ClassVar[str] = "accuracy"

    ways: int = option(5, "classes of a task", "main.py:11: 5 or 20", least=2, most=MOST)
    shots: int = option(1, "examples of a class to adapt on", least=1, most=MOST)
    queries: int = option(
        0,
        "examples of a class to be judged on, 0 for as many as shots",
        "main.py: as many as shots",
        least=0,
        most=MOST,
    )
    test_queries: int = option(
        0,
        "the same at validation and test, 0 for as many as in training, -1 for as many as"
        " shots",
        "main.py:249: as many as shots, where mini-ImageNet's training has 15",
        least=-1,
        most=MOST,
    )
    validate_every: int = option(
        250,
        "iterations between validations, after inner_steps steps, whose best theta is"
        " tested; 0 for none, and the last theta",
        least=0,
        most=10**8,
    )
    alpha: float = option(
        0.4,
        "inner step size, on the loss that --inner-loss names",
        "main.py:11, where the loss is a sum over shots: 2.0 on the mean",
        least=0,
        most=1e9,
    )
    inner_loss: str = option(
        "mean",
        "scale of the support loss: the sum over examples, divided by their number or by"
        " shots",
        "utils.py:56-58 divides by shots: WAYS times the mean",
        choices=SCALES,
    )
    outer_loss: str = option(
        "mean",
        "scale of the query loss, likewise; only --clip sees it, Adam does not",
        "utils.py:56-58 divides by shots: WAYS * QUERIES / SHOTS times the mean",
        choices=SCALES,
    )
    net: str = option(
        "conv",
        "convolutional with stride or with max-pooling, or fully connected 256-128-64-64",
        "section 5.2 of the paper: conv and dense on Omniglot, pooled on mini-ImageNet",
        choices=("conv", "pooled", "dense"),
    )
    filters: int = option(64, "filters of a convolution", "section 5.2", least=1, most=4096)
    head: str = option(
        "glorot",
        "how the head of a convolutional net is drawn: uniform after Glorot, or N(0, 1)",
        "maml.py: N(0, 1) on Omniglot, Glorot on mini-ImageNet",
        choices=tuple(models.HEADS),
    )
    norm_eps: float = option(
        1e-3,
        "what batch norm adds to a variance",
        "utils.py:41, the default of tf.contrib.layers.batch_norm (from memory)",
        above=0,
        most=1.0,
    )
    context: int = option(
        0,
        "free channels z beside an image's, which are then all that gradient steps move;"
        " 0 for none",
        "appendix C.2, which does not tell how many",
        least=0,
        most=4096,
    )
    adapt_norm: bool = option(
        False,
        "let the inner loop change batch norm's offsets too",
        "maml.py of the official code: they are meta-learned only",
    )


def build(
    config: Images,
    images: Array,
    classes: dict[str, Array],
    rotate: bool,
) -> Problem:
    """Return the problem on images uint8 (all, drawings, h, w[, c]) and {split: rows}.

    Raises UsageError when a split has fewer classes than ways, or a class fewer
    drawings than shots and queries.
    """
    sizes = {split: _sizes(config, split) for split in classes}
    for split, rows in classes.items():
        try:
            fewshot.check_sizes(images.shape[1], len(rows), *sizes[split])
        except ValueError as error:
            raise UsageError(f"split {split!r}: {error}") from error
    if config.validate_every and "val" not in classes:
        raise UsageError("this split has no validation classes; add --validate-every 0")
    if not config.uses("alpha") and "val" not in classes:
        raise UsageError("this split has no validation classes to tune the step size on")
    *size, channels = (*images.shape[2:4], *images.shape[4:], 1)[:3]
    model = _net(config, (*size, channels + config.context))
    if config.context:
        model = models.with_context(model, (*size, config.context))

    def draw(split: str, rng: Generator) -> Episode:
        if split not in classes:
            raise UsageError(f"these data have no {split!r} classes")
        wanted = sizes[split]
        return fewshot.sample(rng, images, classes[split], *wanted, rotate, config.dtype)

    inner, outer = (
        partial(losses.cross_entropy, divisor=None if scale == "mean" else config.shots)
        for scale in (config.inner_loss, config.outer_loss)
    )

    return Problem(
        model=model,
        alpha=_step_sizes(config, model),
        sample=each(draw),
        task=lambda episode: as_task(episode, model.apply, inner, outer),
        score=lambda theta, episode: losses.accuracy(
            model.apply(theta, episode.x_query), episode.y_query
        ),
        score_alone=lambda theta, episode: losses.accuracy(
            apply_alone(model.apply, theta, episode), episode.y_query
        ),
    )


def _sizes(config: Images, split: str) -> tuple[int, int, int]:
    """Ways, shots and queries of an episode."""
    queries = config.queries or config.shots
    if split != "train" and config.test_queries:
        queries = max(config.test_queries, 0) or config.shots
    return config.ways, config.shots, queries


def _net(config: Images, image: tuple[int, int, int]) -> Model:
    activation = models.ACTIVATIONS[config.activation]
    if config.net == "conv":
        return models.conv_net(
            image,
            config.ways,
            config.filters,
            activation=activation,
            head=models.HEADS[config.head],
            eps=config.norm_eps,
        )
    if config.net == "pooled":
        return models.pooled_conv_net(
            image,
            config.ways,
            config.filters,
            activation=activation,
            pool=models.POOLS[config.activation],
            head=models.HEADS[config.head],
            eps=config.norm_eps,
        )
    widths = (int(np.prod(image)), 256, 128, 64, 64, config.ways)
    net = models.mlp(widths, activation, batch_norm=True, eps=config.norm_eps)
    return models.flat_images(net)


def _step_sizes(config: Images, model: Model) -> float | Array:
    """alpha, and zero where a parameter is learned by the outer loop only."""
    if config.context and config.adapt_norm:
        raise UsageError("with --context gradient steps move z alone: no --adapt-norm")
    if config.context:
        moved = ["z"]
    elif config.adapt_norm:
        moved = [*model.shapes]
    else:
        moved = [name for name in model.shapes if not name.startswith("beta")]
    return config.alpha * params.mask(model.shapes, moved)
