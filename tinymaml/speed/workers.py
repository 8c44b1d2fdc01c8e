"""Engines that compute chunks of tasks: this process, processes, Dask or MPI.

Threads are not offered: Python's global lock leaves them no gain.
"""

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np

from tinymaml.errors import UsageError, WorldError
from tinymaml.speed import machine


# Of Dask, and of the event loop under it, with a traceback for every lost call.
LOGGERS = "distributed", "distributed.client", "tornado.application", "asyncio"
POLL, PATIENCE = 1, 10  # seconds between looks at a connection, and until it is tried


class Engine(Protocol):
    """What computes chunks of tasks: an `Executor`, or a class below.

    One that knows how many workers it has says so as `number`; each gets one call then.
    """

    def map(self, function: partial, chunks: Iterable, /) -> Iterator:
        """Return the results of function(chunk), in the order of the chunks."""


class Here:
    """Runs every call in this process."""

    def submit(self, function: Callable, /, *args, **kwargs) -> Future:
        future: Future = Future()
        future.set_result(function(*args, **kwargs))
        return future

    def map(self, function: Callable, /, *iterables: Iterable) -> Iterator:
        return map(function, *iterables)  # futures would slow down a small network


class Processes(ProcessPoolExecutor):
    """A pool that says how many processes it has."""

    def __init__(self, number: int, *args, **kwargs) -> None:
        super().__init__(number, *args, **kwargs)
        self.number = number


class Dask:
    """Sends calls to the workers of a Dask scheduler.

    A call is one array of bytes, unpickled there. Dask leaves arrays at any address in its
    messages, and NumPy multiplies arrays that are not aligned differently, with other last
    bits.
    """

    def __init__(self, client: Any, address: str) -> None:
        self.client, self.executor = client, client.get_executor(pure=False)
        self.address = address
        self._number, self._asked = 0, -float("inf")

    @property
    def number(self) -> int:
        """Threads of all workers, 1 or more, as the scheduler said a short time ago."""
        if time.monotonic() - self._asked > PATIENCE:
            self._number, self._asked = sum(self._workers().values()), time.monotonic()
        return max(self._number, 1)

    def submit(self, function: Callable, /, *args, **kwargs) -> Future:
        message = pickle.dumps((function, args, kwargs), pickle.HIGHEST_PROTOCOL)
        self._check()
        # Dask copies an array less often than bytes.
        return self.executor.submit(_unpickled, np.frombuffer(message, np.uint8))

    def map(self, function: Callable, /, *iterables: Iterable) -> Iterator:
        futures = [self.submit(function, *args) for args in zip(*iterables, strict=False)]
        return map(self._result, futures)

    def _result(self, future: Future) -> Any:
        """Wait for a result. Raises WorldError when it can never come.

        Dask itself would wait for a scheduler that does not answer, and for new workers.
        """
        asked, idle = time.monotonic(), False
        while not wait([future], POLL).done and not future.done():
            self._check()
            if time.monotonic() - asked > PATIENCE:
                workers = self._workers()
                if idle and not workers:
                    lacking = f"the Dask scheduler at {self.address} has no workers"
                    raise WorldError(lacking)
                asked, idle = time.monotonic(), not workers
        try:
            return future.result()
        except CancelledError as error:
            raise WorldError(self._lost()) from error
        except (RuntimeError, ImportError) as error:
            if isinstance(error, ImportError) or "deserialization" in str(error):
                lacking = f"the Dask cluster at {self.address} lacks this tinymaml"
                raise WorldError(f"{lacking}: {str(error).split('. ')[0]}") from error
            raise

    def _check(self) -> None:
        if self.client.status != "running":
            raise WorldError(self._lost())

    def _lost(self) -> str:
        return f"the connection to the Dask scheduler at {self.address} was lost"

    def _workers(self) -> dict[str, int]:
        """Return the workers. Raises WorldError when the scheduler does not answer."""
        try:
            ask = self.client.scheduler.ncores
            return self.client.sync(ask, callback_timeout=2 * PATIENCE)
        except Exception as error:  # as many types as ways to lose a connection
            raise WorldError(self._lost()) from error


