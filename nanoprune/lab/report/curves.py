"""The curves of curves.h5, read one by one, each checked before it is read."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.storage.bounded import DAMAGE, open_hdf5, stored_array

REMEDY = "run `reproduce` to write it"
MOST = 1_000_000  # values of one curve over all seeds
LARGEST = 1e100  # of a value; float32 ends at 3e38, and plots overflow beyond


class Curves:
    """A group of the file: `name in curves`, and curves[name], a group or an array, float64 with one or two axes."""

    def __init__(self, group: h5py.Group, path: str | os.PathLike) -> None:
        self.group, self.path = group, path

    def __contains__(self, name: str) -> bool:
        """Raises DataError, naming the file, where the group itself is damaged."""
        try:
            return name in self.group
        except DAMAGE as error:
            raise DataError(f"{self.path}: cannot be read; {REMEDY}") from error

    def __getitem__(self, name: str) -> Any:
        """The curve or the group of that name. Raises DataError, naming the file, where it is no curve."""
        what = f"{self.path}: {self.group.name.rstrip('/')}/{name}"
        try:
            if self.group.get(name, getclass=True) is h5py.Group:
                return Curves(self.group[name], self.path)
            item = stored_array(self.group, name, self.path, REMEDY)
            if item.dtype.kind not in "iuf" or item.ndim not in (1, 2) or not 0 < item.size <= MOST:
                raise DataError(f"{what} is {item.dtype} {item.shape}, no curve; {REMEDY}")
            values = np.asarray(item[()], dtype=float)
            if (np.abs(values[np.isfinite(values)]) > LARGEST).any():
                raise DataError(f"{what} has values beyond {LARGEST:g}; {REMEDY}")
            return values
        except DAMAGE as error:
            raise DataError(f"{what} cannot be read; {REMEDY}") from error


@contextlib.contextmanager
def open_curves(path: str | os.PathLike) -> Iterator[Curves]:
    """The curves file, open for reading; DataError where it is missing or no HDF5 file, or a curve cannot be read."""
    try:
        with open_hdf5(path, REMEDY) as file:
            yield Curves(file, path)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read as HDF5; {REMEDY}") from error
