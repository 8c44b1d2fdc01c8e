"""Errors: the user's (exit 2), the world's (exit 1), a signal's (130 or 143)."""

import signal
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


# Errors that reading a damaged .npz has raised.
DAMAGE = (
    *(OSError, ValueError, EOFError, KeyError, NotImplementedError, MemoryError),
    *(SyntaxError, zipfile.BadZipFile, zlib.error, tokenize.TokenError, RuntimeError),
    *(TypeError, OverflowError),
)


class UsageError(ValueError):
    """The command line or configuration is wrong; nothing was written. Exit code 2."""


class WorldError(RuntimeError):
    """A file, the data, the disk or the numbers went wrong. Exit code 1."""


class DamagedError(WorldError):
    """The content of a file is not what was written."""


class Interrupted(BaseException):
    """A signal asked to stop; the run is saved. Exit code 128 + signal: 130 or 143."""

    def __init__(self, number: int, iteration: int) -> None:
        super().__init__(f"{signal.Signals(number).name} at iteration {iteration}")
        self.exit_code = 128 + number
        self.iteration = iteration


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Give an OSError inside the name of the file. That of a full disk has none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
