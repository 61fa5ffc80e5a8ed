"""Predictions in a .csv or .csv.gz, read within bounds: in parts, each value turned into a number at once.

The first line names the columns, in any order; those that are not needed are left out.

    label                the true class, a number from 0 (also: labels, y)
    member               1/0, true/false or yes/no (also: members, is_member)
    p0, p1, ...          probabilities of the classes (also: prob_0, ...)   or
    z0, z1, ...          logits (also: logit_0, ...)                        or
    p1, p or z1, z       alone: one sigmoid, of class 1 of two
    group                optional: whose record it is, numbers or text (also: groups)
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import IO

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.storage.arrays import StoredArray
from nanoprune.lab.storage.bounded import unpacked
from nanoprune.lab.storage.files import open_regular
from nanoprune.lab.storage.rows import full_rows
from nanoprune.lab.storage.text import printable, printable_list

LABEL, MEMBER, GROUP = ("label", "labels", "y"), ("member", "members", "is_member"), ("group", "groups")
OUTPUT = re.compile(r"(?:(p|probs?|proba|probability)|(z|logits?))[ _]?(\d{0,7})")
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
FORM = "label,member,p0,p1,... (or logits z0,z1,...)"
LONGEST_GROUP = 100  # characters
LONGEST_LINE = 1 << 22  # characters: 100,000 classes with 17 digits each are less
PART = 1 << 18  # values that are held as text at a time
NUMBER_CLASSES = "number the classes from 0, in the order of the columns"


@contextlib.contextmanager
def open_csv(path: str | os.PathLike) -> Iterator[dict[str, StoredArray]]:
    """The columns as the target's arrays: target_labels, target_member, target_probs or target_logits, target_group.

    Raises DataError, naming the file, the row (from 0, below the first line) and the column, on anything else.
    """
    try:
        with open_regular(path) as file, _text(file, path) as text:
            rows = csv.reader(_lines(text, path), strict=True)
            names = [name.strip().lower() for name in next(rows, [])]
            arrays = _read(rows, names, path)
    except (csv.Error, UnicodeDecodeError, EOFError, zlib.error) as error:
        reason = printable(str(error).rstrip("."))
        raise DataError(f"{path}: {reason}; write it again, as {FORM} in UTF-8") from error
    yield {name: StoredArray(a.dtype, a.shape, a.nbytes, lambda a=a: a) for name, a in arrays.items()}


def _text(file: IO[bytes], path: str | os.PathLike) -> io.TextIOWrapper:
    """The text of the file, of a .gz unpacked within bounds."""
    packed = str(path).lower().endswith(".gz")
    return io.TextIOWrapper(unpacked(file, path) if packed else file, encoding="utf-8-sig", newline="")


def _lines(text: IO[str], path: str | os.PathLike) -> Iterator[str]:
    """The lines, none of them longer than LONGEST_LINE."""
    while line := text.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise DataError(f"{path}: a line is longer than {LONGEST_LINE:,} characters; write one row for each record")
        yield line


def _read(rows: Iterator[list[str]], names: list[str], path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The columns that are needed, as numbers."""
    label, member, group, outputs, kind = _columns(names, path)
    wanted, parts, part = [label, member, *outputs], [], []
    groups: list[int] = []
    number: dict[str, int] = {}  # of each group, by its text
    at = done = 0
    for at, row in enumerate(full_rows(rows, str(path)), 1):
        if len(row) != len(names):
            hint = "; separate the columns by commas, and write decimals with a point" if ";" in "".join(row) else ""
            raise DataError(f"{path}: row {at - 1} has {len(row)} values, the first line names {len(names)}{hint}")
        part.append([row[i] for i in wanted])
        if group is not None:
            groups.append(_group(row[group].strip(), number, f"{path}: row {at - 1}"))
        if len(part) * len(wanted) >= PART:
            parts.append(_numbers(part, done, [names[i] for i in wanted], path))
            done, part = at, []
    if part:
        parts.append(_numbers(part, done, [names[i] for i in wanted], path))
    if not parts:
        raise DataError(f"{path}: there are no rows below the first line; each row is {FORM}")
    table = np.concatenate(parts)
    arrays = {"target_labels": table[:, 0], "target_member": table[:, 1], f"target_{kind}": table[:, 2:]}
    return arrays | ({} if group is None else {"target_group": np.array(list(number))[groups]})


