"""python -m tinymaml, and the console script."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec

from tinymaml.speed import machine


GRACE = 10  # seconds that a signal leaves for closing files
SIGNALS = "SIGALRM", "alarm", "pthread_sigmask"  # what else a run needs of POSIX


class _Stopped(SystemExit):
    """A signal before or after training, or a second one during it."""

    code: int


def main() -> None:
    """Run the command line, with one BLAS thread unless the environment says otherwise.

    Without POSIX, as on Windows, a run could not be locked or stopped: it exits with 1.
    """
    if sys.platform == "win32" or not _is_posix():
        needs = "tinymaml needs Linux or macOS; on Windows, run it in WSL"
        print(f"Error: {needs} (Windows Subsystem for Linux)", file=sys.stderr)
        raise SystemExit(1)
    machine.prepare_blas()  # before NumPy is imported
    # Training handles the first signal itself.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        from tinymaml.cli.main import run

        run()
    except _Stopped as stop:
        _leave(stop.code)


def _is_posix() -> bool:
    signals = all(hasattr(signal, name) for name in SIGNALS)
    return signals and find_spec("fcntl") is not None


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
    # Where workers were started. It removes the names of semaphores.
    if util := sys.modules.get("multiprocessing.util"):
        util._run_finalizers(0)
    os._exit(code)


def _answer_next(handler: Callable[..., None], seconds: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, handler)
    signal.alarm(seconds)


if __name__ == "__main__":
    main()
