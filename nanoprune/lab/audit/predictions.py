"""Predictions of any model, from any framework, as an audit takes them: read from .npz, .h5 or .csv(.gz), and checked.

    target_probs (n, classes) or target_logits (n, classes)    the model's outputs for n records; one column, or (n,):
                                                               the sigmoid of class 1 of two
    target_labels (n,)                                         their true classes, integers
    target_member (n,)                                         whether each was in the training set
    target_group (n,), or group                                optional: whose record it is, numbers or text
    shadow_...                                                 optional: the same of a model of the auditor's own

A .csv has the target's columns alone (`nanoprune/lab/audit/csv_file.py`).
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import softmax

from nanoprune.errors import DataError
from nanoprune.lab.audit.csv_file import open_csv
from nanoprune.lab.audit.log_space import log_odds
from nanoprune.lab.data.groups import group_codes
from nanoprune.lab.statistics.units import Units, first_mixed, units_of
from nanoprune.lab.storage.arrays import StoredArray, open_h5, open_npz
from nanoprune.lab.storage.bounded import check_promise, first_line
from nanoprune.lab.storage.files import file_sha256 as file_sha256
from nanoprune.lab.storage.text import printable

LARGEST = 2**53  # beyond it a float64 no longer tells integers apart
SUM_TOLERANCE = 0.01  # how far a row of probabilities may be from summing to 1: half precision misses it by 0.003
ROUNDED = (2, 3, 4)  # decimals to which probabilities may have been rounded
MOST_ROUNDED = 0.1  # how far rounding may move the sum of a row before it is refused
FEWEST = 4  # members, and non-members, that attacks can be fitted on; twice as many without a shadow model
MEMBER_HINT = "write 1 for members, 0 for the others"
MESSAGE = 1000  # characters of an error
MOST = 500_000_000  # values in an array, 4 GB: a file that declares more is damaged or hostile


@dataclass(frozen=True, eq=False)
class Predictions:
    """One model's predictions for n records: p (n, classes) float64, y (n,) int64, member (n,) bool.

    doubtful: given as logits, but not negative and with rows that sum to 1, as probabilities do.
    logits: (n, classes) float64 where they are known; None where probabilities are all that was given. group: (n,)
    int64, equal for the records of one person; None where each record counts on its own.
    """

    p: np.ndarray
    y: np.ndarray
    member: np.ndarray
    doubtful: bool = False
    logits: np.ndarray | None = None
    group: np.ndarray | None = None

    @property
    def classes(self) -> int:
        """The number of columns of p."""
        return self.p.shape[1]

    @functools.cached_property
    def log_odds(self) -> np.ndarray:
        """log p_c / (1 - p_c) of every class, (n, classes): from the logits where they are known, since a p of 1 in
        floating point no longer orders records."""
        return log_odds(self.p, self.logits)

    @functools.cached_property
    def units(self) -> Units:
        """What an audit counts: the records, or their groups. Raises ArgumentError where a group is on both sides."""
        return units_of(self.y, self.member, self.classes, self.group)

    def rows(self, index: np.ndarray) -> Predictions:
        """The predictions for some of the records; index (k,) integers or (n,) bool."""
        logits, group = (None if array is None else array[index] for array in (self.logits, self.group))
        return replace(self, p=self.p[index], y=self.y[index], member=self.member[index], logits=logits, group=group)


def read_predictions(path: str | os.PathLike) -> tuple[Predictions, Predictions | None]:
    """The target's predictions, and the shadow's where the file has them.

    Raises DataError, naming the file and the array, on anything that is missing, damaged, of the wrong shape or no
    probability. Nothing is ever unpickled.
    """
    readers: dict[str, Callable] = {".npz": open_npz, ".h5": _open_h5, ".hdf5": _open_h5, ".csv": open_csv}
    name = pathlib.Path(path)
    suffix = ".csv" if name.name.lower().endswith(".csv.gz") else name.suffix.lower()
    if suffix not in readers:
        raise DataError(f"{path}: predictions must be .npz, .h5, .csv or .csv.gz, got {suffix or 'no suffix'}")
    try:
        with readers[suffix](path) as arrays:
            target = _predictions(arrays, "target", path)
            has_shadow = any(str(name).startswith("shadow_") for name in arrays)
            shadow = _predictions(arrays, "shadow", path) if has_shadow else None
            target, shadow = (
                P and _with_groups(P, arrays, of, path) for P, of in ((target, "target"), (shadow, "shadow"))
            )
    except DataError as error:
        raise DataError(printable(error, MESSAGE)) from error  # names of arrays are in it, which are the file's
    except FileNotFoundError as error:
        raise DataError(f"{path}: not found; name a file of predictions") from error
    except Exception as error:  # what zipfile, h5py and NumPy raise on damaged files has no common class
        raise DataError(f"{path}: cannot be read ({first_line(error)}); write it again") from error
    check_pair(target, shadow, path)
    return target, shadow


def predictions_of(arrays: Mapping[str, np.ndarray], source: str) -> Predictions:
    """The predictions of arrays in memory, by the names that the target's have in a file, and checked as those are."""
    stored = in_memory(arrays)
    return _with_groups(_predictions(stored, "target", source), stored, "target", source)


