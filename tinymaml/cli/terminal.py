"""The terminal: its width, and the progress of a command on stderr.

On a terminal progress is one line that is written again and again. Elsewhere a plain line
is added now and then.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import timedelta
from functools import partial
from typing import Any, TextIO

from tinymaml.harness.evaluation import chunk_alone, chunk_digests, chunk_scores
from tinymaml.speed.workers import Engine


USUAL, NARROWEST = 80, 20  # columns of a terminal that does not say, and at least
SHORTEST, LONGEST = 8, 30  # characters of a bar
REDRAW = 0.1  # seconds between two states of the line on a terminal
# Seconds between plain lines: FIRST, later a quarter of the time so far, at most MOST.
FIRST, SHARE, MOST = 10, 0.25, 600
STAGES = {
    chunk_scores: "scores",
    chunk_alone: "scores of each query alone",
    chunk_digests: "hash of the tasks",
}

Show = Callable[[int, int | None, str], None]


def columns(stream: TextIO) -> int | None:
    """Return the number of columns of a terminal; None for a file or a pipe.

    The variable COLUMNS overrides the terminal's own number, as everywhere.
    """
    if not stream.isatty():
        return None
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return max(int(given), NARROWEST)
    try:
        return max(os.get_terminal_size(stream.fileno()).columns or USUAL, NARROWEST)
    except OSError:
        return USUAL


@contextmanager
def progress(label: str, quiet: bool, stays: bool = False) -> Iterator[Show]:
    """Yield show(done, total, figure), which shows the progress of a command on stderr.

    quiet: show nothing
    stays: the line on a terminal is not removed at the end
    """
    if quiet:
        yield lambda done, total, figure: None
        return
    shown = Progress(label, sys.stderr)
    try:
        with redirect_stderr(Above(shown)):
            yield shown.show
    finally:
        shown.close(stays)


class Progress:
    """The progress of a command, in one or several passes of `total` parts each.

    clock() -> seconds
    """

    def __init__(
        self, label: str, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.label, self.stream, self.clock = label, stream, clock
        self.began = clock()
        self.due = self.began + (0 if stream.isatty() else FIRST)
        # Of this pass: the parts that are done, those at the first call, and its time.
        self.done, self.first, self.since = 0, 0, self.began
        self.drawn = False

    def show(self, done: int, total: int | None, figure: str) -> None:
        """Show that `done` parts are done, unless the last time was a moment ago.

        total: the number of parts; None where it is not known
        figure: what else is of interest
        """
        now = self.clock()
        if not 0 < self.done < done:
            self.first, self.since = done, now
        self.done = done
        if now < self.due and not (self.drawn and done == total):
            return
        left = _time(done, total, self.first, now - self.since)
        if width := columns(self.stream):
            self.due = now + REDRAW
            self._draw(fitted(self.label, done, total, left, figure, width - 1), width)
        else:
            self.due = now + min(max(FIRST, SHARE * (now - self.began)), MOST)
            count = f"{done} of {total}" if total else ""
            parts = ", ".join(filter(None, [count, left, figure]))
            print(f"{self.label}: {parts}", file=self.stream, flush=True)

    def close(self, stays: bool = False) -> None:
        """End the line on a terminal; remove it unless it stays."""
        if self.drawn and stays:
            print(file=self.stream, flush=True)
        elif self.drawn:
            self._draw("", columns(self.stream) or 1)
        self.drawn = False

    def _draw(self, text: str, width: int) -> None:
        # The last column stays free: many terminals begin a new line after it.
        self.stream.write(f"\r{text:<{width - 1}}" + "\r" * (not text))
        self.stream.flush()
        self.drawn = True


class Above:
    """A stream whose lines stand above the line of progress, which is drawn again later."""

    def __init__(self, shown: Progress) -> None:
        self.shown = shown

    def __getattr__(self, name: str) -> Any:
        return getattr(self.shown.stream, name)

    def write(self, text: str) -> int:
        """Write a text where the line of progress was."""
        if self.shown.drawn:
            self.shown.close()
            self.shown.due = 0
        return self.shown.stream.write(text)


def _time(done: int, total: int | None, first: int, seconds: float) -> str:
    """Return the time that is left, or that a pass took; "" where neither is known."""
    if not total or done == first:
        return ""
    if done == total:
        return f"in {timedelta(seconds=round(seconds))}"
    left = seconds / (done - first) * (total - done)
    return f"{timedelta(seconds=round(left))} left"


def fitted(
    label: str, done: int, total: int | None, left: str, figure: str, width: int
) -> str:
    """Return one line of at most `width` characters, with a bar if there is room."""
    parts = {"label": label}
    if total:
        parts |= {"share": f"{100 * done // total:3}%", "count": f"{done}/{total}"}
    parts |= {"left": left, "figure": figure}
    parts = {name: part for name, part in parts.items() if part}
    for name in ("", "label", "count", "left", "share"):
        parts.pop(name, None)
        line = "  ".join(parts.values())
        if len(line) <= width:
            break
    bar = min(LONGEST, width - len(line) - len("  []"))
    if total and "label" in parts and bar >= SHORTEST:
        full = bar * done // total
        parts["label"] += f"  [{'#' * full}{'-' * (bar - full)}]"
    return "  ".join(parts.values())[:width]


class Watched:
    """Shows how many chunks an engine has finished."""

    def __init__(self, engine: Engine, show: Show) -> None:
        self.engine, self.show = engine, show

    def map(self, function: partial, chunks: Iterable, /) -> Iterator:
        chunks, stage = [*chunks], STAGES.get(function.func, "")
        for done, one in enumerate(self.engine.map(function, chunks), 1):
            self.show(done, len(chunks), stage)
            yield one
