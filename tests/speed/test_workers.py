"""Where tasks are computed: processes that compute alike, and that do not stay behind."""

import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future
from pathlib import Path
from types import ModuleType

import pytest

from processes import wait_for
from tinymaml.errors import UsageError, WorldError
from tinymaml.speed import machine, workers
from tinymaml.speed.machine import BLAS_THREADS
from tinymaml.speed.workers import engine


def gone(pid: int) -> bool:
    """Return whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_one_worker_is_this_process():
    """Rejects starting a process for nothing."""
    with engine(1) as pool:
        assert pool.submit(os.getpid).result() == os.getpid()
        assert [*pool.map(divmod, (7, 9), (2, 5))] == [(3, 1), (1, 4)]


@pytest.mark.parametrize("number", [1, 2])
def test_the_root_keeps_freed_memory(monkeypatch, number):
    """Rejects faulting every worker's gradient in anew, which doubles the root's work."""
    called = []
    monkeypatch.setattr(machine, "keep_freed_memory", lambda: called.append(number))
    with engine(number):
        assert called


def test_workers_have_one_blas_thread_and_hear_no_signals(monkeypatch):
    """Rejects bits that depend on cores, and a Ctrl-C that stops workers first."""
    monkeypatch.setenv(BLAS_THREADS[0], "2")
    monkeypatch.delenv(BLAS_THREADS[1], raising=False)
    with engine(2) as pool:
        told = [*pool.map(os.getenv, BLAS_THREADS)]
        masks = [pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []) for _ in "ab"]
    assert told == ["1", "1", "1"]
    assert all({signal.SIGINT, signal.SIGTERM} <= mask.result() for mask in masks)
    assert os.environ[BLAS_THREADS[0]] == "2"
    assert BLAS_THREADS[1] not in os.environ
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_worker_that_dies_is_told():
    """Rejects waiting for ever, and BrokenProcessPool for the user."""
    with pytest.raises(WorldError, match="a worker process died"), engine(2) as pool:
        pool.submit(signal.raise_signal, signal.SIGKILL).result()
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_takes_the_others_along():
    """Rejects waiting for a worker that works on, or waits for a lock of the dead one."""
    began = time.monotonic()

    def killed() -> None:
        with engine(2) as pool:
            pool.submit(time.sleep, 60)
            pool.submit(signal.raise_signal, signal.SIGKILL).result()

    with pytest.raises(WorldError, match="a worker process died"):
        killed()
    assert time.monotonic() - began < 30
    assert not multiprocessing.active_children()


def test_only_the_pools_own_workers_are_killed():
    """Rejects killing every process that this one has started."""
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    other.start()
    try:
        with pytest.raises(WorldError, match="a worker process died"), engine(2) as pool:
            pool.submit(signal.raise_signal, signal.SIGKILL).result()
        assert multiprocessing.active_children() == [other]
    finally:
        other.kill()
        other.join()


def test_an_exception_keeps_its_type():
    """Rejects taking every failure for a dead worker."""
    with pytest.raises(ValueError, match="invalid literal"), engine(2) as pool:
        pool.submit(int, "x").result()
    assert not multiprocessing.active_children()


def test_a_second_ctrl_c_does_not_wait_for_the_tasks():
    """Rejects leaving the pool politely, after minutes."""
    began = time.monotonic()

    def interrupted() -> None:
        with engine(2) as pool:
            for _ in range(9):
                pool.submit(time.sleep, 60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - began < 30
    wait_for(lambda: not multiprocessing.active_children(), 10)


ENGINE_FOR_EVER = """
import multiprocessing, time
from tinymaml.speed.workers import engine
if __name__ == "__main__":
    with engine(2) as pool:
        pool.submit(time.sleep, 600)
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(tmp_path, number):
    """Rejects orphans that wait for work for ever."""
    script = tmp_path / "forever.py"
    script.write_text(ENGINE_FOR_EVER)
    command = [sys.executable, script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        children = [int(pid) for pid in process.stdout.readline().split()]
        process.send_signal(number)
    assert len(children) == 2
    wait_for(lambda: all(gone(pid) for pid in children), 20)


# ----- Dask, whose connection is lost -----


class Pending(Executor):
    """An executor whose calls never end, or are cancelled."""

    def __init__(self, cancelled=False):
        self.cancelled = cancelled

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        if self.cancelled:
            future.cancel()
        return future


class Client:
    """A Dask client with a connection that is lost in some way."""

    def __init__(self, status="running", answers=(), cancelled=False):
        self.status, self.answers, self.cancelled = status, [*answers], cancelled
        self.scheduler = self
        self.ncores = None

    def get_executor(self, pure):
        return Pending(self.cancelled)

    def sync(self, function, callback_timeout):
        answer = self.answers.pop(0) if self.answers else TimeoutError()
        if isinstance(answer, Exception):
            raise answer
        if answer == "status":
            self.status = "connecting"
        return answer


LOST = "the connection to the Dask scheduler at tcp://h:1 was lost"
CLIENTS = {
    "closed": (Client("closed"), LOST),
    "cancelled": (Client(cancelled=True), LOST),
    "frozen": (Client(answers=[{"w": 1}, {"w": 1}]), LOST),
    "gone": (Client(answers=[AttributeError("'NoneType' has no ncores")]), LOST),
    "lost-later": (Client(answers=[{"w": 1}, "status"]), LOST),
    "no-workers": (Client(answers=[{"w": 1}, {}, {}]), "at tcp://h:1 has no workers"),
    "restarted": (Client(answers=[{}, {"w": 1}, {}, {"w": 1}]), LOST),
}


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_lost_scheduler_is_no_reason_to_wait(monkeypatch, kind):
    """Rejects waiting for ever for a scheduler that died or does not answer, or for workers
    that do not come back; and an error for workers that do."""
    monkeypatch.setattr(workers, "POLL", 0.002)
    monkeypatch.setattr(workers, "PATIENCE", 0.004)
    client, message = CLIENTS[kind]
    with pytest.raises(WorldError, match=message):
        [*workers.Dask(client, "tcp://h:1").map(abs, [1, 2])]
    assert not client.answers


class Failing(Executor):
    """An executor whose calls end with an error."""

    def __init__(self, error):
        self.error = error

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        future.set_exception(self.error)
        return future


@pytest.mark.parametrize(
    ("error", "type_", "message"),
    [
        (ModuleNotFoundError("No module named 'tinymaml'"), WorldError, "lacks this tiny"),
        (RuntimeError("Error during deserialization of x. See"), WorldError, "of x$"),
        (WorldError("diverged"), WorldError, "^diverged$"),
        (RuntimeError("other"), RuntimeError, "^other$"),
        (ValueError("x"), ValueError, "^x$"),
    ],
)
def test_an_error_of_a_task_stays_what_it_is(error, type_, message):
    """Rejects a traceback where the workers have no tinymaml, and every error of a task
    taken for that."""
    found = workers.Dask(Client(), "tcp://h:1")
    found.executor = Failing(error)
    with pytest.raises(type_, match=message):
        [*found.map(abs, [1])]


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "127.0.0.1", "127.0.0.1:8786", "tcp://[", "tcp://h", "tcp://h:0"),
        *("tcp://h:99999", "tcp://:8786", "tcp://a@h:1", "tcp://h:1/x", "http://h:1"),
        *("tls://h:1", "tcp://::1:99", "tcp:h:1", "tcp://h:x"),
    ],
)
def test_what_is_no_address_is_a_usage_error(text):
    """Rejects a traceback after 20 s, for a text that nobody can answer at."""
    asked = re.escape(f"--workers dask:{text}: write dask:tcp://HOST:PORT")
    with pytest.raises(UsageError, match=asked), engine(f"dask:{text}"):
        pass


