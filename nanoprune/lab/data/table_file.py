"""A data set of the user's own from a table: a .csv file, perhaps packed, or a .parquet file."""

from __future__ import annotations

import dataclasses
import difflib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.data.columns import CATEGORY, LEFT_OUT, NUMBER_KIND, Column, classify_column
from nanoprune.lab.data.csv_file import read_csv
from nanoprune.lab.data.dataset import Dataset
from nanoprune.lab.data.parquet import read_parquet
from nanoprune.lab.data.table import NO_VALUE, Table
from nanoprune.lab.data.user_files import classes_of
from nanoprune.lab.storage.text import printable, printable_list

TABLES = (".csv", ".csv.gz", ".csv.xz", ".parquet")
LABEL, GROUP, DROPPED = "label", "group", "left out on request"
MOST_FEATURES = 20_000


@dataclasses.dataclass(frozen=True)
class Reading:
    """How the columns of a table are to be read. label: the column of the classes; group: the column that says whose
    a record is; categorical: columns of numbers that are categories; drop: columns to leave out."""

    label: str | None = None
    group: str | None = None
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is said."""
        return self != Reading()


def is_table(name: str) -> bool:
    """Whether `name` is the path of a table."""
    return name.lower().endswith(TABLES)


def load_table(path: str | os.PathLike, reading: Reading) -> Dataset:
    """The records of the table `path`, see `dataset_of`. Raises DataError, naming the file and the column."""
    columns = read_parquet(path) if str(path).lower().endswith(".parquet") else read_csv(path)
    return dataset_of(columns, reading, printable(pathlib.Path(path).name), printable(path))


def dataset_of(
    columns: Sequence[Column],
    reading: Reading,
    name: str,
    source: str,
    train: int | None = None,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """The data set of a table's columns: x a `Table`, y the classes of the label column, groups those of the group
    column.

    Which columns are numbers, categories or left out: see `classify_column`. train: records of the official training
    set, the first ones. classes: the labels in their order, where it is not that of the texts. Raises DataError, naming
    `source` and the column, on a column that there is not, a label or group that is missing, labels that are no
    classes, and a table without features.
    """
    by_name = {column.name: column for column in columns}
    if reading.label is None:
        raise DataError(f"{source}: which column has the classes? say it with --label; {_there(by_name)}")
    for what, names in dataclasses.asdict(reading).items():
        for column in (names,) if isinstance(names, str) else names or ():
            if column not in by_name:
                near = difflib.get_close_matches(column, by_name, n=3)
                hint = f"did you mean {' or '.join(map(printable, near))}?" if near else _there(by_name)
                raise DataError(f"{source}: has no column {printable(column, 60)} ({what}); {hint}")
    if reading.group == reading.label:
        raise DataError(f"{source}: column {printable(reading.label)} is both label and group; name two")
    class_names, y = _classes(by_name[reading.label], source, classes)
    groups = None if reading.group is None else _groups(by_name[reading.group], source)
    x = _features(columns, reading, source)
    y.setflags(write=False)
    train = len(y) if train is None else train
    return Dataset(name, x, y, len(class_names), train, x.sha256(y, groups), class_names, groups=groups)


def reading_of(about: dict[str, Any]) -> Reading:
    """How a table was read whose description is `about`, so that it is read again alike."""
    return Reading(about["label"], about["group"], tuple(about["categorical"]), tuple(about["drop"]))


def _there(names: Any) -> str:
    return f"there are {printable_list(names, 20)}"


def _classes(column: Column, source: str, classes: Sequence[str] | None) -> tuple[tuple[str, ...], np.ndarray]:
    """`classes_of` for a label column: whole numbers in their order, texts in that of `classes`, or else in theirs."""
    if column.unusable:
        raise DataError(f"{source}: the label {printable(column.name)} has {column.unusable}; expected classes")
    if missing := column.missing():
        raise DataError(f"{source}: {missing:,} records have no {printable(column.name)}, the label; leave them out")
    what, numbers = f"{source}: label {printable(column.name)}", column.as_numbers()
    if classes is None and numbers is not None:
        return classes_of(numbers[0], what)
    codes, texts = column.as_text()
    if classes is None:
        return classes_of(np.array(texts)[codes], what)
    place = np.array([list(classes).index(text) for text in texts])
    return tuple(classes), place[codes].astype(np.int64)


def _groups(column: Column, source: str) -> np.ndarray:
    """(N,) int64 in 0 .. G-1, the place of each record's group in the order of `Column.as_text`."""
    if column.unusable or column.missing():
        why = column.unusable or f"no value in {column.missing():,} records"
        raise DataError(f"{source}: the group {printable(column.name)} has {why}; say whose every record is")
    groups = column.as_text()[0].astype(np.int64)
    groups.setflags(write=False)
    return groups


def _features(columns: Sequence[Column], reading: Reading, source: str) -> Table:
    """The columns that are neither label nor group, and the description of all."""
    numbers, indicated, coded, described = [], [], [], []
    for column in columns:
        special = {reading.label: LABEL, reading.group: GROUP}.get(column.name)
        if special:
            described.append({"name": column.name, "kind": special})
            continue
        if column.name in reading.drop:
            described.append({"name": column.name, "kind": LEFT_OUT, "why": DROPPED})
            continue
        found = classify_column(column, column.name in reading.categorical, source)
        entry: dict[str, Any] = {"name": column.name, "kind": found.kind}
        if found.kind == NUMBER_KIND:
            if entry.setdefault("missing", bool(column.missing())):
                indicated.append(len(numbers))
            numbers.append(column.as_numbers()[0].astype(np.float32))
        elif found.kind == CATEGORY:
            codes, texts = column.as_text()
            entry["categories"] = texts + [NO_VALUE] * bool(column.missing())
            coded.append(np.where(codes < 0, len(texts), codes))
        else:
            entry["why"] = found.why
        described.append(entry)
    if not numbers and not coded:
        raise DataError(f"{source}: no column is left for features; see `data describe`")
    count = len(columns[0].codes if columns[0].numbers is None else columns[0].numbers)
    about = {
        "label": reading.label,
        "group": reading.group,
        "categorical": list(reading.categorical),
        "drop": list(reading.drop),
        "columns": described,
    }
    return Table(
        np.stack(numbers, axis=1) if numbers else np.empty((count, 0), np.float32),
        _places(coded, described, len(numbers) + len(indicated), source) if coded else np.empty((count, 0), np.int32),
        np.array(indicated, np.int64),
        about,
    )


def _places(coded: list[np.ndarray], described: list[dict[str, Any]], first: int, source: str) -> np.ndarray:
    """The features of the categories (N, c) int32, the first of which is feature number `first`."""
    sizes = {of["name"]: len(of["categories"]) for of in described if of["kind"] == CATEGORY}
    if first + sum(sizes.values()) > MOST_FEATURES:
        largest = sorted(sizes, key=sizes.get, reverse=True)
        raise DataError(
            f"{source}: {first + sum(sizes.values()):,} features, at most {MOST_FEATURES:,} are taken; drop columns of "
            f"many categories: {printable_list(largest)}"
        )
    starts = first + np.cumsum([0, *sizes.values()])[:-1]
    return np.stack([codes + start for codes, start in zip(coded, starts, strict=True)], axis=1).astype(np.int32)