def _group(text: str, number: dict[str, int], row: str) -> int:
    """The number of a group in the order of their first rows."""
    if not 0 < len(text) <= LONGEST_GROUP:
        raise DataError(f"{row}: the group has {len(text):,} characters, expected 1 to {LONGEST_GROUP}")
    return number.setdefault(text, len(number))


def _columns(names: list[str], path: str | os.PathLike) -> tuple[int, int, int | None, list[int], str]:
    """Where the label, the membership, the group and the outputs are, and whether these are "probs" or "logits"."""
    found = f"found {printable_list(names)}" if any(names) else "found none"
    if any(";" in name or "\t" in name for name in names):
        raise DataError(f"{path}: the first line must be {FORM}, {found}; separate by commas, not semicolons or tabs")
    twice = (name for name, count in Counter(names).items() if count > 1)
    if double := next((name for name in twice if name in (*LABEL, *MEMBER, *GROUP) or OUTPUT.fullmatch(name)), None):
        raise DataError(f"{path}: two columns are called {double}; leave one of them out")
    places = []
    for alike in (LABEL, MEMBER):
        here = [names.index(name) for name in alike if name in names]
        if len(here) != 1:
            what = f"columns {' and '.join(names[i] for i in here)}" if here else f"no column {alike[0]}"
            raise DataError(f"{path}: {what}; the first line must name one column {alike[0]}, as {FORM}; {found}")
        places += here
    places.append(next((names.index(name) for name in GROUP if name in names), None))
    outputs = {kind: _numbered(names, kind) for kind in (1, 2)}
    if bool(outputs[1]) == bool(outputs[2]):
        what = "probabilities and logits" if outputs[1] else "neither probabilities nor logits"
        raise DataError(f"{path}: {what}; the first line must be {FORM}, {found}")
    kind = 1 if outputs[1] else 2
    return (*places, _in_order(outputs[kind], "pz"[kind - 1], path), ("probs", "logits")[kind - 1])


def _numbered(names: list[str], kind: int) -> dict[int | None, int]:
    """The place of each output by its number, None where it has none. kind: 1 probabilities, 2 logits."""
    matches = ((i, OUTPUT.fullmatch(name)) for i, name in enumerate(names))
    found = {int(match[3]) if match[3] else None: i for i, match in matches if match and match[kind]}
    if len(found) > 1:
        found.pop(None, None)  # a column of another meaning beside p0, p1, ...
    return found


def _in_order(outputs: dict[int | None, int], letter: str, path: str | os.PathLike) -> list[int]:
    """The places of the outputs, in the order of the classes; of one sigmoid its place alone."""
    if set(outputs) in ({None}, {1}):
        return list(outputs.values())
    count = len(outputs)
    if set(outputs) == {0}:
        which = f"give {letter}0,{letter}1,... of all classes, or a sigmoid, of class 1, as {letter}1"
        raise DataError(f"{path}: {letter}0 alone; {which}")
    missing = next((c for c in range(count) if c not in outputs), None)
    if missing == 0 and set(outputs) == set(range(1, count + 1)):
        raise DataError(f"{path}: {letter}1 to {letter}{count}; number columns and labels from 0")
    if missing is not None:
        raise DataError(f"{path}: column {letter}{missing} is missing of {count} outputs; give one for each class")
    return [outputs[c] for c in range(count)]


def _numbers(rows: list[list[str]], first: int, names: list[str], path: str | os.PathLike) -> np.ndarray:
    """Rows of text as float64; `first`: the number of the first of them."""
    for at, row in enumerate(rows, first):
        said = row[1].strip().lower()
        if said in YES or said in NO:
            row[1] = "1" if said in YES else "0"
        elif not _is_number(said):
            shown = f"{path}: row {at}, {names[1]}: {printable(row[1], 40)!r}"
            raise DataError(f"{shown} is none of 1/0, true/false, yes/no; write 1 for members, 0 for the others")
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError:
        at, place = next((r, c) for r, row in enumerate(rows) for c, text in enumerate(row) if not _is_number(text))
        hint = f"; {NUMBER_CLASSES}" if place == 0 else ""
        shown = f"{path}: row {first + at}, {names[place]}: {printable(rows[at][place], 40)!r}"
        raise DataError(f"{shown} is no number{hint}") from None


def _is_number(text: str) -> bool:
    try:
        np.array([text]).astype(np.float64)
    except ValueError:
        return False
    return True
