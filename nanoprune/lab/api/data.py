"""Data sets for the Python interface: by name, from a file, from arrays."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.api.arguments import expect
from nanoprune.lab.api.inputs import classes_of, feature_names, features, groups_of, labels
from nanoprune.lab.data import Dataset as Records
from nanoprune.lab.data import load as load_records
from nanoprune.lab.data.columns import NUMBER_KIND
from nanoprune.lab.data.dataset import arrays_sha256
from nanoprune.lab.data.table import Table
from nanoprune.lab.models.steps import MOST_COLUMNS
from nanoprune.lab.storage.text import printable

LONGEST = 100  # characters of a label that are kept
LABEL = "label"


class Dataset(Records):
    """Labelled records of your own, from arrays.

    x: (N, F) features on any scale; or images (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, uint8 or in
    [0, 1]. Features that are not all in [0, 1] are standardised inside of the network, by its members alone. y: (N,)
    labels, whole numbers or text. group: (N,) whose record each is, numbers or text; all records of one group are on
    one side of every split, and audits count groups. name: what results and model files call it.
    Attributes: `x` float32, (N, F) or (N, H, C, W), indexed like an array; `y` (N,) int64, places in `labels`, the
    distinct labels in their order; `classes`, their number. Raises ArgumentError on anything else.
    """

    labels: np.ndarray

    def __init__(self, x: Any, y: Any, *, group: Any = None, name: str = "arrays") -> None:
        records = features(x, "x")
        groups = None if group is None else groups_of(group, len(records))
        self._fill(name, records, *classes_of(labels(y, len(records))), feature_names(x), groups)

    @classmethod
    def of_places(
        cls, records: np.ndarray, distinct: np.ndarray, places: np.ndarray, columns: np.ndarray | None
    ) -> Dataset:
        """The data set of records (N, F) or (N, H, C, W), the distinct labels, the place of each record's (N,), and the
        names of the columns, where they have names."""
        made = cls.__new__(cls)
        made._fill("arrays", records, distinct, places, columns, None)
        return made

    @classmethod
    def of_read(cls, found: Records) -> Dataset:
        """A data set that was read. Its labels are numbers where the names of all classes are whole numbers."""
        if isinstance(found, cls):
            return found
        made = cls.__new__(cls)
        Records.__init__(made, **{field.name: getattr(found, field.name) for field in dataclasses.fields(found)})
        object.__setattr__(made, "labels", from_names(found.class_names, found.classes))
        return made

    def _fill(
        self,
        name: str,
        records: np.ndarray,
        distinct: np.ndarray,
        places: np.ndarray,
        columns: np.ndarray | None,
        groups: np.ndarray | None,
    ) -> None:
        x = records.astype(np.float32)
        others = [places] if groups is None else [places, groups]
        for array in (x, *others):
            array.setflags(write=False)
        table = None if x.min() >= 0 and x.max() <= 1 else table_of(x, columns)
        sha256 = arrays_sha256(x, *others) if table is None else table.sha256(places, groups)
        names = tuple(printable(label, LONGEST) for label in distinct.tolist())
        of = x if table is None else table
        super().__init__(printable(name), of, places, len(distinct), len(x), sha256, names, groups=groups)
        object.__setattr__(self, "labels", distinct)


def table_of(x: np.ndarray, columns: np.ndarray | None) -> Table:
    """Features x (N, F) as a table of numbers, which the network standardises."""
    count, F = x.shape
    if F >= MOST_COLUMNS:
        raise ArgumentError(
            f"x has {F:,} features, at most {MOST_COLUMNS - 1:,} are standardised; scale them to [0, 1]"
        )
    names = [f"x{i}" for i in range(F)] if columns is None else list(columns)
    described: list[dict[str, Any]] = [{"name": name, "kind": NUMBER_KIND, "missing": False} for name in names]
    described.append({"name": LABEL, "kind": LABEL})
    about = {"label": LABEL, "group": None, "categorical": [], "drop": [], "columns": described}
    return Table(x, np.empty((count, 0), np.int32), np.empty(0, np.int64), about)


def from_names(names: Any, classes: int) -> np.ndarray:
    """Labels from the names of classes as a file keeps them; 0, 1, ... where it has none."""
    if names is None:
        return np.arange(classes)
    try:
        whole = np.array([int(name) for name in names], np.int64)
        return whole if [str(n) for n in whole] == list(names) else np.array(names)
    except (ValueError, OverflowError):
        return np.array(names)


def load(
    name: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    label: str | None = None,
    group: str | None = None,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> Dataset:
    """A data set by its name, such as "digits", which is embedded; or a file of your own (docs/data.md).

    name: "digits", "mnist", "location30", ...; or the path of an .npz or HDF5 file with arrays x and y, or of a table,
    .csv or .parquet. data_dir: the folder that holds a folder for each built-in data set; by default $NANOPRUNE_DATA.
    Of a table: label, the column of the classes; group, the column that says whose a record is; categorical, columns of
    numbers that are categories; drop, columns to leave out.
    Raises ArgumentError on another name, DataError where a file is missing, damaged or not what it should be.
    """
    expect("name", name, "a path")
    columns: dict[str, Any] = {"label": label, "group": group, "categorical": categorical, "drop": drop}
    return Dataset.of_read(load_records(os.fspath(name), data_dir, **columns))
