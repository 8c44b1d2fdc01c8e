"""python -m tinymaml, and the console script."""

import multiprocessing.util
import os
import signal
import threading
from collections.abc import Callable

from tinymaml.speed import machine


GRACE = 10  # seconds that a signal leaves for closing files


class _Stopped(SystemExit):
    """A signal before or after training, or a second one during it."""


def main() -> None:
    """Run the command line, with one BLAS thread unless the environment says otherwise."""
    machine.prepare_blas()  # before NumPy is imported
    # Training handles the first signal itself.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        from tinymaml.cli.main import run

        run()
    except _Stopped as stop:
        _leave(stop.code)


def _stop(number: int, _: object) -> None:
    """Leave by an exception; at once after a second signal or after GRACE seconds."""
    code = 128 + number
    _answer_next(lambda *_: _leave(code), GRACE)
    # The pool's thread can fail on cancelled tasks while their workers die.
    threading.excepthook = lambda _: None
    raise _Stopped(code)


def _leave(code: int) -> None:
    """End the process without Python's exit, which waits for threads that may hang."""
    _answer_next(lambda *_: os._exit(code), 1)
    multiprocessing.util._run_finalizers(0)  # removes the names of semaphores
    os._exit(code)


def _answer_next(handler: Callable[..., None], seconds: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, handler)
    signal.alarm(seconds)


if __name__ == "__main__":
    main()
