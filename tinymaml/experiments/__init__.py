"""The experiments: a frozen dataclass of options and a `setup` each; no loop of its own.

To add one, write its module and name it here. A user's own experiment is a file that
defines CONFIG and `setup`: its name is FILE.py.
"""

import dataclasses
import inspect
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tinymaml import loading
from tinymaml.errors import UsageError, WorldError
from tinymaml.experiments import (
    glyphs,
    locomotion,
    miniimagenet,
    omniglot,
    own_images,
    pointnav,
    sine,
)
from tinymaml.experiments.common import Config
from tinymaml.fewshot import Problem, drawn
from tinymaml.losses import Score
from tinymaml.options import options_of


MODULES = {
    "sine": sine,
    "omniglot": omniglot,
    "miniimagenet": miniimagenet,
    "glyphs": glyphs,
    "images": own_images,
    "pointnav": pointnav,
    "locomotion": locomotion,
}
OWN = ".py"  # the end of the name of a user's own experiment


class Experiment(NamedTuple):
    """An experiment.

    kind: the class of its configurations
    setup(config) -> its problem
    stand_in(config) -> a small problem without data, for a check of the gradients
    file: the user's file that defines it, "" for none
    """

    kind: type[Config]
    setup: Callable[[Any], Problem]
    stand_in: Callable[[Any], Problem]
    file: str = ""


def find(name: str) -> Experiment:
    """Return the experiment of that name, or that of a user's file FILE.py.

    Raises UsageError when there is none, WorldError when the file cannot be used.
    """
    if name in MODULES:
        module = MODULES[name]
        stand_in = getattr(module, "stand_in", module.setup)
        return Experiment(module.CONFIG, module.setup, stand_in)
    if not name.endswith(OWN):
        raise UsageError(f"no experiment {name!r}; there are {', '.join(MODULES)}, FILE.py")
    return _in_file(name, loading.module(name))


def of(config: Config) -> Experiment:
    """Return the experiment of a configuration."""
    return vars(type(config)).get("experiment") or find(config.name)


def is_own(config: Config) -> bool:
    """Return whether a configuration is of a user's experiment."""
    return "experiment" in vars(type(config))


def own(
    kind: type[Config],
    setup: Callable[[Any], Problem],
    stand_in: Callable[[Any], Problem] | None = None,
    file: str = "",
) -> Experiment:
    """Return a user's experiment; without a file it has no worker processes.

    The `kind` of the result makes its configurations. Raises WorldError when kind is not a
    class of options with a score, or setup is not a function.
    """
    name = file or getattr(kind, "__name__", "")
    here = f"{file!r}: " if file else ""
    if not (isinstance(kind, type) and issubclass(kind, Config)):
        raise WorldError(f"{here}CONFIG is not a class of options; see `tinymaml new`")
    if not callable(setup):
        raise WorldError(f"{here}setup is not a function")
    if not isinstance(getattr(kind, "score", None), Score):
        raise WorldError(f"{here}{kind.__name__} has no `score`, a tinymaml.losses.Score")
    try:
        options = options_of(kind)
    except (TypeError, KeyError, NameError) as error:
        raise WorldError(f"{here}the options of {kind.__name__}: {error}") from error
    for bare in sorted(_fields(kind) - {*options} - _fields(Config)):
        raise WorldError(f"{here}{bare} has no help: {bare} = option(DEFAULT, HELP)")
    text = kind.__doc__ or ""
    signature = text.startswith(f"{kind.__name__}(")  # of a dataclass without a docstring
    members = {
        "name": name,
        "title": getattr(kind, "title", Path(name).stem),
        "__doc__": name if signature else text,
        "__module__": kind.__module__,
    }
    if file:
        members["__reduce__"] = lambda self: (
            *(_restored, (name, loading.in_memory(name))),
            self.__getstate__(),
        )
    named: Any = type(kind.__name__, (kind,), members)
    found = Experiment(named, setup, stand_in or setup, file)
    named.experiment = found
    return found


def _fields(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}  # no class variables


@lru_cache
def _in_file(name: str, module: ModuleType) -> Experiment:
    """Return the experiment that a user's module defines. Raises WorldError for none."""
    for wanted in ("CONFIG", "setup"):
        if not hasattr(module, wanted):
            raise WorldError(f"{name!r} defines no {wanted}; see `tinymaml new`")
    return own(module.CONFIG, module.setup, getattr(module, "stand_in", None), name)


def _restored(name: str, digest: str) -> Config:
    """Return a user's configuration without its options, in a worker process.

    Raises WorldError when the process has not the same file.
    """
    loading.check_same(name, digest)
    return object.__new__(find(name).kind)


@lru_cache(maxsize=4)
def problem(config: Config) -> Problem:
    """Set up the experiment of `config`; a worker process does it once.

    Data are read, and a simulator is loaded, for the first task that is drawn: see
    `check_split` for errors of these.
    """
    experiment = of(config)
    found = experiment.setup(config)
    if is_own(config):
        _check_kind(found, experiment)
    return _finished(found)


def _check_kind(found: Any, experiment: Experiment) -> None:
    """Raise WorldError when a user's setup did not return a problem with a sampler."""
    here = loading.place(experiment.setup)
    if not isinstance(found, Problem):
        kind = type(found).__name__
        raise WorldError(f"{here}setup returned {kind}, not a tinymaml.fewshot.Problem")
    if len(inspect.signature(found.sample).parameters) != 3:
        takes = "sample takes split, streams and tasks"
        raise WorldError(f"{here}{takes}; for one task at a time: sample=each(draw)")


def check_split(config: Config, split: str) -> None:
    """Draw a task of a split.

    Raises UsageError when the options do not fit the data, WorldError when the data are
    missing or damaged or there is no simulator.
    """
    drawn(problem(config), 0, split, 0, range(1))


def stand_in(config: Config) -> Problem:
    """Set up a small problem without data for a check of the gradients."""
    return _finished(of(config).stand_in(config))


def _finished(found: Problem) -> Problem:
    """Return the problem in the precision of its options, at iteration 0."""
    options = found.options
    if np.ndim(found.alpha):  # keeps an algorithm's own steps in its precision
        found = found._replace(alpha=np.asarray(found.alpha, options.dtype))
    return options.method.at_iteration(found, 0)
