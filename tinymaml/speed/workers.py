"""Engines that compute chunks of tasks: this process, or an Executor of processes.

Threads are not offered: Python's global lock leaves them no gain.
"""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from tinymaml.errors import WorldError
from tinymaml.speed import machine


class Here(Executor):
    """Runs every call immediately, in this process."""

    def submit(self, function: Callable, /, *args, **kwargs) -> Future:
        future = Future()
        future.set_result(function(*args, **kwargs))
        return future

    def map(self, function: Callable, /, *iterables: Iterable) -> Iterator:
        return map(function, *iterables)  # futures would slow down a small network


class Pickled(Executor):
    """Sends a call to another executor as one array of bytes, and unpickles it there.

    Dask leaves arrays at any address in its messages. NumPy multiplies arrays that are not
    aligned differently, with other last bits.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def submit(self, function: Callable, /, *args, **kwargs) -> Future:
        message = pickle.dumps((function, args, kwargs), pickle.HIGHEST_PROTOCOL)
        # Dask copies an array less often than bytes.
        return self.executor.submit(_unpickled, np.frombuffer(message, np.uint8))


def _unpickled(message: np.ndarray) -> Any:
    function, args, kwargs = pickle.loads(message)
    return function(*args, **kwargs)


def spans(total: int, size: int) -> list[range]:
    """Split range(total) into ranges of `size`, the last one shorter."""
    return [range(i, min(i + size, total)) for i in range(0, total, size)]


def gather(engine: Executor, function: Callable, fixed: tuple, chunks: Iterable) -> list:
    """Return function(*fixed, chunk) for each chunk, in the order of the chunks."""
    return [*engine.map(partial(function, *fixed), chunks)]


@contextmanager
def engine(workers: int | str) -> Iterator[Executor]:
    """Yield the executor that `workers` names.

    1: this process; N: N processes on this machine, with one BLAS thread each;
    "dask:ADDRESS": the workers of a Dask scheduler at tcp://HOST:PORT (extra `dask`);
    "mpi": the other ranks of `mpiexec -n N python -m mpi4py.futures -m tinymaml ...`
    (extra `mpi`).
    Raises WorldError when the engine is missing, does not answer, or loses its workers.
    """
    machine.keep_freed_memory()  # every chunk's gradient arrives in this process
    if workers == 1:
        found = nullcontext(Here())
    elif workers == "mpi":
        found = _mpi_ranks()
    elif isinstance(workers, str):
        found = _dask_workers(workers.removeprefix("dask:"))
    else:
        found = _processes(workers)
    with found as pool:
        yield pool


@contextmanager
def _processes(number: int) -> Iterator[Executor]:
    others = multiprocessing.active_children()
    # Spawned, not forked: a forked child inherits BLAS's locks in whatever state.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(number, context, initializer=_begin_worker)
    try:
        with machine.blas_for_children(), _signals_held():
            started = pool.map(abs, range(number))
        list(started)
        yield pool
    except (KeyboardInterrupt, SystemExit):
        # A signal's exception can leave a lock of the pool held. A shutdown would wait
        # for a thread that waits for this lock.
        _kill_workers(others)
        raise
    except BrokenProcessPool as error:
        _kill_workers(others)  # one may wait for ever for a lock that the dead one held
        pool.shutdown()
        raise WorldError("a worker process died (out of memory?)") from error
    except BaseException:
        pool.shutdown()
        raise
    else:
        pool.shutdown()


def _kill_workers(others: list[multiprocessing.Process]) -> None:
    for process in multiprocessing.active_children():
        if process not in others:
            process.kill()


@contextmanager
def _dask_workers(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client, KilledWorker
        from distributed.client import FuturesCancelledError
    except ImportError as error:
        raise WorldError("Dask needs: pip install 'tinymaml[dask]'") from error
    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except OSError as error:
        raise WorldError(f"no Dask scheduler at {address}: {error}") from error
    with client:
        try:
            # The other workers compute the chunks of one that dies.
            yield Pickled(client.get_executor(pure=False))
        except (KilledWorker, FuturesCancelledError) as error:
            died = f"the Dask workers at {address} died (out of memory?)"
            raise WorldError(died) from error


def _mpi_ranks() -> Executor:
    try:
        from mpi4py.futures import MPIPoolExecutor
    except ImportError as error:
        raise WorldError("MPI needs: pip install 'tinymaml[mpi]'") from error
    return MPIPoolExecutor()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back; processes started inside never receive them.

    Both are sent to the whole process group, and only the parent should answer.
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
