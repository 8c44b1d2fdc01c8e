"""Errors of one line, and files that replace others whole."""

import csv
import os
import re
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from tinymaml.errors import UsageError, WorldError
from tinymaml.options import quoted


DATA_ERRORS = (  # what csv, tarfile, zipfile and Pillow raise on damaged bytes
    *(OSError, EOFError, SyntaxError, ValueError, RuntimeError, LookupError, Warning),
    *(MemoryError, OverflowError, csv.Error, tarfile.TarError, zipfile.BadZipFile),
    *(zlib.error, struct.error, Image.DecompressionBombError),
)
SHOWN = 5  # number of faults that a message lists


def failure(*parts: object) -> WorldError:
    """Return an error of one line, made of the parts that are not empty."""
    return WorldError(" ".join(": ".join(filter(None, map(str, parts))).split()))


@contextmanager
def naming(path: Path | str, wrong: str = "") -> Iterator[None]:
    """Turn an error into a failure that names `path`.

    wrong: what a damaged file is called, as "not a readable zip"; without it, only errors
        of the file system are turned
    """
    try:
        yield
    except (UsageError, WorldError, BrokenPipeError):  # the last: a reader has left
        raise
    except DATA_ERRORS as error:
        if not wrong and not isinstance(error, OSError):
            raise
        raise failure(path, wrong, reason(error)) from error


def reason(error: Exception) -> str:
    """Return an error's message, or its type where the message is empty (MemoryError)."""
    if isinstance(error, UnidentifiedImageError):  # its message has a memory address
        return "another format"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def refuse(path: Path, wrong: list[str]) -> None:
    """Raise a failure that lists the first faults in `wrong`, if there are any."""
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise failure(path, "; ".join(wrong[:SHOWN]) + more)


def note(text: str) -> None:
    """Report progress on stderr if it is a terminal."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def check_out(path: Path) -> None:
    """Raise UsageError unless `path` can name an .npz file, WorldError without a folder."""
    if path.suffix != ".npz" or os.path.isdir(path):
        raise UsageError(f"--out {str(path)!r} does not name an .npz file")
    if not os.path.isdir(path.parent):
        raise failure(path.parent, "no such folder")
    try:
        _temporary(path).stat()
    except FileNotFoundError:
        pass
    except OSError as error:  # a name that is too long
        raise UsageError(f"--out {quoted(str(path))}: {reason(error)}") from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` once it is written; an error leaves the old one."""
    temporary = _temporary(path)
    with naming(path):
        _sweep(path)
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _sweep(path: Path) -> None:
    """Remove temporary files of `path` whose writers were killed."""
    name = rf"\.{re.escape(path.name)}\.([1-9][0-9]{{0,8}})\.tmp"
    for other in path.parent.iterdir():
        writer = re.fullmatch(name, other.name)
        if writer and not _is_running(int(writer[1])):
            with suppress(PermissionError):  # another user's, in a folder like /tmp
                other.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        if os.name == "posix":  # elsewhere os.kill would end it
            os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
