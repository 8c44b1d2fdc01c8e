"""What the scripts beside this one share: failures of one line, and safe writing."""

import os
import re
import signal
import struct
import sys
import traceback
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import click
from PIL import Image


FILE = click.Path(path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
DATA_ERRORS = (  # what zipfile, tarfile and Pillow raise on damaged bytes
    *(OSError, EOFError, SyntaxError, ValueError, RuntimeError, LookupError, Warning),
    *(zipfile.BadZipFile, zlib.error, struct.error, Image.DecompressionBombError),
)
SHOWN = 5  # how many are named when more are wrong


def failure(*parts: object) -> click.ClickException:
    """Make the exception that click prints as one line before exit 1."""
    return click.ClickException(" ".join(": ".join(map(str, parts)).split()))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an error of the file system into a failure that names `path`."""
    try:
        yield
    except BrokenPipeError:  # `| head` has had enough: click ends in silence
        raise
    except OSError as error:
        raise failure(path, error.strerror or error) from error


def reason(error: Exception) -> str:
    """Say what went wrong, also where Python leaves that blank, as of a MemoryError."""
    return str(error) or type(error).__name__


def refuse(path: Path, wrong: list[str]) -> None:
    """Raise a failure that names the first of what is wrong; nothing when nothing is."""
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise failure(path, "; ".join(wrong[:SHOWN]) + more)


def note(text: str) -> None:
    """Tell a person at a terminal, and nobody else, what takes the time."""
    if sys.stderr.isatty():
        click.echo(text, err=True)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that becomes `path` when all went well; until then, the old one is."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
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


def _sweep(path: Path) -> None:
    """Remove the temporaries of `path` whose writers were killed."""
    name = rf"\.{re.escape(path.name)}\.([1-9][0-9]{{0,8}})\.tmp"
    for other in path.parent.iterdir():
        writer = re.fullmatch(name, other.name)
        if writer and not _is_running(int(writer[1])):
            with suppress(PermissionError):  # another user's, in a folder like /tmp
                other.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":  # os.kill would end it there
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def check_out(out: Path) -> None:
    """Refuse an --out that does not name an .npz file."""
    if out.suffix != ".npz" or os.path.isdir(out):
        raise click.UsageError(f"--out {str(out)!r} does not name an .npz file")


@contextmanager
def ending(debug: bool) -> Iterator[None]:
    """End as a command should: 130 after Ctrl-C, 143 after SIGTERM, nothing left behind.

    debug: show the traceback of a failure too
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` runs
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except click.ClickException:
        if debug:
            traceback.print_exc()
        raise


def tell(lines: list[str]) -> None:
    """Print the result."""
    with naming(Path("standard output")):
        click.echo("\n".join(lines))
