"""The experiments: a frozen dataclass of options and a `setup` each; no loop of its own.

To add one, write its module and name it here. A user's own experiment is a file that
defines CONFIG and `setup`: its name is FILE.py.
"""

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tinymaml import loading
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments import glyphs, locomotion, miniimagenet, omniglot, pointnav, sine
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Problem, drawn
from tinymaml.losses import Score
from tinymaml.options import options_of


MODULES = {
    "sine": sine,
    "omniglot": omniglot,
    "miniimagenet": miniimagenet,
    "glyphs": glyphs,
    "pointnav": pointnav,
    "locomotion": locomotion,
}
FIELDS = dataclasses.fields(Config)
OWN = ".py"  # the end of the name of a user's own experiment


class Experiment(NamedTuple):
    """An experiment.

    kind: the class of its configurations
    setup(config) -> its problem
    stand_in(config) -> a small problem without data, for a check of the gradients
    """

    kind: type[Config]
    setup: Callable[[Any], Problem]
    stand_in: Callable[[Any], Problem]


def find(name: str) -> Experiment:
    """Return the experiment of that name, or that of a user's file FILE.py.

    Raises UsageError when there is none, WorldError when the file cannot be used.
    """
    if name in MODULES:
        return _experiment(MODULES[name].CONFIG, MODULES[name])
    if not name.endswith(OWN):
        raise UsageError(f"no experiment {name!r}; there are {', '.join(MODULES)}, FILE.py")
    return _own(name, loading.module(name))


def file_of(name: str) -> str:
    """Return the file of a user's own experiment, "" for one of the package."""
    return "" if name in MODULES else name


@lru_cache
def _own(name: str, module: ModuleType) -> Experiment:
    """Return the experiment that a user's module defines. Raises WorldError for none."""
    for wanted in ("CONFIG", "setup"):
        if not hasattr(module, wanted):
            raise WorldError(f"{name!r} defines no {wanted}; see `tinymaml new`")
    kind = module.CONFIG
    if not (isinstance(kind, type) and issubclass(kind, Config)):
        raise WorldError(f"{name!r}: CONFIG is not a class of options; see `tinymaml new`")
    if not callable(module.setup):
        raise WorldError(f"{name!r}: setup is not a function")
    if not isinstance(getattr(kind, "score", None), Score):
        raise WorldError(
            f"{name!r}: {kind.__name__} has no `score`, a tinymaml.losses.Score"
        )
    try:
        options = options_of(kind)
    except (TypeError, KeyError, NameError) as error:
        raise WorldError(f"{name!r}: the options of {kind.__name__}: {error}") from error
    fields = {field.name for field in dataclasses.fields(kind)}
    for bare in sorted(fields - {*options} - {field.name for field in FIELDS}):
        raise WorldError(f"{name!r}: {bare} has no help: {bare} = option(DEFAULT, HELP)")
    text = kind.__doc__ or ""  # that of a dataclass without one is its signature
    text = module.__doc__ or name if text.startswith(f"{kind.__name__}(") else text
    own = {
        "name": name,
        "title": getattr(kind, "title", Path(name).stem),
        "__doc__": text,
        "__module__": kind.__module__,
        "__reduce__": lambda self: (_restored, (name, self.values())),
    }
    named = type(kind)(kind.__name__, (kind,), own)
    return _experiment(named, module)


def _experiment(kind: type[Config], module: ModuleType) -> Experiment:
    return Experiment(kind, module.setup, getattr(module, "stand_in", module.setup))


def _restored(name: str, values: dict[str, Any]) -> Config:
    """Return a configuration of a user's experiment, in a worker process."""
    return find(name).kind.restored(values)


@lru_cache(maxsize=4)
def problem(config: Config) -> Problem:
    """Set up the experiment of `config`; a worker process does it once.

    Data are read, and a simulator is loaded, for the first task that is drawn: see
    `check_split` for errors of these.
    """
    return _finished(find(config.name).setup(config))


def check_split(config: Config, split: str) -> None:
    """Draw a task of a split.

    Raises UsageError when the options do not fit the data, WorldError when the data are
    missing or damaged or there is no simulator.
    """
    drawn(problem(config), 0, split, 0, range(1))


def stand_in(config: Config) -> Problem:
    """Set up a small problem without data for a check of the gradients."""
    return _finished(find(config.name).stand_in(config))


def _finished(found: Problem) -> Problem:
    """Return the problem in the precision of its options, at iteration 0."""
    options = found.options
    if np.ndim(found.alpha):  # keeps an algorithm's own steps in its precision
        found = found._replace(alpha=found.alpha.astype(options.dtype))
    return options.method.at_iteration(found, 0)
