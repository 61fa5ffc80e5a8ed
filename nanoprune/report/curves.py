"""The curves of curves.h5, read one by one, each looked at before it is read."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from nanoprune.bounded import stored_array
from nanoprune.errors import DataError

REMEDY = "run `reproduce` to write it"
MOST = 1_000_000  # values of one curve over all seeds


class Curves(Mapping):
    """A group of the file as a mapping: of groups and of arrays, float64 with one or two axes."""

    def __init__(self, group: h5py.Group, path: str | os.PathLike, inside: str = "") -> None:
        self.group, self.path, self.inside = group, path, inside

    def __iter__(self) -> Iterator[str]:
        return iter(self.group)

    def __len__(self) -> int:
        return len(self.group)

    def __contains__(self, name: object) -> bool:
        return name in self.group

    def __getitem__(self, name: str) -> Any:
        """The curve or the group of that name. Raises DataError, naming the file, where it is no curve."""
        try:
            if self.group.get(name, getclass=True) is h5py.Group:
                return Curves(self.group[name], self.path, f"{self.inside}{name}/")
            item = stored_array(self.group, name, self.path, REMEDY)
            if item.dtype.kind not in "iuf" or item.ndim not in (1, 2) or not 0 < item.size <= MOST:
                raise DataError(f"{self.path}: {self.inside}{name} is {item.dtype} {item.shape}, no curve; {REMEDY}")
            return np.asarray(item[()], dtype=float)
        except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:  # from h5py, on damage
            raise DataError(f"{self.path}: {self.inside}{name} cannot be read; {REMEDY}") from error


@contextlib.contextmanager
def open_curves(path: str | os.PathLike) -> Iterator[Curves]:
    """The curves file, open for reading; DataError where it is missing or no HDF5 file, or a curve cannot be read."""
    try:
        with h5py.File(path, "r") as file:
            yield Curves(file, path)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read as HDF5; {REMEDY}") from error
