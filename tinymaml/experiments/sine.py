"""Sine regression: section 5.1 of the paper."""

from typing import ClassVar

from tinymaml import losses, models
from tinymaml.data import sine
from tinymaml.experiments.common import Config, configuration
from tinymaml.fewshot import Episode, Problem, Streams, as_task
from tinymaml.losses import Score
from tinymaml.options import COUNT, MOST, NET, TASK, WIDTHS, option, redefault


@configuration
class Sine(Config):
    """Regress a sine curve of unknown amplitude and phase from a few points."""

    name: ClassVar[str] = "sine"
    title: ClassVar[str] = "Sine"
    score: ClassVar[Score] = losses.MSE
    picture: ClassVar[str] = "fits"
    offers: ClassVar[tuple[str, ...]] = ("regression", "task parameters")
    shown_steps: ClassVar[tuple[int, ...]] = (0, 1, 2, 5, 10)

    iterations: int = redefault(12000, "70,000 in main.py:4")
    inner_steps: int = redefault(
        2, "the paper has 1, after which further steps diverge on a few tasks in a hundred"
    )
    tasks: int = redefault(25, "main.py:4")
    alpha: float = redefault(0.01, "the paper; main.py:52 has 0.001")
    shots: int = option(
        10,
        "number of support points",
        "the paper: 5, 10 or 20",
        role=TASK,
        **COUNT,
    )
    queries: int = option(
        0, "query points of a task; 0: as many as shots", "main.py", least=0, most=MOST
    )
    hidden: tuple[int, ...] = option(
        (40, 40), "widths of the hidden layers", "section 5.1", role=NET, **WIDTHS
    )
    chunk: int = redefault(25)


CONFIG = Sine


def setup(config: Sine) -> Problem:
    """Return the problem: an MLP with relu on curves drawn from the whole range."""
    method, queries = config.method, config.queries or config.shots
    free, seen = method.inputs(config), 3 if method.sees_task else 1
    widths = seen + free, *config.hidden, 1
    model = models.mlp(widths, models.ACTIVATIONS[config.activation])
    if free:
        model = models.with_context(model, (free,))
    model = method.build(model, config)

    def sample(split: str, streams: Streams, tasks: range) -> Episode:
        return sine.sample(streams, tasks, config.shots, queries, config.dtype)

    def with_parameters(split: str, streams: Streams, tasks: range) -> Episode:
        return sine.show_task(sample(split, streams, tasks), streams, tasks)

    apply = model.apply
    return Problem(
        model=model,
        alpha=method.step_sizes(model, config),
        options=config,
        sample=with_parameters if method.sees_task else sample,
        plain=sample,
        task=lambda e: as_task(e, apply, losses.mse),
        score=lambda theta, e: losses.squared_error(apply(theta, e.x_query), e.y_query),
    )


# A check of the gradients uses the problem itself, as it needs no data.
stand_in = setup