def _unpickled(message: np.ndarray) -> Any:
    function, args, kwargs = pickle.loads(message.data)
    return function(*args, **kwargs)


def spans(total: int, size: int) -> list[range]:
    """Split range(total) into ranges of `size`, the last one shorter."""
    return [range(i, min(i + size, total)) for i in range(0, total, size)]


def gather(engine: Engine, function: Callable, fixed: tuple, chunks: Iterable) -> list:
    """Return function(*fixed, chunk) for each chunk, in the order of the chunks."""
    return [*engine.map(partial(function, *fixed), chunks)]


@contextmanager
def engine(workers: int | str) -> Iterator[Engine]:
    """Yield the executor that `workers` names.

    1: this process; N: N processes on this machine, with one BLAS thread each;
    "dask:ADDRESS": the workers of a Dask scheduler at tcp://HOST:PORT (extra `dask`);
    "mpi": the other ranks of `mpiexec -n N python -m mpi4py.futures -m tinymaml ...`
    (extra `mpi`).
    Raises UsageError for an address of another form, WorldError when the engine is
    missing, does not answer, or loses its scheduler or its workers.
    """
    machine.keep_freed_memory()  # every chunk's gradient arrives in this process
    found: AbstractContextManager[Engine]
    if workers == 1:
        found = nullcontext(Here())
    elif workers == "mpi":
        found = _mpi_ranks()
    elif isinstance(workers, str):
        found = _dask_workers(_address(workers.removeprefix("dask:")))
    else:
        found = _processes(workers)
    with found as pool:
        yield pool


@contextmanager
def _processes(number: int) -> Iterator[Executor]:
    others = multiprocessing.active_children()
    # Spawned, not forked: a forked child inherits BLAS's locks in whatever state.
    context = multiprocessing.get_context("spawn")
    pool = Processes(number, context, initializer=_begin_worker)
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
        causes = 'out of memory, or a script without `if __name__ == "__main__":`?'
        raise WorldError(f"a worker process died ({causes})") from error
    except BaseException:
        pool.shutdown()
        raise
    else:
        pool.shutdown()


def _kill_workers(others: Sequence[BaseProcess]) -> None:
    for process in multiprocessing.active_children():
        if process not in others:
            process.kill()


def _address(text: str) -> str:
    """Return the address of a scheduler. Raises UsageError when it is none."""
    with suppress(ValueError):  # a port or an IPv6 address that is none
        parts = urlsplit(text)
        named = parts.scheme == "tcp" and parts.hostname and parts.port
        if named and "@" not in text and text == f"tcp://{parts.netloc}":
            return text
    raise UsageError(f"--workers dask:{text}: write dask:tcp://HOST:PORT")


@contextmanager
def _dask_workers(address: str) -> Iterator[Dask]:
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise WorldError("Dask needs: pip install 'tinymaml[dask]'") from error
    for name in LOGGERS:  # errors are reported here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    connect = partial(Client, address, timeout=f"{PATIENCE}s", set_as_default=False)
    try:
        client = _in_time(connect, 2 * PATIENCE)  # another server may keep silent
    except OSError as error:
        raise WorldError(f"no Dask scheduler at {address}: {error}") from error
    try:
        # The other workers compute the chunks of one that dies.
        yield Dask(client, address)
    except KilledWorker as error:
        died = f"the Dask workers at {address} died (out of memory?)"
        raise WorldError(died) from error
    finally:
        with suppress(Exception):  # of a connection that is lost
            client.close(timeout=POLL)


def _in_time(function: Callable, seconds: float) -> Any:
    """Return function(). Raises TimeoutError, and leaves it alone, when it takes longer."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError as error:
        raise TimeoutError(str(error) or "no answer") from error


def _mpi_ranks() -> Executor:
    try:
        from mpi4py.futures import MPIPoolExecutor
    except ImportError as error:
        raise WorldError("MPI needs: pip install 'tinymaml[mpi]'") from error
    pool = MPIPoolExecutor()
    pool.number = max(pool.num_workers, 1)
    return pool


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
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
