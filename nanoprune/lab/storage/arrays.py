"""The arrays of an untrusted .npz or HDF5 file: type, shape and size are checked before values are read."""

from __future__ import annotations

import contextlib
import io
import math
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import h5py
import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.storage.bounded import first_line, open_hdf5, stored_array

HEADER = 1 << 16  # the largest header of an array, in bytes; NumPy itself reads at most 10,000


@dataclass(frozen=True, eq=False)
class StoredArray:
    """An array inside a file: its type, its shape, its stored bytes, and a function that reads its values."""

    dtype: np.dtype
    shape: tuple[int, ...]
    stored: int
    read: Callable[[], np.ndarray]


@contextlib.contextmanager
def open_npz(path: str | os.PathLike) -> Iterator[dict[str, StoredArray]]:
    """The arrays of an .npz by name; nothing is unpickled. Refused: a header that declares more than the file holds."""
    with zipfile.ZipFile(path) as archive:
        arrays = {}
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                arrays[info.filename[:-4]] = _npz_array(archive, info, path)
        yield arrays


def _npz_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str | os.PathLike) -> StoredArray:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{path}: {info.filename} is compressed otherwise; write it with numpy.savez_compressed")
    with archive.open(info) as member:
        try:
            file = io.BytesIO(member.read(HEADER))  # a longer header is cut off here
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
            start = file.tell()
        except Exception as error:  # NumPy parses the header as Python syntax and raises all kinds of errors
            raise DataError(f"{path}: {info.filename} is not an array ({first_line(error)}); write it again") from error
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind != "O" and start + size != info.file_size:
        raise DataError(
            f"{path}: {info.filename} declares {shape} of {dtype} but has {info.file_size - start} bytes of data"
        )

    def read() -> np.ndarray:
        with archive.open(info) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    stored = min(info.compress_size, os.path.getsize(path))
    return StoredArray(dtype, shape, stored, read)


@contextlib.contextmanager
def open_h5(path: str | os.PathLike, wanted: Callable[[str], bool]) -> Iterator[dict[str, StoredArray | None]]:
    """The arrays of an .h5 by name; None for names that are not `wanted`, which are not read."""
    with open_hdf5(path) as file:
        yield {name: _h5_array(file, name, path) if wanted(str(name)) else None for name in file}


def _h5_array(file: h5py.File, name: str, path: str | os.PathLike) -> StoredArray:
    item = stored_array(file, name, path)
    stored = min(item.id.get_storage_size(), os.path.getsize(path))
    return StoredArray(item.dtype, item.shape, stored, lambda: item[()])
