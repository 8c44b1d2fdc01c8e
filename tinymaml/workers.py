"""Where chunks of tasks are computed: here, or in processes.

Any `concurrent.futures.Executor` of processes fits. Threads are not offered: they gain
nothing under Python's global lock.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from tinymaml import machine
from tinymaml.errors import WorldError


class Here(Executor):
    """Runs every call at once, in this process."""

    def submit(self, function: Callable, /, *args, **kwargs) -> Future:
        future = Future()
        future.set_result(function(*args, **kwargs))
        return future


@contextmanager
def engine(workers: int) -> Iterator[Executor]:
    """Yield an executor of `workers` processes with one BLAS thread each.

    One worker is this process. Raises WorldError when a worker process dies.
    """
    if workers == 1:
        machine.keep_freed_memory()
        yield Here()
        return
    # Spawned, not forked: a forked child inherits BLAS's locks in whatever state.
    context = multiprocessing.get_context("spawn")
    with machine.one_blas_thread_for_children():
        pool = ProcessPoolExecutor(workers, context, initializer=_begin_worker)
        list(pool.map(abs, range(workers)))  # start them under this environment
    try:
        with pool:
            yield pool
    except BrokenProcessPool as error:
        raise WorldError("a worker process died (out of memory?)") from error


def _begin_worker() -> None:
    # Ctrl-C reaches the whole process group; the parent decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    machine.keep_freed_memory()
