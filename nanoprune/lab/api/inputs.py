"""A user's arrays in the shapes and types that networks take; checked, with errors of one line.

The wording follows scikit-learn's where there is a wording: its tools, and people who use them, look for it.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
from scipy.sparse import issparse

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data.groups import group_codes
from nanoprune.lab.storage.bounded import first_line
from nanoprune.lab.storage.text import printable

LARGEST = float(np.finfo(np.float32).max)
CHANNELS = (1, 3)  # grey and colour, which tell the axis of channels


class NotNumbers(ArgumentError, TypeError):
    """An array holds objects that are no numbers."""


def sklearn_class(module: str, name: str, base: type) -> type:
    """`base`, and scikit-learn's exception or warning of that name too where scikit-learn is in use.

    Its tools catch its own exceptions and warnings. It is not imported for this: without it nobody asks.
    """
    theirs = getattr(sys.modules.get(f"sklearn.{module}"), name, base)
    return theirs if issubclass(theirs, base) else type(name, (base, theirs), {})


def plain(values: Any, name: str) -> np.ndarray:
    """`values` as a NumPy array, from whatever can be made one: lists, DataFrames, tensors on the CPU."""
    if issparse(values):
        raise NotNumbers(f"Sparse data was passed for {name}, but dense data is required; give {name}.toarray()")
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; tensors on a GPU or with a gradient
        raise ArgumentError(
            f"{name}: cannot be made an array ({first_line(error)}); give a NumPy array, of a tensor "
            f"{name}.detach().cpu().numpy()"
        ) from error


def numbers(values: Any, name: str = "X", missing: bool = False) -> np.ndarray:
    """`values` as an array of finite numbers: float64, or float32 or uint8 where it is that. missing: NaN may stand for
    no value. Raises ArgumentError."""
    array = plain(values, name)
    if array.dtype.kind == "c":
        raise ArgumentError(f"Complex data not supported: {name} is {array.dtype}; give real numbers")
    if array.dtype.kind not in "biuf":
        try:
            array = array.astype(np.float64)
        except TypeError as error:
            raise NotNumbers(f"{name}: {first_line(error)}") from error
        except ValueError as error:
            raise ArgumentError(f"{name}: {first_line(error)}; give numbers") from error
    if array.dtype not in (np.float32, np.float64, np.uint8):
        array = array.astype(np.float64)
    unknown = np.isnan(array)
    if unknown.any() and not missing:
        raise ArgumentError(f"Input {name} contains NaN; leave such records out, or impute")
    if not (unknown | (np.abs(array) <= LARGEST)).all():
        raise ArgumentError(f"Input {name} contains infinity or a value too large for dtype('float32')")
    return array


def features(X: Any, name: str = "X", missing: bool = False) -> np.ndarray:
    """Records as (N, F) features, or as images (N, H, C, W) in [0, 1].

    X: (N, F) numbers on any scale; images (N, H, W), (N, H, W, C), (N, C, H, W) or (N, H, C, W), C 1 or 3, uint8 or in
    [0, 1]. missing: as in `numbers`. Raises ArgumentError on anything else.
    """
    array = numbers(X, name, missing)
    if array.ndim < 2:
        raise ArgumentError(
            f"Expected 2D array, got {'1D' if array.ndim else 'scalar'} array instead: {name} has shape {array.shape}. "
            "Reshape your data: array.reshape(-1, 1) of a single feature, array.reshape(1, -1) of a single sample"
        )
    if not len(array):
        raise ArgumentError(f"Found array with 0 sample(s) (shape={array.shape}) while a minimum of 1 is required.")
    if not array.size:
        raise ArgumentError(f"Found array with 0 feature(s) (shape={array.shape}) while a minimum of 1 is required.")
    return array if array.ndim == 2 else images(array, name)


def images(array: np.ndarray, name: str) -> np.ndarray:
    """Images (N, H, C, W) in [0, 1], float32 or float64."""
    array = array[:, :, None] if array.ndim == 3 else array
    axes = [axis for axis in (1, 2, 3) if array.ndim == 4 and array.shape[axis] in CHANNELS]
    if len(axes) != 1:
        why = "more than one axis" if axes else "no axis"
        raise ArgumentError(
            f"{name} has shape {array.shape}: {why} of 1 or 3 channels; expected (N, F) or (N, H, W, C)"
        )
    if array.dtype == np.uint8:
        array = array / np.float32(255)
    elif not 0 <= array.min() <= array.max() <= 1:
        low, high = array.min(), array.max()
        raise ArgumentError(f"{name} has pixels from {low:g} to {high:g}, expected uint8, or numbers in [0, 1]")
    return np.moveaxis(array, axes[0], 2)


def labels(y: Any, count: int, name: str = "y") -> np.ndarray:
    """Labels (N,) of classes: whole numbers, text, bools; `count` of them. Raises ArgumentError on anything else."""
    if y is None:
        raise ArgumentError(
            f"requires {name} to be passed, but the target {name} is None; give a label for each record"
        )
    array = plain(y, name)
    if array.ndim == 2 and array.shape[1] == 1:
        message = f"A column-vector {name} was passed when a 1d array was expected; give {name}.ravel()"
        warnings.warn(message, sklearn_class("exceptions", "DataConversionWarning", UserWarning), stacklevel=4)
        array = array[:, 0]
    if array.ndim != 1:
        hint = f"; of one-hot labels give {name}.argmax(axis=1)" if array.ndim == 2 else ""
        raise ArgumentError(f"{name} should be a 1d array, got an array of shape {array.shape} instead{hint}")
    if len(array) != count:
        raise ArgumentError(f"Found input variables with inconsistent numbers of samples: {[count, len(array)]}")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ArgumentError(f"Input {name} contains {'NaN' if np.isnan(array).any() else 'infinity'}; leave it out")
        if (array != np.floor(array)).any():
            found = array[array != np.floor(array)][0]
            raise ArgumentError(f"Unknown label type: continuous, {name} holds {found:g}; expected classes")
    elif array.dtype.kind not in "biuSUO":
        raise ArgumentError(f"Unknown label type: {name} is {array.dtype}; expected whole numbers or text")
    return array


def classes_of(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct labels in their order, and the place of each record's among them, (N,) int64."""
    try:
        classes, places = np.unique(y, return_inverse=True)
    except TypeError as error:
        raise NotNumbers(
            f"y holds labels of several types ({first_line(error)}); give text or numbers alone"
        ) from error
    if len(classes) < 2:
        raise ArgumentError(f"y has 1 class in {len(y):,} records (n_samples={len(y)}); a classifier needs at least 2")
    return classes, places.reshape(-1).astype(np.int64)


