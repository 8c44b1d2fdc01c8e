"""Sine regression: section 5.1 of the paper."""

from typing import ClassVar

from tinymaml import losses, models, params
from tinymaml.data import sine
from tinymaml.errors import UsageError
from tinymaml.experiments.common import FewShot, check_parameters, configuration
from tinymaml.fewshot import Episode, Problem, Streams, as_task
from tinymaml.losses import Score
from tinymaml.options import COUNT, DATA, MOST, NET, TASK, WIDTHS, option, redefault


# Draws of initial weights by name; None draws the biases too.
WEIGHTS = {"normal": models.truncated_normal, "uniform": None}


@configuration
class Sine(FewShot):
    """Regress a sine curve of unknown amplitude and phase from a few points."""

    name: ClassVar[str] = "sine"
    title: ClassVar[str] = "Sine"
    score: ClassVar[Score] = losses.MSE
    picture: ClassVar[str] = "fits"
    offers: ClassVar[tuple[str, ...]] = ("regression", "task parameters")
    shown_steps: ClassVar[tuple[int, ...]] = (0, 1, 2, 5, 10)
    most_tasks: ClassVar[int] = 100  # a task is small: many side by side are quicker

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
    grid: bool = option(
        False,
        "draw support points from 50 equally spaced points, which are all query points",
        "the sine demo of Reptile (Nichol et al. 2018)",
        role=DATA,
    )
    phases: str = option(
        "half",
        "range of the phases: half, [0, pi], or full, [0, 2 pi]",
        "section 5.1; full: the sine demo of Reptile",
        role=DATA,
        choices=tuple(sine.PHASES),
    )
    hidden: tuple[int, ...] = option(
        (40, 40), "widths of the hidden layers", "section 5.1", role=NET, **WIDTHS
    )
    weights: str = option(
        "normal",
        "initial weights: normal, N(0, 0.01^2) truncated, with zero biases; or uniform,"
        " weights and biases on +-1 / sqrt(inputs of the layer)",
        "maml.py:168-177; uniform: PyTorch's default",
        role=NET,
        choices=tuple(WEIGHTS),
    )
    chunk: int = redefault(25)


CONFIG = Sine


def setup(config: Sine) -> Problem:
    """Return the problem: an MLP on curves drawn from the whole range.

    Raises UsageError when the grid has too few points, or --queries has no effect.
    """
    method, queries = config.method, config.queries or config.shots
    free, seen = method.inputs(config), 3 if method.sees_task else 1
    widths = seen + free, *config.hidden, 1
    activation, draw = models.ACTIVATIONS[config.activation], WEIGHTS[config.weights]
    model = models.mlp(widths, activation, draw=draw)
    if free:
        model = models.with_context(model, (free,))
    model = method.build(model, config)
    check_parameters(params.count(model.shapes))
    how, points = (config.dtype, config.phases), len(sine.GRID)
    if config.grid and config.shots > points:
        raise UsageError(f"--shots {config.shots}: --grid has {points} points")
    if config.grid and config.queries:
        raise UsageError(f"--queries {config.queries}: --grid has {points} query points")

    def sample(split: str, streams: Streams, tasks: range) -> Episode:
        if config.grid:
            return sine.sample_grid(streams, tasks, config.shots, *how)
        return sine.sample(streams, tasks, config.shots, queries, *how)

    def with_parameters(split: str, streams: Streams, tasks: range) -> Episode:
        episode = sample(split, streams, tasks)
        return sine.show_task(episode, streams, tasks, config.phases)

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
