"""A terminal of some number of columns, on which this process writes."""

import fcntl
import os
import pty
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from processes import Told
from tinymaml.cli import main


@contextmanager
def terminal(columns: int) -> Iterator[tuple]:
    """Yield a stream to a terminal, and a list that has its text when it is closed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    read, text = [], []

    def listen() -> None:
        try:
            while piece := os.read(ours, 65536):
                read.append(piece)
        except OSError:  # Linux says so that a terminal was closed
            pass

    listener = threading.Thread(target=listen)
    listener.start()
    with open(theirs, "w", encoding="utf-8") as stream:
        yield stream, text
    listener.join()
    os.close(ours)
    text.append(b"".join(read).decode().replace("\r\n", "\n"))


def on_terminal(columns: int, *args: object) -> Told:
    """Run the command line in this process, with stdout and stderr on one terminal."""
    with (
        terminal(columns) as (stream, text),
        redirect_stdout(stream),
        redirect_stderr(stream),
    ):
        try:
            main.run([*map(str, args)])
        except SystemExit as stop:
            code = stop.code
    return Told(code, text[0], "")


def states(text: str) -> list[str]:
    """Return every state of every line, as a terminal showed them one after the other."""
    return [state for line in text.split("\n") for state in line.split("\r")]


def left(text: str) -> list[str]:
    """Return the lines that are seen at the end."""
    lines = []
    for line in text.split("\n"):
        seen = ""
        for state in line.split("\r"):
            seen = state + seen[len(state) :]
        lines.append(seen.rstrip())
    return lines
