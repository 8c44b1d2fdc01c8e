"""Few-shot image classification: what every experiment on images has in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.random import Generator

from tinymaml import fewshot, losses, models, params
from tinymaml.errors import UsageError
from tinymaml.experiments.common import MOST, Config, option
from tinymaml.fewshot import Episode, Problem, as_task
from tinymaml.models import Model


Array = np.ndarray


@dataclass(frozen=True)
class Images(Config):
    """Tell `ways` classes of images apart after `shots` examples of each."""

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
    alpha: float = option(
        0.4,
        "inner step size, on the mean cross-entropy",
        "main.py:11, where the loss is a sum over shots: 2.0 on the mean",
        least=0,
        most=1e9,
    )
    net: str = option(
        "conv",
        "convolutional with stride or with max-pooling, or fully connected 256-128-64-64",
        "section 5.2 of the paper: conv and dense on Omniglot, pooled on mini-ImageNet",
        choices=("conv", "pooled", "dense"),
    )
    filters: int = option(64, "filters of a convolution", "section 5.2", least=1, most=4096)
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
    queries = config.queries or config.shots
    for split, rows in classes.items():
        try:
            fewshot.check_sizes(
                images.shape[1], len(rows), config.ways, config.shots, queries
            )
        except ValueError as error:
            raise UsageError(f"split {split!r}: {error}") from error
    if config.validate_every and "val" not in classes:
        raise UsageError("this split has no validation classes: --validate-every 0")
    model = _net(config, (*images.shape[2:4], *images.shape[4:], 1)[:3])

    def sample(split: str, rng: Generator) -> Episode:
        if split not in classes:
            raise UsageError(f"these data have no {split!r} classes")
        sizes = config.ways, config.shots, queries
        return fewshot.sample(rng, images, classes[split], *sizes, rotate, config.dtype)

    return Problem(
        model=model,
        alpha=_step_sizes(config, model),
        sample=sample,
        task=lambda episode: as_task(episode, model.apply, losses.cross_entropy),
        score=lambda theta, episode: losses.accuracy(
            model.apply(theta, episode.x_query), episode.y_query
        ),
    )


def _net(config: Images, image: tuple[int, int, int]) -> Model:
    activation = models.ACTIVATIONS[config.activation]
    if config.net == "conv":
        return models.conv_net(image, config.ways, config.filters, activation=activation)
    if config.net == "pooled":
        pool = models.POOLS[config.activation]
        return models.pooled_conv_net(
            image, config.ways, config.filters, activation=activation, pool=pool
        )
    widths = (int(np.prod(image)), 256, 128, 64, 64, config.ways)
    return models.flat_images(models.mlp(widths, activation, batch_norm=True))


def _step_sizes(config: Images, model: Model) -> float | Array:
    """alpha, and zero where a parameter is learned by the outer loop only."""
    alpha = np.full(params.count(model.shapes), config.alpha)
    if not config.adapt_norm:
        for name, span in params.spans(model.shapes).items():
            if name.startswith("beta"):
                alpha[span] = 0
    return alpha
