"""Pictures of a run, drawn from its folder. Needs matplotlib: pip install '.[plot]'."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from tinymaml import maml, runs
from tinymaml.data import sine
from tinymaml.errors import WorldError
from tinymaml.evaluation import TASK_SEED, held_out
from tinymaml.experiments import problem
from tinymaml.experiments.common import Config
from tinymaml.fewshot import stream
from tinymaml.finetune import tuned
from tinymaml.workers import Here


Array = np.ndarray

# Okabe & Ito's colours, told apart by the colour-blind; lines differ in dashes too.
BLACK, ORANGE, BLUE, GREEN = "#000000", "#E69F00", "#0072B2", "#009E73"
FIT_STEPS = ((0, ":", ORANGE), (1, "--", BLUE), (10, "-", GREEN))
SMOOTH = 100  # points of a learning curve
CURVES = {
    "few-shot": {"loss": "loss, training tasks"},
    "rl": {"return_after": "after adaptation", "return_before": "before"},
}
Y_LIMIT = 1.2 * sine.AMPLITUDES[1]


def draw(path: Path, beside: Path | None = None) -> list[Path]:
    """Draw what the run's folder has: its curve, and held-out tasks of sine and pointnav.

    beside: another run of pointnav, to be drawn below this one
    Returns the files written. Raises WorldError without matplotlib or metrics.
    """
    config = runs.read_config(path)
    pictures = [learning_curve(path, config)]
    if config.name == "sine":
        pictures.append(sine_fit(path, config))
    if config.setting == "rl":
        from tinymaml.rl import pictures as walks  # here: it draws with this module

        pictures += walks.draw([path, beside] if beside else [path])
    return pictures


def learning_curve(path: Path, config: Config) -> Path:
    """Draw the query loss, or returns, against iterations: curve.png.

    They are averaged over up to SMOOTH groups of iterations.
    """
    records = runs.read_metrics(path)
    if not records:
        raise WorldError(f"no metrics in {str(path)!r}")
    iterations = np.array([record["iteration"] for record in records])
    groups = np.array_split(np.arange(len(records)), min(SMOOTH, len(records)))
    figure, axes = _figure("outer updates", "on query examples, after adaptation")
    for (name, label), dashes, color in zip(
        CURVES[config.setting].items(), ("-", ":"), (BLUE, GREEN), strict=False
    ):
        told = np.array([record[name] for record in records])
        axes.plot(
            [iterations[group].mean() for group in groups],
            [told[group].mean() for group in groups],
            dashes,
            color=color,
            label=label,
        )
    scored = [r for r in records if "validation" in r]
    if scored:
        axes.plot(
            [record["iteration"] for record in scored],
            [record["validation"] for record in scored],
            color=ORANGE,
            linestyle="--",
            marker="o",
            label=f"{config.score}, validation tasks",
        )
    if config.setting == "few-shot":
        axes.set_ylim(bottom=0)
    else:
        axes.set(ylim=(None, 0), ylabel=config.score)
    _legend(figure)
    return _write(figure, path / "curve.png")


def sine_fit(path: Path, config: Config, task: int = 0) -> Path:
    """Draw one held-out task before and after 1 and 10 gradient steps: fit.png."""
    state = runs.last_state(path, config)
    steps = max(step for step, *_ in FIT_STEPS)
    config = tuned(config, state.theta, steps, Here())
    family = problem(config)
    one = range(task, task + 1)
    curve = sine.draw_curves(partial(stream, TASK_SEED, "test", 0), one)
    episode = held_out(config, "test", one)
    x = np.linspace(*sine.INPUTS, 200).astype(config.dtype)[None, :, None]
    seen = sine.told(curve, x) if config.algorithm == "oracle" else x
    theta = family.start(state.theta)[None]
    with np.errstate(over="ignore", invalid="ignore"):  # steps may diverge
        thetas = maml.path(theta, family.task(episode), family.alpha, steps)
        fits = {step: family.model.apply(thetas[step], seen)[0] for step, *_ in FIT_STEPS}
    figure, axes = _figure("x", "y")
    axes.plot(x[0], curve(x)[0], color=BLACK, linewidth=1.2, label="truth")
    axes.plot(
        episode.x_support[0],
        episode.y_support[0],
        "^",
        color=BLACK,
        zorder=3,  # in front of the curves
        label=f"{config.shots} support points",
    )
    for step, dashes, color in FIT_STEPS:
        label = "before" if step == 0 else f"after {step} step" + "s" * (step > 1)
        axes.plot(x[0], fits[step], dashes, color=color, linewidth=2, label=label)
    # A net whose steps diverge must not hide the others; no true curve is so large.
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -Y_LIMIT), min(high, Y_LIMIT))
    axes.set_title(f"A held-out task, {state.iteration} outer updates")
    _legend(figure)
    return _write(figure, path / "fit.png")


def new_figure(size: tuple[float, float]):
    """Return an empty figure; raise WorldError without matplotlib."""
    try:
        # The Figure API keeps no global state and needs no screen.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise WorldError("pictures need matplotlib: pip install '.[plot]'") from error
    return Figure(figsize=size, layout="constrained")


def _figure(x_label: str, y_label: str):
    figure = new_figure((6, 4))
    axes = figure.add_subplot(xlabel=x_label, ylabel=y_label)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(figure) -> None:
    # Below the axes: a curve may be anywhere in them.
    figure.legend(loc="outside lower center", ncols=3, frameon=False)


def _write(figure, path: Path) -> Path:
    figure.savefig(path, dpi=150)
    return path
