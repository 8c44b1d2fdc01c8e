"""How this process computes: BLAS threads and memory, set before the work begins.

One BLAS thread per process: the number of threads changes the bits of a product, and
processes over chunks of tasks use the cores better than threads within a product.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
    """Ask for one thread and the CPU's best kernel. Works only before NumPy is imported.

    What the environment says already stands.
    """
    for name, value in blas_environment().items():
        os.environ.setdefault(name, value)


def blas_environment() -> dict[str, str]:
    """Return the variables that give a process one BLAS thread and the best kernel.

    A kernel that the environment names already stands.
    """
    wanted = dict.fromkeys(BLAS_THREADS, "1")
    told = cpu()
    # Some builds of OpenBLAS take an AMD CPU with AVX-512 for one without.
    if told.vendor == "AuthenticAMD" and told.flags >= AVX512_FLAGS:
        wanted[CORETYPE] = os.environ.get(CORETYPE, AVX512_KERNEL)
    return wanted


@contextmanager
def blas_for_children() -> Iterator[None]:
    """Let processes started inside have one thread, and the kernel of this one.

    Another kernel has other last bits, so results would depend on the number of workers.
    """
    wanted = blas_environment()
    if taken := kernel(sys.modules["numpy"]) if "numpy" in sys.modules else "":
        wanted[CORETYPE] = taken
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def keep_freed_memory() -> None:
    """Have malloc keep large freed blocks instead of giving them back to the system.

    Arrays of a few hundred kilobytes are otherwise mapped and faulted in anew at every
    operation, which costs more than the arithmetic. Does nothing without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD):
            mallopt(option, KEPT_BYTES >> (4 if option == M_TOP_PAD else 0))


def versions() -> dict[str, str]:
    """Return the versions of tinymaml and of what it computes with."""
    import numpy as np  # here, since the BLAS threads are chosen before

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "tinymaml": __version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "autograd": version("autograd"),
        "blas": f"{blas['name']} {blas['version']}",
        "kernel": kernel(np) or "unknown",
    }


# ----- The BLAS kernel -----

# Kernels of OpenBLAS without AVX-512, and the one that a CPU with it can have.
OLDER_KERNELS = ("Haswell", "Zen", "Sandybridge", "Nehalem")
AVX512_KERNEL = "SKYLAKEX"
AVX512_FLAGS = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}


def kernel(numpy: ModuleType) -> str:
    """Return the kernel that the OpenBLAS in NumPy's wheel took, or nothing."""
    wheel = Path(numpy.__file__).parent
    found = [*wheel.parent.glob("numpy.libs/*openblas*"), *wheel.glob(".dylibs/*openblas*")]
    for file in found:
        library = ctypes.CDLL(str(file))
        for name in ("scipy_openblas_get_corename64_", "openblas_get_corename"):
            if (ask := getattr(library, name, None)) is not None:
                ask.restype = ctypes.c_char_p
                return ask().decode()
    return ""


class Cpu(NamedTuple):
    """Who made the CPU and what it can do, in Linux's words; nothing elsewhere."""

    vendor: str
    flags: frozenset[str]


def cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Cpu:
    """Return what Linux says of the first CPU."""
    told: dict[str, str] = {}
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            told.setdefault(name.strip(), value.strip())
    return Cpu(told.get("vendor_id", ""), frozenset(told.get("flags", "").split()))


def advice(taken: str, flags: frozenset[str]) -> str:
    """Return which variable to set where the CPU can do more than the kernel, if any.

    A user who has set the variable has chosen: there is no advice.
    """
    if CORETYPE in os.environ:
        return ""
    if taken in OLDER_KERNELS and flags >= AVX512_FLAGS:
        return (
            f"this CPU has AVX-512 and OpenBLAS took its {taken} kernel:"
            f" set {CORETYPE}={AVX512_KERNEL} for about twice the speed"
        )
    return ""
