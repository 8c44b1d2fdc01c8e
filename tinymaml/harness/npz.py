"""The .npz files of a run: vectors of parameters, whole, ours and finite, or refused."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tinymaml.errors import DAMAGE, WorldError
from tinymaml.experiments.common import Config


Array = np.ndarray

FORMAT = 1
# What an .npz of ours has besides its vectors, and more.
OVERHEAD = 2**16


def pack(config: Config, iteration: int, arrays: Mapping[str, Array]) -> bytes:
    """Return the bytes of a file without pickle; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        format=np.int64(FORMAT),
        experiment=np.str_(config.name),
        iteration=np.int64(iteration),
        **arrays,
    )
    return buffer.getvalue()


def read(
    file: Path,
    config: Config,
    count: int,
    vectors: Sequence[str],
    others: Sequence[str] = (),
) -> dict[str, Array]:
    """Return the arrays of a file by their names.

    vectors: names of the arrays (count,) in config's precision
    others: names of further arrays, which the caller checks
    Raises WorldError when it is damaged, of another format or experiment, or does not
    fit the model.
    """
    try:
        largest = OVERHEAD + len(vectors) * count * np.dtype(config.dtype).itemsize
        if file.stat().st_size > largest:
            raise ValueError("it is too large for this model")
        data = file.read_bytes()
        if not data.startswith(b"PK"):
            raise ValueError("not a tinymaml checkpoint")
        arrays = _unpacked(data)
    except DAMAGE as error:
        raise WorldError(f"{str(file)!r} is damaged: {_line(error)}") from error
    expected = {"format", "experiment", "iteration", *vectors, *others}
    if arrays.keys() != expected:
        names = ", ".join(sorted(arrays.keys() ^ expected))
        raise WorldError(f"{str(file)!r} lacks or has too many arrays: {names}")
    if str(arrays["format"]) != str(FORMAT):
        raise WorldError(f"{str(file)!r} has format {arrays['format']}, not {FORMAT}")
    if str(arrays["experiment"]) != config.name:
        raise WorldError(f"{str(file)!r} is of {arrays['experiment']}")
    for name in vectors:
        check_vector(file, name, arrays[name], config.dtype, count)
    iteration = arrays["iteration"]
    if iteration.shape != () or iteration.dtype != np.int64 or iteration < 0:
        raise WorldError(f"{str(file)!r} has iteration {iteration}")
    return arrays


def _unpacked(data: bytes) -> dict[str, Array]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = [member.file_size for member in archive.infolist()]
    if sum(sizes) > len(data):  # np.savez does not compress
        raise ValueError("it claims to be larger than it is")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def check_vector(file: Path, name: str, vector: Array, dtype: str, count: int) -> None:
    """Raise WorldError when a file's vector is not (count,), of the dtype and finite."""
    if vector.shape != (count,) or vector.dtype != dtype:
        found = f"{vector.dtype} {vector.shape}"
        raise WorldError(f"{str(file)!r}: {name} is {found}, not {dtype} ({count},)")
    if not np.isfinite(vector).all():
        raise WorldError(f"{str(file)!r}: {name} is not finite")


def _line(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    # NumPy's advice to load a pickle "unsafely" is not ours.
    return "an array of objects" if "pickle" in text.lower() else text
