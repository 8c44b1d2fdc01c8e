"""Train, evaluate and use a net from Python: a script that passes mypy --strict."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tinymaml import losses, models, study
from tinymaml.fewshot import Episode, as_task
from tinymaml.maml import Array, Loss, Task, meta_gradient


def show(record: dict[str, Any]) -> None:
    """Print one line an iteration."""
    print(record["iteration"], record["loss"])


def bowl(_: Array) -> Loss:
    """Return a loss of one's own."""
    return lambda theta: np.sum((theta - 1.0) ** 2)


if __name__ == "__main__":
    run = study.train(study.options("sine", shots=5, iterations=3, hidden=(4,)), show)
    for state in study.iterate(run.config):
        print(state.iteration, state.records[-1]["loss"])
    scores = run.evaluate(tasks=10, steps=2)
    print(scores, float(scores.mean[-1]), float(scores.half[-1]))
    x = np.linspace(-1, 1, 5)[:, None]
    curve = run.adapt(x, np.sin(x), steps=2)
    print(curve(x).shape, curve.theta.mean())
    axes = Figure().subplots()
    scores.plot(axes, color="red")
    run.plot(axes)
    net = models.mlp((1, 4, 1), models.ACTIVATIONS["tanh"])
    for task in (Task(bowl, bowl), as_task(Episode(x, x, x, -x), net.apply, losses.mse)):
        print(meta_gradient(0.1 * np.ones(13), task, alpha=0.1, steps=2)[0])
