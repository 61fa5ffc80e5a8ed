"""Comparisons that say what is wrong, and where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


class Wrong(Exception):
    """An answer that is not right: one line for the one who wrote it."""


def same(got: Any, expected: Any, what: str, tolerance: float = 1e-9) -> None:
    """Raises Wrong unless the two agree in shape and, up to `tolerance` of the largest magnitude, in every entry."""
    if got is None:
        raise Wrong(f"{what} is None; does the function return it?")
    try:
        got = np.asarray(got, np.float64)
    except (TypeError, ValueError):
        raise Wrong(f"{what} must be numbers, got {type(got).__name__}") from None
    expected = np.asarray(expected, np.float64)
    if got.shape != expected.shape:
        raise Wrong(f"{what} has the shape {got.shape}, expected {expected.shape}")
    allowed = tolerance * max(1.0, float(np.abs(expected).max(initial=0.0)))
    off = ~(np.abs(got - expected) <= allowed)  # a NaN is off
    if off.any():
        index = tuple(int(i) for i in np.argwhere(off)[0])
        where = f"[{', '.join(map(str, index))}]" if index else ""
        total = f" ({int(off.sum())} of {off.size} entries are off)" if off.size > 1 else ""
        raise Wrong(f"{what}{where} is {got[index]:.6g}, expected {expected[index]:.6g}{total}")


def parts(found: Any, *names: str) -> list:
    """The values that a function returned, one for each name; Wrong unless they are a tuple or a list of as many."""
    if not isinstance(found, tuple | list):
        raise Wrong(f"return {len(names)} values, {' and '.join(names)}; got {type(found).__name__}")
    if len(found) != len(names):
        raise Wrong(f"return {len(names)} values, {' and '.join(names)}; got {len(found)}")
    return list(found)


def derivative(f: Callable[[np.ndarray], float], x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """The gradient of f at x (float64) by central differences, one entry after the other; like x."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = eps
        gradient[index] = (f(x + step) - f(x - step)) / (2 * eps)
    return gradient


def untouched(function: Callable[..., Any], *arrays: np.ndarray) -> Any:
    """function(*arrays), which must leave its arguments as they were. Raises Wrong otherwise."""
    before = [array.copy() for array in arrays]
    result = function(*arrays)
    for i, (array, old) in enumerate(zip(arrays, before, strict=True)):
        if not np.array_equal(array, old, equal_nan=True):
            raise Wrong(f"argument {i + 1} was changed in place; make a new array")
    return result
