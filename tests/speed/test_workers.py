"""Where tasks are computed: processes that compute alike, and that do not stay behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from processes import wait_for
from tinymaml.errors import WorldError
from tinymaml.speed import machine
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


@pytest.mark.parametrize("workers", [1, 2])
def test_the_root_keeps_freed_memory(monkeypatch, workers):
    """Rejects faulting every worker's gradient in anew, which doubles the root's work."""
    called = []
    monkeypatch.setattr(machine, "keep_freed_memory", lambda: called.append(workers))
    with engine(workers):
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
