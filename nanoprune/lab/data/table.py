"""A table in the form that networks take: numbers unchanged, and one-hot features for each category.

Nothing here is fitted on any record: means and deviations are those of a network's members (`ColumnScaling`). The
categories are those that the file has; one that no member has counts as not seen there.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from nanoprune.backend import to_device, xp
from nanoprune.errors import DataError
from nanoprune.lab.data.columns import CATEGORY, NUMBER_KIND
from nanoprune.lab.data.dataset import arrays_sha256
from nanoprune.lab.storage.text import printable_list

NO_VALUE = ""  # the category of the records that have no value, the last one of a column that has such
REMEDY = "name the table that the model was trained on with --data"


class Table:
    """N records of F features, used like an array (N, F) of float32: x[index] gathers records.

    numbers (N, n) float32: the first n features, NaN where there is no value. Then come 0 or 1 for each of the columns
    `indicated` of these: whether it has no value; and for each category whether it is the record's. codes (N, c): the
    features that are 1 among the latter, one for each column of categories.
    about: what the columns are, plain data (`describe` in `table_file.py`), with which the same file is read alike.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, numbers: np.ndarray, codes: np.ndarray, indicated: np.ndarray, about: dict[str, Any]) -> None:
        self.numbers, self.codes, self.indicated, self.about = numbers, codes, indicated, about
        for array in (numbers, codes, indicated):
            array.setflags(write=False)
        self.names = feature_names(about)
        self.shape = (len(numbers), len(self.names))
        self._device: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Elements in all."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes in memory: those of numbers and codes, which the gathered records are made of."""
        return self.numbers.nbytes + self.codes.nbytes

    @property
    def first_category(self) -> int:
        """How many features come before those of the categories."""
        return self.numbers.shape[1] + len(self.indicated)

    def __getitem__(self, index: Any) -> Any:
        """The records `index` (...) as float32 (..., F), on the device that the index is on."""
        if isinstance(index, xp.ndarray) and xp is not np:
            if self._device is None:
                self._device = tuple(map(to_device, (self.numbers, self.codes, self.indicated)))
            return self._gathered(xp, index.reshape(-1), *self._device).reshape(*index.shape, self.shape[1])
        rows = np.arange(len(self))[index]  # (...); raises IndexError as an array does
        arrays = (self.numbers, self.codes, self.indicated)
        return self._gathered(np, rows.reshape(-1), *arrays).reshape(*rows.shape, self.shape[1])

    def _gathered(self, of: Any, rows: Any, numbers: Any, codes: Any, indicated: Any) -> Any:
        """The records rows (n,) by the arrays of `of`, NumPy or CuPy: (n, F)."""
        found, n = of.zeros((len(rows), self.shape[1]), np.float32), numbers.shape[1]
        found[:, :n] = numbers[rows]
        found[:, n : self.first_category] = of.isnan(found[:, indicated])
        found[of.arange(len(rows))[:, None], codes[rows]] = 1
        return found

    @property
    def column(self) -> np.ndarray:
        """For each feature the column of categories that it belongs to, counted from 0, and -1 for the others; (F,)."""
        sizes = [len(of["categories"]) for of in self.about["columns"] if of["kind"] == CATEGORY]
        return np.append(np.full(self.first_category, -1), np.repeat(np.arange(len(sizes)), sizes)).astype(np.int64)

    def spread(self) -> np.ndarray:
        """The standard deviation of each number over all records that have it, 0 for the other features; (F,)."""
        n = self.numbers.shape[1]
        return np.append(self.fitted(np.arange(len(self)))[1][:n], np.zeros(self.shape[1] - n))

    def sha256(self, y: np.ndarray, groups: np.ndarray | None) -> str:
        """SHA-256, in hex, of the values, the labels y, the groups if there are any, and what the columns are."""
        about = np.frombuffer(json.dumps(self.about, sort_keys=True).encode(), np.uint8)
        return arrays_sha256(self.numbers, self.codes, about, y, *(() if groups is None else (groups,)))

    def fitted(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What standardises the features by the records rows (n,) alone: mean and std (F,) float64.

        A number's mean and standard deviation over the records that have it. 0 and 1 of a feature of 0 and 1 stay as
        they are, mean 0 and std 1, where one of the records has a 1. Where a number is the same in all of them, or a
        feature of 0 and 1 is 0 in all, std is 0: it counts for nothing.
        """
        n, F = self.numbers.shape[1], self.shape[1]
        mean, std = np.zeros(F), np.zeros(F)
        for j in range(n):
            values = self.numbers[rows, j].astype(np.float64)
            known = values[~np.isnan(values)]
            if len(known):
                mean[j] = known.mean()
                std[j] = known.std() if known.min() < known.max() else 0.0
            for place in np.flatnonzero(self.indicated == j):
                std[n + place] = len(known) < len(values)
        std[np.unique(self.codes[rows])] = 1.0
        return mean, std


def feature_names(about: dict[str, Any]) -> list[str]:
    """The names of the F features: "age", "age: no value", "race=Asian", "race: no value"."""
    numbers = [of for of in about["columns"] if of["kind"] == NUMBER_KIND]
    found = [of["name"] for of in numbers] + [f"{of['name']}: no value" for of in numbers if of["missing"]]
    for of in about["columns"]:
        if of["kind"] == CATEGORY:
            found += [f"{of['name']}={c}" if c != NO_VALUE else f"{of['name']}: no value" for c in of["categories"]]
    return found


def number_count(x: Any) -> int | None:
    """How many of the features of x are numbers to be standardised; None where x is no table."""
    return x.numbers.shape[1] if isinstance(x, Table) else None


def check_columns(name: str, about: dict[str, Any] | None, expected: dict[str, Any] | None) -> None:
    """DataError, naming the columns, unless a table is encoded as the one that a model was trained on.

    about, expected: of the two, None for data that is no table.
    """
    if (about is None) != (expected is None):
        raise DataError(f"{name}: {'no table, ' if about is None else 'a table, '}unlike the model's data; {REMEDY}")
    if about is None or expected is None or about == expected:
        return
    ours, theirs = ({of["name"]: of for of in table["columns"]} for table in (about, expected))
    for what, names in (("lacks", theirs.keys() - ours.keys()), ("has in addition", ours.keys() - theirs.keys())):
        if names:
            raise DataError(f"{name}: {what} the columns {printable_list(sorted(names))}; {REMEDY}")
    other = sorted(column for column in ours if ours[column] != theirs[column])
    if other:
        raise DataError(f"{name}: columns of other kinds or categories: {printable_list(other)}; {REMEDY}")
    raise DataError(f"{name}: its columns are in another order, or read otherwise; {REMEDY}")
