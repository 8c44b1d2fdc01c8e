"""What is asked of the BLAS, and what is said of it."""

import os
import subprocess
import sys

import hypothesis
import numpy as np
import pytest

from tinymaml.speed import machine


AMD = "processor : 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 {}\n"
AVX512 = " ".join(sorted(machine.AVX512_FLAGS))


def test_cpu_is_read_as_linux_writes_it(tmp_path):
    """Rejects flags of another line, and a machine without the file."""
    file = tmp_path / "cpuinfo"
    assert machine.cpu(file) == ("", frozenset())
    file.write_text(AMD.format("avx512f"))
    assert machine.cpu(file) == ("AuthenticAMD", {"fpu", "avx2", "avx512f"})


@pytest.mark.parametrize(
    ("taken", "flags", "told"),
    [
        ("Haswell", AVX512, True),
        ("Zen", AVX512, True),
        ("SkylakeX", AVX512, False),
        ("Haswell", "avx2", False),
        ("", AVX512, False),
        *(("Haswell", AVX512.replace(flag, ""), False) for flag in AVX512.split()),
        ("Haswell", "avx512f avx512bw avx512dq avx512vl", True),
        ("Haswell", "avx512f avx512bw avx512dq", False),
    ],
)
def test_advice_is_given_where_it_helps(monkeypatch, taken, flags, told):
    """Rejects advice to a CPU that cannot, and silence where half the speed is lost."""
    monkeypatch.delenv(machine.CORETYPE, raising=False)
    advice = machine.advice(taken, frozenset(flags.split()))
    assert (f"{machine.CORETYPE}=SKYLAKEX" in advice) is told


def test_environment_of_an_amd_cpu_with_avx512(monkeypatch):
    """Rejects a kernel forced on a CPU that is not known to need it."""
    monkeypatch.delenv(machine.CORETYPE, raising=False)
    for vendor, flags, kernel in (
        ("AuthenticAMD", machine.AVX512_FLAGS, "SKYLAKEX"),
        ("AuthenticAMD", {"avx2"}, None),
        ("GenuineIntel", machine.AVX512_FLAGS, None),
    ):
        cpu = machine.Cpu(vendor, frozenset(flags))
        monkeypatch.setattr(machine, "cpu", lambda cpu=cpu: cpu)
        told = machine.blas_environment()
        assert told.get(machine.CORETYPE) == kernel
        assert all(told[name] == "1" for name in machine.BLAS_THREADS)


def test_a_kernel_that_the_user_named_stands(monkeypatch):
    """Rejects our kernel in place of a named one, on the CPU that needs ours."""
    told = machine.Cpu("AuthenticAMD", frozenset(machine.AVX512_FLAGS))
    monkeypatch.setattr(machine, "cpu", lambda: told)
    monkeypatch.setenv(machine.CORETYPE, "Zen")
    assert machine.blas_environment()[machine.CORETYPE] == "Zen"


def test_what_the_user_chose_stands(monkeypatch):
    """Rejects overruling the environment of the process itself."""
    monkeypatch.setenv(machine.BLAS_THREADS[0], "2")
    monkeypatch.delenv(machine.BLAS_THREADS[1], raising=False)
    machine.prepare_blas()
    assert os.environ[machine.BLAS_THREADS[0]] == "2"
    assert os.environ[machine.BLAS_THREADS[1]] == "1"


def test_children_have_it_and_it_is_undone(monkeypatch):
    """Rejects a parent whose own environment is changed for good."""
    monkeypatch.setenv(machine.BLAS_THREADS[0], "2")
    monkeypatch.delenv(machine.BLAS_THREADS[1], raising=False)
    name = machine.BLAS_THREADS[0]
    ask = [sys.executable, "-c", f"import os; print(os.environ[{name!r}])"]
    with machine.blas_for_children():
        child = subprocess.run(ask, capture_output=True, text=True, check=True)
    assert child.stdout == "1\n"
    assert os.environ[machine.BLAS_THREADS[0]] == "2"
    assert machine.BLAS_THREADS[1] not in os.environ


def test_workers_have_the_kernel_of_their_parent(monkeypatch):
    """Rejects workers that take a better kernel than their parent: other last bits."""
    cpu = machine.Cpu("AuthenticAMD", frozenset(machine.AVX512_FLAGS))
    monkeypatch.setattr(machine, "cpu", lambda: cpu)
    monkeypatch.setattr(machine, "kernel", lambda numpy: "Haswell")
    for named in ("Zen", None):
        if named:
            monkeypatch.setenv(machine.CORETYPE, named)
        else:
            monkeypatch.delenv(machine.CORETYPE)
        with machine.blas_for_children():
            assert os.environ[machine.CORETYPE] == "Haswell"
        assert os.environ.get(machine.CORETYPE) == named


def test_no_advice_to_a_user_who_has_chosen(monkeypatch):
    """Rejects advice to set a variable that is set."""
    monkeypatch.setenv(machine.CORETYPE, "Haswell")
    assert machine.advice("Haswell", frozenset(machine.AVX512_FLAGS)) == ""


def test_kernel_is_named():
    """Rejects a name that is made up: OpenBLAS's own are single words."""
    name = machine.kernel(np)
    assert name == "" or name.isalnum()
    assert machine.versions()["kernel"] == (name or "unknown")


def test_versions_of_further_libraries():
    """Rejects a run that does not tell which simulator made it."""
    assert machine.versions(["hypothesis"])["hypothesis"] == hypothesis.__version__
    assert {*machine.versions(["hypothesis"])} - {*machine.versions()} == {"hypothesis"}


def test_the_name_of_the_cpu(tmp_path, monkeypatch):
    """Rejects an architecture for a name that is known, and nothing for one that is not."""
    file = tmp_path / "cpuinfo"
    file.write_text("model name\t: One of 4 GHz\n\nmodel name\t: Two\n")
    assert machine.cpu_model(file) == "One of 4 GHz"
    monkeypatch.setattr(machine.platform, "processor", lambda: "arm")
    assert machine.cpu_model(tmp_path / "missing") == "arm"


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    """Rejects the cores of the machine where the process is bound to some."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert machine.cores() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cores() == 1
