"""A data set of the user's own: the arrays x and y, and perhaps group and member, of an .npz or HDF5 file."""

from __future__ import annotations

import math
import os
import pathlib
from typing import Any

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.data.dataset import Dataset
from nanoprune.lab.data.groups import LARGEST, group_codes
from nanoprune.lab.data.members import checked_members, with_members
from nanoprune.lab.storage.arrays import StoredArray, open_h5, open_npz
from nanoprune.lab.storage.bounded import check_promise, first_line
from nanoprune.lab.storage.text import printable

SUFFIXES = (".npz", ".h5", ".hdf5")
MOST_CLASSES = 10_000
KINDS = {
    "x": ("biuf", "numbers"),
    "y": ("biufSU", "labels"),
    "group": ("biufSU", "numbers or text"),
    "member": ("biuf", "numbers"),
}
CHANNELS = (1, 3)  # grey and colour, which tell the axis of channels
REMEDY = "see docs/data.md"
LABEL_LENGTH = 100  # characters of one label


def is_own(name: str) -> bool:
    """Whether `name` is a file of the user's own and no built-in data set."""
    return pathlib.Path(name).suffix.lower() in SUFFIXES


def load_own(path: str | os.PathLike) -> Dataset:
    """The records of a file with two arrays, or three.

    x: (N, F) features, or images (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels; uint8, which is divided
    by 255, or numbers in [0, 1]. y: (N,) or (N, 1) labels of any type, text included; class c is the c-th of the
    distinct labels in their order, and `Dataset.class_names` keeps them. group: (N,) or (N, 1), whole numbers or text,
    equal for the records that belong to one person (`Dataset.groups`). member: (N,), 1 for a record of the training
    set, which comes first then; without it there is no official split.
    Raises DataError, naming the file and the array, on anything else. Nothing is unpickled.
    """
    shown = printable(path)
    try:
        with _opened(path) as arrays:
            x, y = (_values(arrays, name, shown) for name in ("x", "y"))
            group = _values(arrays, "group", shown) if "group" in arrays else None
            member = _values(arrays, "member", shown) if "member" in arrays else None
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(
            f"{shown}: not found; give the path of a file with the arrays x and y, with --data where a model was "
            "trained on it"
        ) from error
    except Exception as error:  # what zipfile, h5py and NumPy raise on damaged files has no common class
        raise DataError(f"{shown}: cannot be read ({first_line(error)}); write it again") from error
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if len(x) != len(y):
        raise DataError(f"{shown}: x has {len(x):,} records, y has {len(y):,} labels; give one label a record")
    class_names, y = classes_of(y, shown)
    groups = None if group is None else group_codes(group, f"{shown}: group")[1]
    if groups is not None and len(groups) != len(y):
        raise DataError(f"{shown}: group has {len(groups):,} entries for {len(y):,} records; give one each")
    x, name = _records(x, shown), printable(pathlib.Path(path).name)
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    dataset = Dataset.of(name, x, y, len(class_names), scale, class_names=class_names, groups=groups)
    return dataset if member is None else with_members(dataset, checked_members(member, len(y), shown), shown)


def classes_of(y: np.ndarray, source: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The distinct labels in their order, as text, and the place of each record's label among them, (N,) int64.

    y: (N,) numbers or text. Raises DataError, naming `source`, on labels that are no classes: other shapes, numbers
    that are not whole, a single class, too many.
    """
    if y.ndim != 1:
        hint = "; of one-hot labels give the class numbers, y.argmax(axis=1)" if y.ndim == 2 else ""
        raise DataError(f"{source}: y has shape {y.shape}, expected (N,){hint}")
    if y.dtype.kind == "f":
        whole = (y == np.floor(y)) & (np.abs(y) < LARGEST)
        if not whole.all():
            found = y[~whole][0]
            what = "a label is missing: leave such records out" if np.isnan(found) else "expected whole numbers or text"
            raise DataError(f"{source}: y holds {found}; {what}")
        y = y.astype(np.int64)
    distinct, classes = np.unique(y, return_inverse=True)
    if not 2 <= len(distinct) <= min(MOST_CLASSES, len(y) // 2):
        raise DataError(
            f"{source}: y has {len(distinct):,} distinct values among {len(y):,} records; expected labels of at least "
            "2 classes, with two records of a class on average"
        )
    texts = tuple(_text(label) for label in distinct.tolist())
    if max(map(len, texts)) > LABEL_LENGTH:
        raise DataError(f"{source}: y holds a label of {max(map(len, texts)):,} characters, at most {LABEL_LENGTH}")
    return texts, classes.reshape(-1).astype(np.int64)


def _text(label: Any) -> str:
    return printable(label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label), 4 * LABEL_LENGTH)


def _opened(path: str | os.PathLike) -> Any:
    suffix = pathlib.Path(path).suffix.lower()
    return open_npz(path) if suffix == ".npz" else open_h5(path, lambda name: name in KINDS)


def _values(arrays: dict[str, StoredArray | None], name: str, source: str) -> np.ndarray:
    """One array of the file, its type and size checked before it is read."""
    if name not in arrays:
        found = ", ".join(sorted(map(str, arrays))[:10]) or "nothing"
        raise DataError(f"{source}: {name} is missing, has {printable(found, 200)}; {REMEDY}")
    array = arrays[name]
    if array is None or array.dtype.kind not in KINDS[name][0] or not array.shape:
        what = "no array" if array is None else f"{array.dtype} of shape {array.shape}"
        raise DataError(f"{source}: {name} is {what}, expected {KINDS[name][1]}; {REMEDY}")
    check_promise(
        array.dtype.itemsize * math.prod(array.shape), array.stored, f"{source}: {name}", "write fewer records"
    )
    return array.read()


def _records(x: np.ndarray, source: str) -> np.ndarray:
    """x as (N, F), or as images (N, H, C, W). Raises DataError on other shapes."""
    if x.ndim == 3:
        x = x[:, :, None]  # grey
    elif x.ndim == 4:
        first, last = x.shape[1] in CHANNELS, x.shape[3] in CHANNELS
        if first == last:
            why = "either of two axes can be the channels" if first else "no axis has 1 or 3 channels"
            raise DataError(f"{source}: x has shape {x.shape}: {why}; expected (N, H, W, C) or (N, C, H, W)")
        x = x.transpose(0, 2, 1, 3) if first else x.transpose(0, 1, 3, 2)
    if x.ndim not in (2, 4) or not x.size:
        raise DataError(f"{source}: x has shape {x.shape}, expected (N, F) or images (N, H, W), (N, H, W, C)")
    if x.dtype != np.uint8:
        low, high = x.min(), x.max()  # a NaN anywhere makes both NaN, and every comparison with it false
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"{source}: x from {low} to {high}, expected uint8, or finite numbers in [0, 1]; scale each feature, "
                "by numbers that do not depend on who is a member"
            )
    return x
