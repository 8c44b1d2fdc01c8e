"""The experiments: a frozen dataclass of options and a `setup` each; no loop of its own.

To add one, write its module and name it here.
"""

from functools import lru_cache

import numpy as np

from tinymaml.experiments import glyphs, locomotion, miniimagenet, omniglot, pointnav, sine
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Problem, drawn


MODULES = {
    "sine": sine,
    "omniglot": omniglot,
    "miniimagenet": miniimagenet,
    "glyphs": glyphs,
    "pointnav": pointnav,
    "locomotion": locomotion,
}


@lru_cache(maxsize=4)
def problem(config: Config) -> Problem:
    """Set up the experiment of `config`; a worker process does it once.

    Data are read, and a simulator is loaded, for the first task that is drawn: see
    `check_split` for errors of these.
    """
    return _finished(MODULES[config.name].setup(config))


def check_split(config: Config, split: str) -> None:
    """Draw a task of a split.

    Raises UsageError when the options do not fit the data, WorldError when the data are
    missing or damaged or there is no simulator.
    """
    drawn(problem(config), 0, split, 0, range(1))


def stand_in(config: Config) -> Problem:
    """Set up a small problem without data for a check of the gradients."""
    return _finished(MODULES[config.name].stand_in(config))


def _finished(found: Problem) -> Problem:
    """Return the problem in the precision of its options, at iteration 0."""
    options = found.options
    if np.ndim(found.alpha):  # keeps an algorithm's own steps in its precision
        found = found._replace(alpha=np.asarray(found.alpha, options.dtype))
    return options.method.at_iteration(found, 0)
