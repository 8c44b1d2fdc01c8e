"""Algorithm 1 of the paper (Finn, Abbeel & Levine 2017), with its outer loop, on sine.

    python algorithm_1.py

Comments have the algorithm's line numbers. The outer step is Adam's, as the authors' is.
"""

from functools import partial

import numpy as np

from tinymaml import losses, models
from tinymaml.data import sine
from tinymaml.fewshot import as_task, stream
from tinymaml.maml import adapt, meta_gradient
from tinymaml.optim import Moments, adam


ALPHA, BETA, STEPS, TASKS, SHOTS, SEED = 0.01, 0.001, 2, 25, 10, 0
MODEL = models.mlp((1, 40, 40, 1), models.ACTIVATIONS["relu"])


def tasks(split, iteration, count):
    """Return tasks side by side: SHOTS points to adapt on and SHOTS to judge by, each."""
    streams = partial(stream, SEED, split, iteration)
    episodes = sine.sample(streams, range(count), SHOTS, SHOTS, "float32", "half")
    return as_task(episodes, MODEL.apply, losses.mse)


def error(theta, steps, count=600):
    """Return the mean squared error of held-out tasks after some gradient steps."""
    new = tasks("test", 0, count)
    adapted = adapt(np.tile(theta, (count, 1)), new, ALPHA, steps)
    return new.query(adapted)(adapted) / count


def train(iterations):
    """Return the learned initialisation theta (P,)."""
    theta = MODEL.init(stream(SEED, "init", 0, 0)).astype("float32")  # 1: initialise theta
    moments = Moments(np.zeros_like(theta), np.zeros_like(theta))
    for i in range(1, iterations + 1):  # 2: while not done
        batch = tasks("train", i, TASKS)  # 3: sample a batch of tasks
        # 4-7: adapt to each task; 8: the gradient of the adapted thetas' loss by theta
        loss, gradients = meta_gradient(np.tile(theta, (TASKS, 1)), batch, ALPHA, STEPS)
        theta, moments = adam(theta, gradients.mean(axis=0), moments, i, BETA)
        if i % (iterations // 5) == 0:
            print(f"iteration {i}: loss {loss / TASKS:.3f}")
    return theta


if __name__ == "__main__":
    learned = train(iterations=5000)
    for k in (0, 1, 2, 5, 10):
        print(f"MSE after {k} steps: {error(learned, k):.3f}")
