"""Cases of algorithms: small problems, a generic w, tasks side by side.

The images are small and drawn at once, so that nets of every kind are quick.
"""

from functools import lru_cache
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import grad
from autograd.tracer import getval

from tinymaml import experiments
from tinymaml.check.chain import Case, case_of
from tinymaml.experiments import images
from tinymaml.experiments.common import Config
from tinymaml.experiments.glyphs import Glyphs
from tinymaml.experiments.images import Images
from tinymaml.experiments.sine import Sine
from tinymaml.fewshot import Problem
from tinymaml.maml import Array
from tinymaml.options import Option


# Two exact ways to one result differ by rounding only: some hundred operations of 1e-16.
ROUNDING = 1e-12
SIDE = 16  # halved four times, a pixel is left
CLASSES = {"train": np.arange(12), "val": np.arange(12, 20), "test": np.arange(20, 30)}
SMALL = {
    Sine: {"hidden": (5, 4), "shots": 4},
    Glyphs: {"filters": 3, "ways": 3, "norm_eps": 0.1},
}


def small(kind: type[Config], algorithm: str, **changes: object) -> Config:
    """Return a small configuration in float64, with a smooth activation."""
    usual = {"dtype": "float64", "activation": "tanh", **SMALL[kind]}
    return kind(**usual | {"algorithm": algorithm} | changes)


def problem_of(config: Config) -> Problem:
    """Return the problem, on small images if it is of images."""
    if not isinstance(config, Images):
        return experiments.problem(config)
    found = images.build(config, pictures(), CLASSES, rotate=False)
    return experiments._finished(found)


@lru_cache
def pictures() -> Array:
    """Return images (classes, drawings, SIDE, SIDE) uint8 of random blocks."""
    blocks = np.random.default_rng(0).integers(256, size=(30, 4, SIDE // 2, SIDE // 2))
    return blocks.repeat(2, -1).repeat(2, -2).astype(np.uint8)


def case(config: Config, tasks: int = 2, iteration: int = 0) -> Case:
    """Return a generic w (tasks, M) and training tasks, at an iteration."""
    method = config.method
    family = method.at_iteration(problem_of(config), iteration)
    found = case_of(method, family, tasks)
    return found._replace(w=found.w.astype(config.dtype))


def others(option: Option, value: Any) -> list[Any]:
    """Return other values of an option: every other choice, or one number."""
    if option.name == "data":
        return ["b.npz"]
    if option.values.choices:
        return [x for x in option.values.choices if x != value]
    if option.values.kind in (bool, tuple):
        return [not value] if option.values.kind is bool else [(5,)]
    return [value + 1 if option.values.kind is int else value / 2 or 0.07]


def difference(a: Array, b: Array) -> float:
    """Return |a - b| / |b|."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def unrolled(theta, alphas, task, weights, first_order=False):
    """sum_k u_k Q(theta_k), by autograd through a loop that knows nothing of chains.

    alphas (K, ..., P); in first order every g_k is a constant
    """
    total = 0.0
    for alpha, u in zip(alphas, weights, strict=True):
        g = grad(task.support(theta))(theta)
        theta = theta - alpha * (getval(g) if first_order else g)
        total = total + u * task.query(theta)(theta)
    return anp.sum(total)
