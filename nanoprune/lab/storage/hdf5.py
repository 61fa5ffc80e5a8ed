"""Arrays in HDF5 files, dense or sparse. docs/formats.md describes the format, `bounded.py` has the limits."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.storage.bounded import REMEDY, own_item, stored_array
from nanoprune.lab.storage.files import atomic_path

COLUMNS = 1 << 16  # columns of a sparse array, so that column indices take two bytes


@dataclasses.dataclass(frozen=True, eq=False)
class Sparse:
    """An array of `shape` as its nonzero entries, in rows of `columns` entries of the flat array (CSR).

    indptr (rows + 1,): entries indptr[i]:indptr[i + 1] belong to row i; it is never compressed, so that a file has at
    least 8 bytes for each 65,536 entries that it declares. indices (n,): their columns, ascending in a row.
    values (n,); None for a bool array, where all of them are True.
    """

    shape: tuple[int, ...]
    columns: int
    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray | None
    dtype: np.dtype

    def parts(self) -> dict[str, np.ndarray]:
        """Its arrays by name."""
        arrays = {"indptr": self.indptr, "indices": self.indices, "values": self.values}
        return {name: array for name, array in arrays.items() if array is not None}

    def dense(self) -> np.ndarray:
        """The dense array. It allocates the whole size: compare `shape` with what is expected first.

        Raises ValueError where the indices are not valid for this shape.
        """
        size = int(np.prod(self.shape, dtype=object))
        counts = np.diff(self.indptr)
        rows = -(-size // self.columns)
        fits = len(counts) == rows and (counts >= 0).all() and self.indptr[0] == 0
        if not (fits and self.indptr[-1] == len(self.indices)):
            raise ValueError(f"indptr is not of {rows} rows of {len(self.indices)} entries")
        places = np.repeat(np.arange(rows) * self.columns, counts) + self.indices  # (n,) in the flat array
        ascending = (np.diff(places) > 0).all() and (self.indices < self.columns).all()
        if not (ascending and (not len(places) or places[-1] < size)):
            raise ValueError("indices are not ascending, or beyond the end")
        array = np.zeros(size, self.dtype)
        array[places] = True if self.values is None else self.values
        return array.reshape(self.shape)


def sparse(array: np.ndarray) -> Sparse:
    """The entries of `array` whose bits are not all zero: -0.0 is kept, with its sign."""
    flat = np.ascontiguousarray(array).ravel()
    places = np.flatnonzero(flat.view(f"u{flat.itemsize}"))  # (n,)
    columns = max(1, min(COLUMNS, flat.size))
    stops = np.arange(-(-flat.size // columns) + 1) * columns
    indices = (places % columns).astype(np.min_scalar_type(columns - 1))
    values = None if flat.dtype == bool else flat[places]
    return Sparse(array.shape, columns, np.searchsorted(places, stops).astype(np.int64), indices, values, flat.dtype)


@contextlib.contextmanager
def new_file(path: str | os.PathLike, private: bool = False) -> Iterator[h5py.File]:
    """An HDF5 file to write to, which appears whole or not at all. private: see `atomic_path`.

    It is made in memory and written at the end. On a full disk HDF5 itself can neither close the file nor report the
    error, and through Python's file objects it crashes (h5py 3.10) or raises SystemError (Python 3.13).
    """
    whole = io.BytesIO()
    with atomic_path(path, private) as temporary:
        with h5py.File(whole, "w") as file:
            yield file
        temporary.write_bytes(whole.getvalue())


def packed(array: np.ndarray) -> np.ndarray | Sparse:
    """The array as it is, or as `Sparse` where that is smaller."""
    of = sparse(array) if array.size else None
    smaller = of is not None and sum(part.nbytes for part in of.parts().values()) < array.nbytes
    return of if smaller else array


def write_array(group: h5py.Group, name: str, array: np.ndarray | Sparse, **filters: Any) -> None:
    """Write `array` as a dataset, or a `Sparse` as a group with its arrays.

    filters: of `create_dataset`, such as compression="gzip".
    """
    if not isinstance(array, Sparse):
        group.create_dataset(name, data=array, **(filters if array.size and array.ndim else {}))
        return
    inside = group.create_group(name)
    inside.attrs["shape"], inside.attrs["columns"] = np.array(array.shape, np.int64), array.columns
    inside.create_dataset("indptr", data=array.indptr)  # not compressed: 8 bytes in the file per row
    for part, values in list(array.parts().items())[1:]:
        write_array(inside, part, values, **filters)


def write_text(group: h5py.Group, name: str, text: str) -> None:
    """Write `text`, which is not empty, as one UTF-8 string of fixed length; `stored_text` reads it."""
    group.create_dataset(name, data=np.bytes_(text.encode("utf-8")))


def read_array(group: h5py.Group, name: str, path: str | os.PathLike, remedy: str = REMEDY) -> np.ndarray | Sparse:
    """The array that `write_array` wrote, or a `Sparse`, which is not expanded.

    Memory is allocated only for stored values (`stored_array`). Raises DataError, naming `path`, where the array is
    missing or the file stores less than it declares.
    """
    what, item = f"{path}: {name}", own_item(group, name, path, remedy)
    if not isinstance(item, h5py.Group):
        return stored_array(group, name, path, remedy)[()]
    shape, columns = (_small_attribute(item, key, what, remedy) for key in ("shape", "columns"))
    if shape.ndim != 1 or columns.ndim or (shape < 1).any() or not 1 <= columns <= COLUMNS:
        raise DataError(f"{what} has the shape {shape.tolist()} and {columns} columns; {remedy}")
    names = ["indptr", "indices", *(["values"] if "values" in item else [])]
    stored = {part: stored_array(item, part, path, remedy) for part in names}
    if any(array.ndim != 1 for array in stored.values()) or stored["indptr"].chunks or not len(stored["indptr"]):
        raise DataError(f"{what} is not a sparse array: its parts must have one axis, indptr no chunks; {remedy}")
    indptr, indices, values = (stored[part][()] if part in stored else None for part in ("indptr", "indices", "values"))
    if indptr.dtype != np.int64 or indices.dtype.kind != "u" or (values is not None and len(values) != len(indices)):
        raise DataError(f"{what} has {indptr.dtype} pointers and {len(indices)} {indices.dtype} indices; {remedy}")
    dtype = np.dtype(bool) if values is None else values.dtype
    return Sparse(tuple(shape.tolist()), int(columns), indptr, indices, values, dtype)


def _small_attribute(item: h5py.Group, name: str, what: str, remedy: str) -> np.ndarray:
    """An attribute of at most eight int64. Raises DataError on any other."""
    about = item.attrs.get_id(name) if name in item.attrs else None
    if about is None or about.dtype != np.int64 or about.shape is None or len(about.shape) > 1 or sum(about.shape) > 8:
        raise DataError(f"{what}: attribute {name} is not of at most eight integers; {remedy}")
    return np.asarray(item.attrs[name])


def dense(array: np.ndarray | Sparse, shape: tuple[int, ...], dtype: Any, what: str) -> np.ndarray:
    """The dense array, if it has that shape and type. Raises DataError, naming `what`, otherwise."""
    if array.shape != shape or array.dtype != dtype:
        raise DataError(f"{what} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
    try:
        return array.dense() if isinstance(array, Sparse) else array
    except ValueError as error:
        raise DataError(f"{what}: {error}") from error
