"""Engines: the same bits from all; a real local Dask cluster, a worker killed; MPI."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from in_workers import aligned, iterations, slow_square
from processes import digests, end, one_error, run, start, wait_for
from tinymaml.data import omniglot as prepared
from tinymaml.experiments.omniglot import Omniglot
from tinymaml.experiments.sine import Sine
from tinymaml.harness import runs
from tinymaml.harness.loop import initial_state
from tinymaml.speed.workers import engine


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


@pytest.fixture(scope="module")
def pools(cluster):
    """Two and four processes here, and Dask's two."""
    names = 2, 4, f"dask:{cluster.scheduler_address}"
    with ExitStack() as stack:
        yield [stack.enter_context(engine(name)) for name in names]


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A file as Omniglot's, of 30 drawings of noise again and again."""
    images = np.random.default_rng(0).integers(0, 256, (30, 20, 28, 28), np.uint8)
    images = np.resize(images, (prepared.CHARACTERS, *images.shape[1:]))
    rows = np.split(np.arange(prepared.CHARACTERS), (1100, 1200))
    parts = zip(prepared.PARTS["finn"], rows, strict=True)
    path = tmp_path_factory.mktemp("noise") / "omniglot.npz"
    np.savez_compressed(path, images=images, **{f"finn_{part}": at for part, at in parts})
    return str(path)


COMMON = {
    "seed": st.integers(0, 2**32),
    "tasks": st.integers(1, 9),
    "chunk": st.integers(1, 4),
    "algorithm": st.sampled_from(["maml", "fomaml", "maml-low-memory", "context"]),
    "inner_steps": st.integers(0, 2),
    "replay": st.booleans(),
}
SINES = st.builds(Sine, **COMMON, hidden=st.just((5, 4)), shots=st.integers(1, 4))
DRAWINGS = st.builds(
    Omniglot,
    **COMMON,
    ways=st.integers(2, 3),
    shots=st.integers(1, 2),
    filters=st.integers(1, 4),
    alpha=st.just(0.05),
)


@settings(max_examples=8)
@given(SINES | DRAWINGS)
def test_every_engine_gives_the_same_bits(pools, noise, config):
    """Rejects chunks cut by workers, sums in order of arrival, streams of a process."""
    if isinstance(config, Omniglot):
        config = config.with_changes({"data": noise})
    state = initial_state(config)
    # In a worker, since this process may have another kernel of BLAS.
    alone = pools[0].submit(iterations, config, state).result()
    for pool in pools:
        assert iterations(config, state, pool) == alone


def test_arrays_arrive_aligned(pools):
    """Rejects Dask's own messages, in which arrays lie at any address."""
    for pool in pools:
        pairs = [(np.ones(n, np.uint8), np.ones(1761, "float32")) for n in range(8)]
        assert all(pool.map(aligned, *zip(*pairs, strict=True)))


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
    assert straight.out.replace("one/", "two/") == told.out


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


SCHEDULER = """
import asyncio
from distributed import Nanny, Scheduler

async def main():
    async with Scheduler(port=0, dashboard=False, dashboard_address=":0") as scheduler:
        async with Nanny(scheduler.address, nthreads=1):
            print(scheduler.address, flush=True)
            await scheduler.finished()

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_scheduler_that_dies_is_one_line(tmp_path):
    """Rejects waiting for ever, a traceback of CancelledError, and Dask's own messages."""
    pytest.importorskip("distributed")
    (tmp_path / "scheduler.py").write_text(SCHEDULER)
    command = [sys.executable, tmp_path / "scheduler.py"]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **how) as scheduler:
        try:
            address = scheduler.stdout.readline().strip()
            options = [
                "--iterations",
                "100000000",
                "--checkpoint-every",
                "2",
                "--out",
                "run",
            ]
            arguments = [*ARGUMENTS, *options, "--workers", f"dask:{address}"]
            process = start(*arguments, cwd=tmp_path)
            wait_for((tmp_path / "run" / runs.PREVIOUS).exists)
        finally:
            scheduler.kill()
    told = end(process)
    lost = f"the connection to the Dask scheduler at {address} was lost"
    assert (told.code, one_error(told)) == (1, f"Error: {lost}")
    assert len(told.err.splitlines()) == 2  # the run folder, and the error
    assert run("evaluate", "run", cwd=tmp_path).code == 0


def test_no_scheduler_is_one_line(tmp_path):
    """Rejects a traceback where no scheduler answers, or where Dask is not installed."""
    told = run(*ARGUMENTS, "--workers", "dask:tcp://127.0.0.1:9", cwd=tmp_path)
    assert told.code == 1
    errors = [line for line in told.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "Dask" in errors[0]
    assert "Traceback" not in told.err
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "runs").exists()


def test_ranks_of_mpi_give_the_same_bytes(tmp_path):
    """Rejects an MPI engine that computes other chunks, or on one rank's environment."""
    pytest.importorskip("mpi4py")
    if shutil.which("mpiexec") is None:
        pytest.skip("no mpiexec")
    straight = run(*ARGUMENTS, "--out", "one", cwd=tmp_path)
    assert straight.code == 0
    command = ["mpiexec", "-n", "3", sys.executable, "-m", "mpi4py.futures"]
    # Open MPI asks for these; others ignore them.
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    allowed |= {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    allowed |= {"OMPI_MCA_rmaps_base_oversubscribe": "1"}
    subprocess.run(
        [*command, "-m", "tinymaml", *ARGUMENTS, "--out", "two", "--workers", "mpi"],
        cwd=tmp_path,
        env={**os.environ, **allowed},
        check=True,
        timeout=120,
    )
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
