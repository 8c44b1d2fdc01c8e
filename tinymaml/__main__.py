"""python -m tinymaml, and the console script."""

from __future__ import annotations

import multiprocessing.util
import os
import signal

from tinymaml.speed import machine


GRACE = 10  # seconds that a signal leaves for closing files


class _Stopped(SystemExit):
    """A signal came before or after training, or a second one during it."""


def main() -> None:
    """Run the command line, with one BLAS thread unless the environment says otherwise."""
    machine.prepare_blas()  # before the next import brings NumPy
    # Training answers the first signal itself.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        from tinymaml.cli.main import run

        run()
    except _Stopped as stop:
        # Python's own exit waits for threads, which may wait for a lock that was held when
        # the signal came. This removes the names of semaphores and leaves.
        multiprocessing.util._run_finalizers(0)
        os._exit(stop.code)


def _stop(number: int, _: object) -> None:
    """Leave by an exception; by force after a second signal or when it takes too long."""
    code = 128 + number
    for later in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(later, lambda *_: os._exit(code))
    signal.alarm(GRACE)
    raise _Stopped(code)


if __name__ == "__main__":
    main()
