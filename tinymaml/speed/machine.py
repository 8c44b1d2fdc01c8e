"""The BLAS threads, BLAS kernel and memory of this process, set before the work begins.

A process has one BLAS thread. More would change the bits of a product, and processes over
chunks of tasks use the cores better.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from tinymaml import __version__


CORETYPE = "OPENBLAS_CORETYPE"
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")

# glibc's mallopt names (malloc.h) and the block size above which memory is given back.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES = 1 << 30


def prepare_blas() -> None:
    """Ask for one thread and the best kernel; keep variables that are set already.

    Has an effect only before NumPy is imported.
    """
    for name, value in blas_environment().items():
        os.environ.setdefault(name, value)


def blas_environment() -> dict[str, str]:
    """Return variables for one BLAS thread and the best kernel, unless a kernel is set."""
    wanted = dict.fromkeys(BLAS_THREADS, "1")
    vendor, flags = cpu()
    # Some builds of OpenBLAS use no AVX-512 on an AMD CPU that has it.
    if vendor == "AuthenticAMD" and flags >= AVX512_FLAGS:
        wanted[CORETYPE] = os.environ.get(CORETYPE, AVX512_KERNEL)
    return wanted


@contextmanager
def blas_for_children() -> Iterator[None]:
    """Give processes started inside one BLAS thread, and the kernel of this process.

    Another kernel gives other last bits: results would depend on the number of workers.
    """
    wanted = blas_environment()
    if taken := kernel(sys.modules["numpy"]) if "numpy" in sys.modules else "":
        wanted[CORETYPE] = taken
    before = {name: os.environ[name] for name in wanted if name in os.environ}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in wanted:
            del os.environ[name]
        os.environ.update(before)


def keep_freed_memory() -> None:
    """Make malloc keep large freed blocks; does nothing without glibc.

    Otherwise every operation maps its arrays of a few hundred kilobytes anew, and the page
    faults cost more than the arithmetic.
    """
    if sys.platform.startswith("linux") and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_TOP_PAD, KEPT_BYTES >> 4)


def versions(libraries: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of tinymaml, Python, the numerical libraries and further ones."""
    import numpy as np  # not above, since the BLAS threads are set before

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "tinymaml": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "autograd": version("autograd"),
        "blas": f"{blas['name']} {blas['version']}",
        "kernel": kernel(np) or "unknown",
        **installed(libraries),
    }


def installed(libraries: Iterable[str]) -> dict[str, str]:
    """Return the versions of those modules that can be imported."""
    found = {}
    for name in libraries:
        with suppress(ImportError):
            found[name] = import_module(name).__version__
    return found


# ----- The BLAS kernel -----

# OpenBLAS kernels without AVX-512, and the kernel for a CPU that has it.
OLDER_KERNELS = ("Haswell", "Zen", "Sandybridge", "Nehalem")
AVX512_KERNEL = "SKYLAKEX"
AVX512_FLAGS = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}


def kernel(numpy: ModuleType) -> str:
    """Return the kernel that the OpenBLAS of NumPy's wheel uses; "" if there is none."""
    wheel = Path(numpy.__path__[0])
    files = [*wheel.parent.glob("numpy.libs/*openblas*"), *wheel.glob(".dylibs/*openblas*")]
    for library in map(ctypes.CDLL, map(str, files)):
        for name in ("scipy_openblas_get_corename64_", "openblas_get_corename"):
            if (ask := getattr(library, name, None)) is not None:
                ask.restype = ctypes.c_char_p
                return ask().decode()
    return ""


class Cpu(NamedTuple):
    """The CPU's vendor and its features, with Linux's names; empty elsewhere."""

    vendor: str
    flags: frozenset[str]


CPUINFO = Path("/proc/cpuinfo")


def cpu(cpuinfo: Path = CPUINFO) -> Cpu:
    """Return what Linux reports of the first CPU."""
    first = _first_cpu(cpuinfo)
    return Cpu(first.get("vendor_id", ""), frozenset(first.get("flags", "").split()))


def cpu_model(cpuinfo: Path = CPUINFO) -> str:
    """Return the CPU's name, or its architecture where the system gives no name."""
    return _first_cpu(cpuinfo).get("model name") or platform.processor()


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _first_cpu(cpuinfo: Path) -> dict[str, str]:
    text = cpuinfo.read_text("utf-8", "replace") if cpuinfo.exists() else ""
    first: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in text.splitlines()):
        first.setdefault(name.strip(), value.strip())
    return first


def advice(taken: str, flags: frozenset[str]) -> str:
    """Return which variable would select a faster kernel; "" if none, or if it is set."""
    if CORETYPE in os.environ or taken not in OLDER_KERNELS or not flags >= AVX512_FLAGS:
        return ""
    return (
        f"this CPU has AVX-512, but OpenBLAS uses its {taken} kernel:"
        f" set {CORETYPE}={AVX512_KERNEL} for about twice the speed"
    )
