"""The algorithms: one file each, and one row here.

A user's own algorithm is a record in a file: --algorithm FILE.py:NAME.
"""

import hashlib
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from tinymaml.algorithms.algorithm import RL, Algorithm
from tinymaml.algorithms.anil import ANIL
from tinymaml.algorithms.averaged import AVERAGED, AVERAGED_L2, AVERAGED_MEAN
from tinymaml.algorithms.baselines import ORACLE, PRETRAINED, RANDOM
from tinymaml.algorithms.boil import BOIL
from tinymaml.algorithms.cavia import CAVIA
from tinymaml.algorithms.context import CONTEXT
from tinymaml.algorithms.curvature import CURVATURE
from tinymaml.algorithms.imaml import IMAML
from tinymaml.algorithms.mamlpp import MAMLPP
from tinymaml.algorithms.mamls import E_MAML, FIRST_ORDER, LOW_MEMORY, MAML
from tinymaml.algorithms.metasgd import META_SGD
from tinymaml.algorithms.reptile import REPTILE
from tinymaml.algorithms.tnet import TNET
from tinymaml.errors import UsageError, WorldError
from tinymaml.options import options_of


ROWS = (
    *(MAML, FIRST_ORDER, LOW_MEMORY, E_MAML),
    *(META_SGD, MAMLPP),
    *(TNET, CURVATURE),
    IMAML,
    *(ANIL, BOIL),
    *(CONTEXT, CAVIA),
    REPTILE,
    *(PRETRAINED, ORACLE, RANDOM),
    *(AVERAGED, AVERAGED_L2, AVERAGED_MEAN),
)
ALGORITHMS: dict[str, Algorithm] = {row.name: row for row in ROWS}
OWN = r".+\.py:\w+"  # a record in a file, as a pattern


def find(name: str) -> Algorithm:
    """Return the algorithm of that name, or the record that FILE.py:NAME names.

    Raises UsageError when there is none, WorldError when the file cannot be used.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    file, _, attribute = name.rpartition(":")
    if not file.endswith(".py"):
        names = ", ".join(ALGORITHMS)
        raise UsageError(f"no algorithm {name!r}; there are {names}, and FILE.py:NAME")
    return _loaded(str(Path(file).resolve()), attribute)._replace(name=name)


@lru_cache
def _loaded(file: str, name: str) -> Algorithm:
    found = attribute(file, name, "--algorithm: ")
    if not isinstance(found, Algorithm):
        raise UsageError(f"--algorithm: {file!r} has no Algorithm called {name!r}")
    try:
        options_of(found.options)
        hash(found.options())
    except (TypeError, KeyError, NameError) as error:
        reason = f"{file!r}: the options of {name} are no frozen dataclass of options"
        raise WorldError(f"{reason} with defaults: {error}") from error
    return found


def attribute(file: str, name: str, option: str = "") -> Any:
    """Return what a Python file calls `name`, None if nothing. option: begins the message.

    Raises UsageError when there is no such file, WorldError when it cannot be loaded.
    """
    if not Path(file).is_file():
        raise UsageError(f"{option}no file {file!r}")
    full = str(Path(file).resolve())
    module_name = f"tinymaml_own_{hashlib.sha256(full.encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(module_name, full)
    if spec is None or spec.loader is None:
        raise WorldError(f"{file!r} cannot be loaded: its name does not end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # where its classes are looked up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise WorldError(f"{file!r} cannot be loaded: {error!r}") from error
    return getattr(module, name, None)


def fingerprint(name: str) -> str:
    """Return the sha256 of the file of a user's own algorithm, "" for a built-in one.

    Raises WorldError when the file cannot be read.
    """
    if name in ALGORITHMS:
        return ""
    file = Path(name.rpartition(":")[0])
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise WorldError(f"the algorithm's file {str(file)!r} cannot be read") from error


def available(setting: str, offers: tuple[str, ...]) -> list[str]:
    """Return the names of the built-in algorithms that fit an experiment."""
    return [row.name for row in ROWS if fits(row, setting, offers)]


def fits(row: Algorithm, setting: str, offers: tuple[str, ...]) -> bool:
    """Return whether an experiment has what an algorithm needs.

    setting: "few-shot" or "rl"; offers: names for `Algorithm.needs`
    """
    if row.iterate and setting == RL:  # its iteration has an outer step of its own
        return False
    return setting in row.settings and set(row.needs) <= set(offers)
