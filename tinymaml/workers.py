"""Where chunks of tasks are computed: here, or in processes.

Any `concurrent.futures.Executor` of processes fits. Threads are not offered: they gain
nothing under Python's global lock.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
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
    with ProcessPoolExecutor(workers, context, initializer=_begin_worker) as pool:
        try:
            with machine.one_blas_thread_for_children(), _signals_held():
                started = pool.map(abs, range(workers))
            list(started)
            yield pool
        except BrokenProcessPool as error:
            raise WorldError("a worker process died (out of memory?)") from error
        except (KeyboardInterrupt, SystemExit):
            for process in multiprocessing.active_children():
                process.kill()  # the pool would wait for what they compute
            raise


@contextmanager
def _signals_held() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM wait; processes started inside never see them.

    Both reach the whole process group, and only the parent is to answer them.
    """
    held = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    machine.keep_freed_memory()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
