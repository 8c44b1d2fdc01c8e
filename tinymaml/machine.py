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

from tinymaml import __version__


BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")

# glibc's mallopt names (malloc.h) and the block size above which memory is given back.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
KEPT_BYTES = 1 << 30


def one_blas_thread() -> None:
    """Ask BLAS for one thread. Works only before NumPy is imported; a choice stands."""
    for name in BLAS_THREADS:
        os.environ.setdefault(name, "1")


@contextmanager
def one_blas_thread_for_children() -> Iterator[None]:
    """Let processes started inside have one BLAS thread, whatever this one has."""
    before = {name: os.environ.get(name) for name in BLAS_THREADS}
    os.environ.update(dict.fromkeys(BLAS_THREADS, "1"))
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
    }
