"""Arrays in HDF5 files, dense or sparse, that are checked before memory is taken for them. docs/format.md has the form.

A dataset may promise more than the file holds: 1 KB can name a shape of 100 GB, point into another file, or unpack to
a thousand times its size. So a shape is compared with the bytes that lie in the file before anything is allocated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from nanoprune.errors import DataError
from nanoprune.files import atomic_path

COLUMNS = 1 << 16  # of a sparse array's rows: their indices are two bytes
TYPES = frozenset(map(np.dtype, ("bool", "u1", "u2", "u4", "u8", "i8", "f4", "f8")))
DEFLATE, SHUFFLE = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE
RATIO = 1032  # the most that deflate packs into a byte (zlib's technical details)


@dataclasses.dataclass(frozen=True, eq=False)
class Sparse:
    """An array of `shape` as its entries that are not zero, in rows of `columns` entries of the flat array (CSR).

    indptr (rows + 1,): entries indptr[i]:indptr[i + 1] are of row i; it is never packed in a file, so that a file has
    at least 8 bytes for each 65,536 entries that it asks for. indices (n,): their columns, ascending in a row.
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
        """The array itself. Memory of its whole size is taken here: compare `shape` with what is expected first.

        Raises ValueError where the indices are none of such an array.
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
    """The entries of `array` whose bits are not all zero: -0.0 is kept, so that it comes back with its sign."""
    flat = np.ascontiguousarray(array).ravel()
    places = np.flatnonzero(flat.view(f"u{flat.itemsize}"))  # (n,)
    columns = max(1, min(COLUMNS, flat.size))
    stops = np.arange(-(-flat.size // columns) + 1) * columns
    indices = (places % columns).astype(np.min_scalar_type(columns - 1))
    values = None if flat.dtype == bool else flat[places]
    return Sparse(array.shape, columns, np.searchsorted(places, stops).astype(np.int64), indices, values, flat.dtype)


@contextlib.contextmanager
def new_file(path: str | os.PathLike) -> Iterator[h5py.File]:
    """An HDF5 file to write to, which appears whole or not at all (`atomic_path`).

    HDF5 writes through Python's file: where its own writing fails, on a full disk, it can neither close the file nor
    say so without a RuntimeError.
    """
    with atomic_path(path) as temporary, open(temporary, "w+b") as plain, h5py.File(plain, "w") as file:
        yield file


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
    inside.create_dataset("indptr", data=array.indptr)  # not packed: 8 bytes in the file for each row, see `_read`
    for part, values in list(array.parts().items())[1:]:
        write_array(inside, part, values, **filters)


def read_array(group: h5py.Group, name: str) -> np.ndarray | Sparse:
    """What `write_array` wrote: an array, or a `Sparse` whose own arrays alone have been read.

    Memory is taken only for what lies in the file. Raises DataError, without the file's name, where there is no such
    array or the file does not hold what it promises.
    """
    item = _own(group, name)
    if isinstance(item, h5py.Dataset):
        return _read(item, name)
    if not isinstance(item, h5py.Group) or "shape" not in item.attrs or "columns" not in item.attrs:
        raise DataError(f"{name} is no array")
    shape, columns = (np.asarray(item.attrs[key]) for key in ("shape", "columns"))
    if shape.dtype != np.int64 or shape.ndim != 1 or len(shape) > 8 or columns.dtype != np.int64 or columns.ndim:
        raise DataError(f"{name}: shape and columns are {shape.dtype} {shape.shape} and {columns.dtype}")
    if (shape < 1).any() or not 1 <= columns <= COLUMNS:
        raise DataError(f"{name}: has the shape {shape.tolist()} and {columns} columns")
    indptr = _read(_own(item, "indptr"), f"{name}/indptr", 1, filters=set())
    indices = _read(_own(item, "indices"), f"{name}/indices", 1)
    values = _read(_own(item, "values"), f"{name}/values", 1) if "values" in item else None
    if indptr.dtype != np.int64 or indices.dtype.kind != "u" or len(indptr) < 2:
        raise DataError(f"{name}: indptr and indices are {indptr.dtype} and {indices.dtype}")
    if values is not None and len(values) != len(indices):
        raise DataError(f"{name}: has {len(values)} values and {len(indices)} indices")
    dtype = np.dtype(bool) if values is None else values.dtype
    return Sparse(tuple(shape.tolist()), int(columns), indptr, indices, values, dtype)


def dense(array: np.ndarray | Sparse, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """The array itself, if it is of that shape and type. Raises DataError, without the file's name, if it is not."""
    if array.shape != shape or array.dtype != dtype:
        raise DataError(f"{name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
    try:
        return array.dense() if isinstance(array, Sparse) else array
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error


def _own(group: h5py.Group, name: str) -> h5py.Dataset | h5py.Group:
    """An item of this very file: links to elsewhere are refused."""
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise DataError(f"{name} is {'missing' if link is None else 'a link'}")
    return group[name]


def _read(item: Any, name: str, axes: int | None = None, filters: Any = frozenset((DEFLATE, SHUFFLE))) -> np.ndarray:
    """The values of a dataset, if what it promises lies in the file, packed by `filters` or not at all."""
    if not isinstance(item, h5py.Dataset):
        raise DataError(f"{name} is no dataset")
    if item.shape is None or item.dtype not in TYPES or (axes is not None and item.ndim != axes):
        raise DataError(f"{name} is {item.dtype} {item.shape}, which is not expected here")
    properties = item.id.get_create_plist()
    used = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if item.is_virtual or item.external or set(used) - set(filters) or len(set(used)) < len(used):
        raise DataError(f"{name} lies elsewhere or is packed in another way than nanoprune does")
    if item.chunks and any(c > max(n, 1) for c, n in zip(item.chunks, item.shape, strict=True)):
        raise DataError(f"{name} is in chunks of {item.chunks}, larger than itself")
    stored = min(item.id.get_storage_size(), os.path.getsize(item.file.filename))
    if item.nbytes > stored * (RATIO if DEFLATE in used else 1):
        raise DataError(f"{name} asks for {item.nbytes:,} bytes, the file holds {stored:,} of it")
    return item[()]