def places_of(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The place of each label among `classes`, (N,) int64. Raises ArgumentError, naming it, on another label."""
    known = {label: place for place, label in enumerate(classes.tolist())}
    found = [known.get(label, -1) for label in y.tolist()]
    if -1 in found:
        strange = printable(repr(y.tolist()[found.index(-1)]), 60)
        listed = printable(", ".join(map(repr, classes.tolist()[:10])), 200) + (", ..." if len(classes) > 10 else "")
        raise ArgumentError(f"y holds {strange}, which is none of the {len(classes):,} classes: {listed}")
    return np.array(found, np.int64)


def groups_of(group: Any, count: int) -> np.ndarray:
    """The place of each record's group among the distinct ones, (N,) int64, of `count` records."""
    array = plain(group, "group")
    array = array.astype(str) if array.dtype.kind == "O" else array
    if array.dtype.kind not in "biufSU":
        raise ArgumentError(f"group is {array.dtype}; expected whole numbers or text")
    try:
        codes = group_codes(array, "group")[1]
    except DataError as error:
        raise ArgumentError(str(error)) from error
    if len(codes) != count:
        raise ArgumentError(f"group has {len(codes)} entries for {count} records; give one each")
    return codes


def feature_names(X: Any) -> np.ndarray | None:
    """The names of the columns of a DataFrame, (F,) object, where all are text; else None."""
    columns = getattr(X, "columns", None)
    names = list(columns) if columns is not None and not callable(columns) else []
    return np.array(names, object) if names and all(isinstance(name, str) for name in names) else None
