"""What the text of a chapter cites must be there: dotted names in backticks that begin with nanoprune, and files."""

from __future__ import annotations

import importlib
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
NAME = re.compile(r"`(nanoprune(?:\.\w+)+)`")
FILE = re.compile(r"`((?:nanoprune|tools|docs|book|data)/[\w/.-]+)`")


def check(text: str) -> None:
    """Raises LookupError for a name or a file that is cited and gone."""
    for name in NAME.findall(text):
        find(name)
    for path in FILE.findall(text):
        if not (ROOT / path).exists():
            raise LookupError(f"the text cites the file {path}, which is not there")


def find(name: str) -> object:
    """The module, function, class or method of a dotted name."""
    parts = name.split(".")
    for stop in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:stop]))
        except ModuleNotFoundError:
            continue
        try:
            for part in parts[stop:]:
                found = getattr(found, part)
            return found
        except AttributeError:
            break
    raise LookupError(f"the text cites {name}, which is not there")
