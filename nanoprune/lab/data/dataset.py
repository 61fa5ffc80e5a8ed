"""A data set: features, labels, and a hash that says which data it is."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from nanoprune.errors import DataError


@dataclass(frozen=True, eq=False)
class Dataset:
    """N labelled records, samples first: a batch is gathered as rows and transposed to samples-last by the trainer.

    x is an array; or a `Packed` file too large for memory, or a `Table` of one's own, which gather rows as an array
    does. A table has features on any scale, and NaN where there is no value. Of texts the features are tokens.

    Raises DataError on arrays of a wrong dtype or shape, no records, lengths that differ, labels out of range, features
    that are not finite numbers in [0, 1] (or tokens), and a `train` that is not in 1 .. N.
    """

    name: str  # "mnist"
    x: Any  # (N, F) or, images, (N, H, C, W); float32 in [0, 1], or of a table as it is
    y: np.ndarray  # (N,) int64 in 0 .. classes-1
    classes: int
    train: int  # the first `train` records are the official training set; N where there is no official split
    sha256: str  # of the records as they were read, before scaling, and of the labels
    class_names: tuple[str, ...] | None = None  # the labels of the classes, where the file has labels of its own
    title: str = ""  # what results call it: its name, unless the records are a copy that differs from the official ones
    groups: np.ndarray | None = None  # (N,) int64 in 0 .. G-1, every one of them used: whose record it is
    tokens: int | None = None  # where x (N, T) is texts: x holds whole numbers in 0 .. tokens-1, and 0 is padding

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.name)
        x, y = self.x, self.y
        if x.dtype != np.float32 or y.dtype != np.int64:
            raise DataError(f"{self.name}: x is {x.dtype} and y is {y.dtype}, expected float32 and int64")
        if x.ndim not in (2, 4) or x.size == 0:
            raise DataError(f"{self.name}: x has shape {x.shape}, expected (N, F) or (N, H, C, W) with N at least 1")
        if y.shape != (len(x),):
            raise DataError(f"{self.name}: {len(x)} records but labels of shape {y.shape}, expected one label a record")
        if y.min() < 0 or y.max() >= self.classes:
            raise DataError(f"{self.name}: labels from {y.min()} to {y.max()}, expected 0 to {self.classes - 1}")
        low, high = (0, 1) if self.table else (x.min(), x.max())  # a NaN makes both NaN, and every comparison false
        if self.tokens is not None:
            self._check_tokens(x, self.tokens)
        elif not (low >= 0 and high <= 1):
            raise DataError(f"{self.name}: features from {low} to {high}, expected finite numbers in [0, 1]")
        if not 1 <= self.train <= len(x):
            raise DataError(f"{self.name}: official training set of {self.train} records, expected 1 to {len(x)}")
        if self.groups is not None:
            self._check_groups(self.groups)

    def _check_tokens(self, x: Any, tokens: int) -> None:
        if x.ndim != 2 or not ((x >= 0) & (x < tokens) & (x == np.floor(x))).all():
            raise DataError(
                f"{self.name}: features of shape {x.shape} from {x.min()} to {x.max()}, expected tokens (N, T), whole "
                f"numbers from 0 to {tokens - 1}"
            )

    def _check_groups(self, groups: np.ndarray) -> None:
        if groups.dtype != np.int64 or groups.shape != self.y.shape:
            raise DataError(
                f"{self.name}: groups are {groups.dtype} of shape {groups.shape}, expected one int64 for each of the "
                f"{len(self.y)} records"
            )
        if groups.min() < 0 or groups.max() >= len(groups) or not np.bincount(groups).all():
            raise DataError(
                f"{self.name}: groups from {groups.min()} to {groups.max()}, expected 0 to the number of groups less "
                "one, each of them used"
            )

    @property
    def table(self) -> dict[str, Any] | None:
        """What the columns of a table are, plain data; None where x is no table."""
        return getattr(self.x, "about", None)

    @classmethod
    def of(
        cls,
        name: str,
        records: np.ndarray,
        labels: np.ndarray,
        classes: int,
        scale: float = 1.0,
        train: int | None = None,
        title: str = "",
        class_names: tuple[str, ...] | None = None,
        groups: np.ndarray | None = None,
        tokens: int | None = None,
    ) -> "Dataset":
        """The data set with x = records / scale; `train` None means that there is no official split.

        records: (N, F) or (N, H, C, W), any real dtype (readers pass uint8). labels: (N,), any integer dtype. groups:
        (N,) int64, part of the hash where they are there. The arrays are copied, and the copies cannot be written to,
        so that the hash stays true. Raises DataError as above.
        """
        if labels.dtype.kind not in "iu":
            raise DataError(f"{name}: labels are {labels.dtype}, expected integers")
        x = np.true_divide(records, scale, dtype=np.float32)
        y = labels.astype(np.int64)
        groups = None if groups is None else groups.copy()
        hashed = [records, y]
        for array in (x, y, groups):
            if array is not None:
                array.setflags(write=False)
        hashed += [] if groups is None else [groups]
        train = len(x) if train is None else train
        return cls(name, x, y, classes, train, arrays_sha256(*hashed), class_names, title, groups, tokens)


def arrays_sha256(*arrays: np.ndarray) -> str:
    """SHA-256, in hex, of the dtype, shape and bytes of each array in turn."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1))
    return digest.hexdigest()
