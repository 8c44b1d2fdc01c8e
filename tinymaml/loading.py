"""A Python file of the user's: loaded once, its hash, and where in it an error arose."""

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from tinymaml.errors import UsageError, WorldError


PREFIX = "tinymaml_own_"  # of the modules' names
DIGEST = "__tinymaml_sha256__"  # the name in a module of the hash of its file


def module(file: str, option: str = "") -> ModuleType:
    """Return the module of a Python file, loaded anew only if the file was not before.

    option: begins the message
    Raises UsageError when there is no such file, WorldError when it cannot be loaded.
    """
    if not Path(file).is_file():
        raise UsageError(f"{option}no file {file!r}")
    return _loaded(str(Path(file).resolve()))


@lru_cache
def _loaded(full: str) -> ModuleType:
    name = f"{PREFIX}{hashlib.sha256(full.encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise WorldError(f"{full!r} cannot be loaded: its name does not end in .py")
    found = importlib.util.module_from_spec(spec)
    setattr(found, DIGEST, fingerprint(full))
    sys.modules[name] = found  # where its classes are looked up
    if (folder := str(Path(full).parent)) not in sys.path:
        sys.path.append(folder)  # for what the file imports
    try:
        spec.loader.exec_module(found)
    except (Exception, SystemExit) as error:
        raise WorldError(f"{full!r} cannot be loaded: {described(error)}") from error
    return found


def in_memory(file: str) -> str:
    """Return the sha256 of a file when it was loaded. Raises as `module` does."""
    return str(getattr(module(file), DIGEST))


def check_same(file: str, digest: str) -> None:
    """Raise WorldError unless a worker process has a file, as it was when it was loaded.

    digest: of `in_memory` in the process that began the training
    """
    try:
        found = in_memory(file)
    except UsageError as error:
        place = f"a worker process finds no {file!r} in {str(Path.cwd())!r}"
        advice = "give its full path, or start the workers in its folder"
        raise WorldError(f"{place}: {advice}") from error
    if found != digest:
        other = f"a worker process has another {file!r} in memory"
        raise WorldError(f"{other}: restart the workers after a change")


def fingerprint(file: str) -> str:
    """Return the sha256 of a file. Raises WorldError when it cannot be read."""
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError as error:
        raise WorldError(f"the file {file!r} cannot be read") from error


def described(error: BaseException, within: Callable | None = None) -> str:
    """Return an error's type and message, after the last line of a user's file in it.

    within: the function of the user's that is to blame when the error shows no such line
    """
    own, where = _files(), place(within) if within else ""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"line {error.lineno}: {type(error).__name__}: {error.msg}"
    for frame in traceback.extract_tb(error.__traceback__):
        if (full := str(Path(frame.filename).resolve())) in own:
            where = f"{Path(full).name!r} line {frame.lineno}: "
    return f"{where}{type(error).__name__}: {error}"


def place(function: Callable) -> str:
    """Return the user's file and the line in which a function begins, "" for others."""
    code = getattr(getattr(function, "func", function), "__code__", None)
    if code is None or str(Path(code.co_filename).resolve()) not in _files():
        return ""
    return f"{Path(code.co_filename).name!r} line {code.co_firstlineno}: "


def _files() -> set[str]:
    """Return the users' files that were loaded, by their full names."""
    found = [one for name, one in sys.modules.items() if name.startswith(PREFIX)]
    return {str(one.__file__) for one in found}
