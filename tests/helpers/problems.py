"""Random problems for the laws: nets, losses, tasks side by side, step sizes."""

from typing import NamedTuple

import autograd.numpy as anp
import numpy as np
from hypothesis import strategies as st

from tinymaml import losses, maml, models, ops
from tinymaml.fewshot import Episode, as_task
from tinymaml.maml import Task


ACTIVATIONS = {
    "tanh": anp.tanh,
    "softplus": lambda x: anp.logaddexp(x, 0.0),
    "relu": ops.relu,
}
SMOOTH = ("tanh", "softplus")


class Problem(NamedTuple):
    """A generic theta (..., P), a task, a step size and a number of steps."""

    theta: np.ndarray
    task: Task
    alpha: float | np.ndarray
    steps: int
    model: models.Model
    episode: Episode
    loss: object

    @property
    def args(self):
        """What the functions of maml take."""
        return self.theta, self.task, self.alpha, self.steps


def query_after(theta, task: Task, alpha, steps: int):
    """Return Q(theta_K): what the meta-gradient is the gradient of."""
    theta_k = maml.adapt(theta, task, alpha, steps)
    return anp.sum(task.query(theta_k)(theta_k))


def make(
    seed: int,
    widths: tuple[int, ...] = (2, 4, 3),
    lead: tuple[int, ...] = (),
    steps: int = 2,
    activation: str = "tanh",
    loss: str = "mse",
    batch_norm: bool = False,
    alpha_kind: str = "scalar",
    examples: int = 4,
) -> Problem:
    """Return a problem whose every number comes from `seed`."""
    rng = np.random.default_rng(seed)
    model = models.mlp(widths, ACTIVATIONS[activation], batch_norm)
    size = model.init(rng).size
    theta = 0.7 * rng.standard_normal((*lead, size))
    x = rng.standard_normal((2, *lead, examples, widths[0]))
    if loss == "mse":
        y = rng.standard_normal((2, *lead, examples, widths[-1]))
    else:
        y = rng.integers(widths[-1], size=(2, *lead, examples))
    episode = Episode(x[0], y[0], x[1], y[1])
    function = losses.mse if loss == "mse" else losses.cross_entropy
    task = as_task(episode, model.apply, function)
    alpha = step_size(rng, alpha_kind, steps, theta.shape)
    return Problem(theta, task, alpha, steps, model, episode, function)


def step_size(rng, kind: str, steps: int, shape: tuple[int, ...]):
    """Return a step size of one of the shapes that alpha may have."""
    sizes = {
        "scalar": (),
        "parameters": shape[-1:],
        "steps": (steps, *(1,) * len(shape)),
        "all": (steps, *shape),
    }
    return rng.uniform(0.02, 0.2, sizes[kind])


STEPS = st.integers(0, 4)
INPUTS, HIDDEN, OUTPUTS = st.integers(1, 3), st.integers(1, 5), st.integers(2, 3)
WIDTHS = st.tuples(INPUTS, OUTPUTS) | st.tuples(INPUTS, HIDDEN, HIDDEN, OUTPUTS)


@st.composite
def problems(draw, activations=tuple(ACTIVATIONS), steps=STEPS, **fixed) -> Problem:
    """Draw a problem: sizes here, numbers from a drawn seed."""
    options = {
        "widths": draw(WIDTHS),
        "lead": draw(st.sampled_from([(), (1,), (3,), (2, 2)])),
        "steps": draw(steps),
        "activation": draw(st.sampled_from(activations)),
        "loss": draw(st.sampled_from(["mse", "cross-entropy"])),
        "batch_norm": draw(st.booleans()),
        "alpha_kind": draw(st.sampled_from(["scalar", "parameters", "steps", "all"])),
    }
    return make(draw(st.integers(0, 2**32 - 1)), **(options | fixed))
