"""Checks of the types of arguments. Their values are checked where they are used."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.data import Dataset
from nanoprune.lab.experiment.recipes import Recipe
from nanoprune.lab.storage.text import printable

NUMBERS = (int, float, np.integer, np.floating)
SHADOW = "arrays (logits, labels, member) or (logits, labels, member, group)"
LARGEST = 2.0**63  # of an integer that stands for a number


def is_usual(number: Any) -> bool:
    """Whether a number fits float64 well; ranges, NaN and infinity are the concern of who uses it."""
    return isinstance(number, float) or bool(abs(number) < LARGEST)


KINDS: dict[str, Callable[[Any], bool]] = {
    "None": lambda value: value is None,
    "a number": lambda value: isinstance(value, NUMBERS) and not isinstance(value, bool) and is_usual(value),
    "an integer": lambda value: isinstance(value, Integral) and not isinstance(value, bool),
    "a list of numbers": lambda value: isinstance(value, (list, tuple)) and all(map(KINDS["a number"], value)),
    "a list of integers": lambda value: isinstance(value, (list, tuple)) and all(map(KINDS["an integer"], value)),
    "a text": lambda value: isinstance(value, str),
    "a path": lambda value: isinstance(value, (str, os.PathLike)),
    "a data set": lambda value: isinstance(value, Dataset),
    "a Recipe": lambda value: isinstance(value, Recipe),
    "a pair (X, y)": lambda value: isinstance(value, (list, tuple)) and len(value) == 2,
    SHADOW: lambda value: isinstance(value, (list, tuple)) and len(value) in (3, 4),
    "True or False": lambda value: isinstance(value, Integral),
    "audits by name": lambda value: isinstance(value, dict),
}


def expect(name: str, value: Any, *kinds: str) -> Any:
    """`value`, of one of the KINDS; numbers and lists of NumPy as Python's, lists as tuples.

    Raises ArgumentError, naming the argument, on another type.
    """
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim < 2):
        value = value.tolist()
    if not any(KINDS[kind](value) for kind in kinds):
        found = printable(reprlib.repr(value), 60)
        raise ArgumentError(f"{name} must be {' or '.join(kinds)}, got {found}")
    if isinstance(value, list):
        value = tuple(value)
    return tuple(map(plain_number, value)) if isinstance(value, tuple) else plain_number(value)


def plain_number(value: Any) -> Any:
    """A NumPy number as Python's; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value