def in_memory(arrays: Mapping[str, np.ndarray]) -> dict[str, StoredArray]:
    """Arrays as those of a file."""
    return {name: StoredArray(a.dtype, a.shape, max(a.nbytes, 8 * a.size), lambda a=a: a) for name, a in arrays.items()}


def check_pair(target: Predictions, shadow: Predictions | None, path: str | os.PathLike) -> None:
    """DataError, naming `path`, where there are too few records, or the shadow is not one of the target."""
    _check_counts(target, "target", FEWEST if shadow else 2 * FEWEST, path)
    if shadow is not None:
        _check_counts(shadow, "shadow", FEWEST, path)
        _check_shadow(target, shadow, path)


def _predictions(arrays: Mapping[str, Any], of: str, path: str | os.PathLike) -> Predictions:
    """Read and check the three arrays of `of`, target or shadow."""
    if "theta" in arrays and f"{of}_labels" not in arrays:
        raise DataError(f"{path}: a model, not predictions; use `attack`")
    given = [name for name in (f"{of}_probs", f"{of}_logits") if name in arrays]
    if len(given) != 1:
        found = " and ".join(given) or f"only {', '.join(sorted(map(str, arrays))) or 'nothing'}"
        raise DataError(f"{path}: needs one of {of}_probs and {of}_logits, has {found}")
    for name in (f"{of}_labels", f"{of}_member"):
        if name not in arrays:
            raise DataError(f"{path}: {name} is missing, has {', '.join(sorted(map(str, arrays)))}")
    values = _array(arrays, given[0], path, (1, 2), "iuf")
    y = _integers(_array(arrays, f"{of}_labels", path, (1,), "iuf"), f"{path}: {of}_labels")
    member = _integers(_array(arrays, f"{of}_member", path, (1,), "biuf"), f"{path}: {of}_member")
    for name, array in ((f"{of}_labels", y), (f"{of}_member", member)):
        if len(array) != len(values):
            raise DataError(
                f"{path}: {name} has {len(array)} entries, {given[0]} has {len(values)} rows; give one each"
            )
    if not np.isin(member, (0, 1)).all():
        raise DataError(f"{path}: {of}_member must be 0 or 1, found {member[~np.isin(member, (0, 1))][0]}")
    member = member.astype(bool)
    if values.ndim == 1:
        values = _two_classes(values, y, given[0], path)
    classes = values.shape[1]
    if classes < 2:
        raise DataError(f"{path}: {given[0]} has {classes} columns, a classifier has at least 2 classes")
    if y.size and (y.min() < 0 or y.max() >= classes):
        wrong = y[(y < 0) | (y >= classes)][0]
        raise DataError(f"{path}: {of}_labels holds class {wrong}, {given[0]} has columns for 0 to {classes - 1}")
    if given[0].endswith("logits"):
        values = _finite(values, given[0], path)
        doubtful = seem_probabilities(values)
        with np.errstate(over="ignore"):  # a difference beyond the largest float is a probability of 0
            return Predictions(softmax(values, axis=1), y, member, doubtful, values)
    return Predictions(_probabilities(values, given[0], path), y, member)


