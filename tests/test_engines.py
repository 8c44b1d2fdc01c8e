"""Other engines: a real local Dask cluster, one of whose workers is killed, and MPI."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from processes import digests, run

from tinymaml.workers import engine


pytestmark = pytest.mark.filterwarnings("default")  # Dask's own are not ours to mend

ARGUMENTS = (
    *(
        "train",
        "sine",
        "--iterations",
        "60",
        "--hidden",
        "8",
        "--tasks",
        "8",
        "--chunk",
        "2",
    ),
    *("--test-tasks", "4", "--test-steps", "1"),
)


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes of one thread each, and their scheduler."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as found:
        yield found


def test_same_bytes_as_without_dask(tmp_path, cluster):
    """Rejects chunks that are summed in the order in which they arrive."""
    straight = run(*ARGUMENTS, "--out", "one", cwd=tmp_path)
    told = run(
        *ARGUMENTS,
        "--out",
        "two",
        "--workers",
        f"dask:{cluster.scheduler_address}",
        cwd=tmp_path,
    )
    assert (straight.code, told.code) == (0, 0), told
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert straight.out == told.out


def slow_square(x: int) -> int:
    """Take a while, so that a worker dies in the middle."""
    time.sleep(0.2)
    return x * x


def test_a_killed_worker_is_survived(cluster):
    """Rejects a run that hangs, or loses a chunk, when a worker process is killed."""
    with engine(f"dask:{cluster.scheduler_address}") as pool:
        victim = pool.submit(os.getpid).result()
        killer = threading.Timer(0.5, os.kill, (victim, signal.SIGKILL))
        killer.start()
        assert [*pool.map(slow_square, range(12))] == [x * x for x in range(12)]
        killer.join()


def test_a_full_disk_is_not_taken_for_a_lost_scheduler(cluster):
    """Rejects every OSError of a run told as the engine's."""
    with (
        pytest.raises(OSError, match="No space left") as told,
        engine(f"dask:{cluster.scheduler_address}"),
    ):
        raise OSError(28, "No space left on device")
    assert told.value.errno == 28


def test_no_scheduler_is_one_line(tmp_path):
    """Rejects a traceback where no scheduler answers, or where Dask is not installed."""
    told = run(*ARGUMENTS, "--workers", "dask:tcp://127.0.0.1:9", cwd=tmp_path)
    assert told.code == 1
    errors = [line for line in told.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "Dask" in errors[0]
    assert "Traceback" not in told.err


def test_ranks_of_mpi_give_the_same_bytes(tmp_path):
    """Rejects an MPI engine that computes other chunks, or on one rank's environment."""
    pytest.importorskip("mpi4py")
    if shutil.which("mpiexec") is None:
        pytest.skip("no mpiexec")
    straight = run(*ARGUMENTS, "--out", "one", cwd=tmp_path)
    assert straight.code == 0
    command = [
        "mpiexec",
        "--oversubscribe",
        "-n",
        "3",
        sys.executable,
        "-m",
        "mpi4py.futures",
    ]
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    subprocess.run(
        [*command, "-m", "tinymaml", *ARGUMENTS, "--out", "two", "--workers", "mpi"],
        cwd=tmp_path,
        env={**os.environ, **allowed},
        check=True,
        timeout=120,
    )
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
