"""Recipes as files: JSON with every field of `Recipe`, written and read back alike."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import reprlib
import types
import typing
from typing import Any

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.experiment.recipes import Recipe
from nanoprune.lab.storage.bounded import first_line, read_json
from nanoprune.lab.storage.files import check_output, write_json
from nanoprune.lab.storage.text import printable, printable_list

REMEDY = "write one with --save-recipe and change that"
LARGEST = 10**9  # of any number in a recipe


def write_recipe(recipe: Recipe, path: str | os.PathLike, overwrite: bool = False) -> None:
    """Write a recipe as JSON, whole or not at all. Raises ArgumentError on another suffix than .json, and where the
    file is there and not to be overwritten, DataError where it cannot be written."""
    path = pathlib.Path(path)
    if path.suffix.lower() != ".json":
        raise ArgumentError(f"{path}: a recipe is written as JSON; name it .json")
    if path.exists() and not overwrite:
        raise ArgumentError(f"{path} already exists; --overwrite replaces it, another name keeps it")
    check_output(path)
    write_json(dataclasses.asdict(recipe), path)


def read_recipe(path: str | os.PathLike, base: Recipe) -> Recipe:
    """The recipe in a JSON file; fields that it does not have are those of `base`, in the records inside too.

    Raises DataError, naming the file and the field, on a field that there is not, or a value of another type or beyond
    what it may be.
    """
    return recipe_of_values(read_json(path, REMEDY), base, f"{printable(path)}: ")


def recipe_of_values(values: Any, base: Recipe, where: str) -> Recipe:
    """The same of plain data; `where` begins messages."""
    try:
        return _changed(base, values, where)
    except ArgumentError as error:  # of a dataclass that refuses a value
        raise DataError(f"{where}{first_line(error)}; {REMEDY}") from error


def _changed(record: Any, values: Any, where: str) -> Any:
    """The dataclass `record` with the fields in `values`, each checked against its annotation."""
    if not isinstance(values, dict):
        raise DataError(f"{where}{reprlib.repr(values)}, expected a record; {REMEDY}")
    hints = typing.get_type_hints(type(record))
    unknown = sorted(values.keys() - hints.keys())
    if unknown:
        raise DataError(f"{where}a recipe has no {printable_list(unknown)}, but {', '.join(hints)}; {REMEDY}")
    found = {}
    for name, value in values.items():
        now = getattr(record, name)
        if dataclasses.is_dataclass(now):
            found[name] = _changed(now, value, f"{where}{name}.")
            continue
        value = _tuples(value)
        if not _fits(value, hints[name]):
            raise DataError(
                f"{where}{name} is {printable(reprlib.repr(value))}, expected {_words(hints[name])}; {REMEDY}"
            )
        found[name] = value
    return dataclasses.replace(record, **found)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _fits(value: Any, kind: Any) -> bool:
    """Whether a plain value is of the type that an annotation names."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return any(_fits(value, one) for one in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(one, typing.get_args(kind)[0]) for one in value)
    if kind in (int, float):
        number = type(value) is int or (kind is float and type(value) is float)
        return number and abs(value) <= LARGEST
    return value is None if kind is type(None) else isinstance(value, kind)


def _words(kind: Any) -> str:
    return {int: "an integer", float: "a number", str: "a text", bool: "true or false"}.get(kind, str(kind))