def _two_classes(values: np.ndarray, y: np.ndarray, name: str, path: str | os.PathLike) -> np.ndarray:
    """The outputs of both classes (n, 2), where one sigmoid, of class 1, is given (n,)."""
    if y.size and y.max() > 1:
        raise DataError(
            f"{path}: {name} has one column, which is the sigmoid of class 1 of two, but there is a class {y.max()}; "
            "give a column for each class"
        )
    values = _finite(values, name, path)
    if name.endswith("logits"):
        return np.stack([np.zeros(len(values)), values], axis=1)
    out = (values < 0) | (values > 1)
    if out.any():
        row = np.argmax(out)
        raise DataError(
            f"{path}: {name} row {row} holds {values[row]:g}, a sigmoid's output lies between 0 and 1; logits go into "
            f"{name.split('_')[0]}_logits, and in a .csv into a column z1"
        )
    return np.stack([1 - values, values], axis=1)


def _with_groups(predictions: Predictions, arrays: Mapping[str, Any], of: str, path: str | os.PathLike) -> Predictions:
    """The predictions with their groups, where the file has them. DataError where a group is on both sides."""
    name = next((name for name in (f"{of}_group", *(["group"] if of == "target" else [])) if name in arrays), None)
    if name is None:
        return predictions
    names, codes = group_codes(_array(arrays, name, path, (1,), "biufSU"), f"{path}: {name}")
    if len(codes) != len(predictions.y):
        raise DataError(f"{path}: {name} has {len(codes)} entries for {len(predictions.y)} records; give one each")
    row = first_mixed(codes, predictions.member)
    if row is not None:
        raise DataError(
            f"{path}: group {names[codes[row]]} has members and non-members; all records of a group must be on one side"
        )
    return replace(predictions, group=codes)


def _check_counts(predictions: Predictions, of: str, fewest: int, path: str | os.PathLike) -> None:
    member, groups = predictions.units.member, "groups of " if predictions.group is not None else ""
    for kind, count in (("members", int(member.sum())), ("non-members", int((~member).sum()))):
        if count < fewest:
            raise DataError(f"{path}: {of}_member names {count} {groups}{kind}, an audit needs at least {fewest}")


def seem_probabilities(values: np.ndarray) -> bool:
    """Whether no value is negative and every row sums to 1, up to rounding; false where there are no rows."""
    with np.errstate(over="ignore", invalid="ignore"):
        sums = values.sum(axis=1, dtype=np.float64)
        return bool(len(values)) and bool((values >= 0).all() and (np.abs(sums - 1) <= _tolerance(values)).all())