@pytest.mark.parametrize("text", ["tcp://h:1", "tcp://10.0.0.1:8786", "tcp://[::1]:65535"])
def test_addresses(text):
    """Rejects an address of the form that the help gives."""
    assert workers._address(text) == text


def test_what_takes_too_long_is_left_alone():
    """Rejects a connection to a server that is no scheduler and keeps silent."""
    silent = threading.Event()
    with pytest.raises(TimeoutError, match="no answer"):
        workers._in_time(silent.wait, 0.01)
    silent.set()
    assert workers._in_time(lambda: 3, 9) == 3
    with pytest.raises(OSError, match="refused"):
        workers._in_time(raising(OSError("refused")), 9)


def raising(error):
    """Return a function that raises an error."""

    def function():
        raise error

    return function


def test_dask_prints_no_traceback(monkeypatch):
    """Rejects the traceback that the event loop under Dask prints of every lost call."""
    names = "distributed", "distributed.client", "tornado.application", "asyncio"

    def refused(*_, **__):
        raise OSError("nobody answers")

    fake = ModuleType("distributed")
    fake.Client, fake.KilledWorker = refused, RuntimeError
    monkeypatch.setitem(sys.modules, "distributed", fake)
    for name in names:
        monkeypatch.setattr(logging.getLogger(name), "level", logging.ERROR)
    with pytest.raises(WorldError, match="nobody"), engine("dask:tcp://127.0.0.1:9"):
        pass
    assert {logging.getLogger(name).level for name in names} == {logging.CRITICAL}