def _tolerance(values: np.ndarray) -> float:
    """How far the sum of a row may be from 1: SUM_TOLERANCE, or what rounding all values to so many decimals moves it
    by, half a unit of the last decimal for each class."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = [d for d in ROUNDED if np.allclose(values, np.round(values, d), rtol=0, atol=1e-7)]
    half_units = 0.5 * values.shape[1] * 10.0 ** -rounded[0] if rounded else 0.0
    return max(SUM_TOLERANCE, min(half_units, MOST_ROUNDED)) + 1e-9


def _finite(values: np.ndarray, name: str, path: str | os.PathLike) -> np.ndarray:
    """`values` as float64; DataError where one of them is NaN or infinite."""
    with np.errstate(over="ignore"):
        values = values.astype(np.float64)
    finite = np.isfinite(values) if values.ndim == 1 else np.isfinite(values).all(axis=1)
    if not finite.all():
        raise DataError(f"{path}: {name} row {np.argmin(finite)} holds NaN or infinite values; leave such records out")
    return values


def _probabilities(values: np.ndarray, name: str, path: str | os.PathLike) -> np.ndarray:
    """Float64 rows that sum to 1, from rows that do so up to rounding."""
    values = _finite(values, name, path)
    if (values < 0).any():
        row = np.argmax((values < 0).any(axis=1))
        raise DataError(f"{path}: {name} row {row} holds {values[row].min():g}; probabilities are not negative")
    with np.errstate(over="ignore"):
        sums = values.sum(axis=1)
    off = np.abs(sums - 1) > _tolerance(values)
    if off.any():
        row = np.argmax(off)
        hint = _sum_hint(values, sums, name, "csv" in pathlib.Path(path).name.lower())
        raise DataError(f"{path}: {name} row {row} sums to {sums[row]:g}, not 1; {hint}")
    values /= sums[:, None]
    return values


def _sum_hint(values: np.ndarray, sums: np.ndarray, name: str, csv: bool) -> str:
    """What to do about rows that do not sum to 1."""
    if (np.abs(sums - 100) <= 100 * SUM_TOLERANCE).all():
        return "these are percentages: divide by 100"
    if (values <= 1).all() and (np.abs(sums - 1) <= 0.5).all():
        return "write the probabilities with more decimals, and of all classes"
    if csv:
        return "columns of logits are called z0,z1,..."
    return f"logits go into {name.split('_')[0]}_logits"


def _array(
    arrays: Mapping[str, Any], name: str, path: str | os.PathLike, axes: tuple[int, ...], kinds: str
) -> np.ndarray:
    """One array of the file, its type and number of axes checked before it is read; a single column is one axis."""
    try:
        array = arrays[name]
        dtype, shape = array.dtype, array.shape
        if dtype.kind not in kinds:
            raise DataError(f"{path}: {name} holds {dtype}, expected numbers; {_in_numbers(name)}")
        column = 1 in axes and shape is not None and len(shape) == 2 and shape[1] == 1
        if shape is None or (len(shape) not in axes and not column):
            hot = name.endswith("_labels") and shape is not None and len(shape) == 2 and shape[1] > 1
            hint = "; of one-hot labels give the class numbers, labels.argmax(axis=1)" if hot else ""
            raise DataError(f"{path}: {name} has shape {shape}, expected {axes[-1]} axes{hint}")
        if math.prod(shape) > MOST:
            raise DataError(f"{path}: {name} has shape {shape}, more than {MOST:,} values; audit a sample")
        check_promise(max(8, dtype.itemsize) * math.prod(shape), array.stored, f"{path}: {name}", "audit a sample")
        return array.read().ravel() if column else array.read()
    except DataError:
        raise
    except Exception as error:  # as in read_predictions
        raise DataError(f"{path}: {name} cannot be read ({first_line(error)}); write it as a plain array") from error


def _in_numbers(name: str) -> str:
    """What to write instead of text or objects."""
    hints = {"member": MEMBER_HINT, "labels": "number the classes from 0, in the order of the columns"}
    return hints.get(name.split("_")[-1], "convert it to floats") + "; objects are never unpickled"


def _integers(values: np.ndarray, name: str) -> np.ndarray:
    """`values` as int64; DataError where one of them is no integer."""
    whole = np.ones(len(values), bool)
    if values.dtype.kind == "f":
        values = values.astype(np.float64)  # LARGEST is infinity in float16
        whole = (values == np.floor(values)) & (np.abs(values) < LARGEST)
    elif values.dtype.kind in "iu":
        whole = (values < LARGEST) & (values > -LARGEST)
    if not whole.all():
        raise DataError(f"{name} holds {values[~whole][0]}, expected integers (below 2^53)")
    return values.astype(np.int64)


def _check_shadow(target: Predictions, shadow: Predictions, path: str | os.PathLike) -> None:
    if (shadow.group is None) != (target.group is None):
        without = "shadow" if shadow.group is None else "target"
        raise DataError(f"{path}: {without}_group is missing; give the groups of both models' records, or of neither")
    if shadow.classes != target.classes:
        raise DataError(f"{path}: shadow has {shadow.classes} classes, target {target.classes}; they must be the same")
    if np.array_equal(target.p, shadow.p) and np.array_equal(target.member, shadow.member):
        raise DataError(
            f"{path}: the shadow is the target itself: attacks would be fitted on what they score; give another's"
        )
    unseen = np.setdiff1d(target.y, shadow.y)
    if len(unseen):
        raise DataError(f"{path}: class {unseen[0]} of target_labels does not occur in shadow_labels; add such records")


def _open_h5(path: str | os.PathLike) -> contextlib.AbstractContextManager[dict[str, StoredArray | None]]:
    return open_h5(path, lambda name: name.startswith(("target_", "shadow_")) or name == "group")
