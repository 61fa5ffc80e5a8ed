"""A table of text, a record a line and the names of the columns in the first one, read within bounds."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections import defaultdict
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.data.columns import Column, check_names
from nanoprune.lab.storage.bounded import first_line
from nanoprune.lab.storage.rows import full_rows
from nanoprune.lab.storage.text import printable
from nanoprune.lab.storage.unpack import open_unpacked

DELIMITERS = ",;\t"
BLOCK = 4096  # records that are divided into columns at once
MOST_COLUMNS = 10_000
LONGEST_LINE = 1 << 22  # characters of the first line, which is looked at for the delimiter


def read_csv(path: str | os.PathLike) -> list[Column]:
    """The columns of a .csv file, perhaps packed by gzip or xz; see `parse_csv`. Raises DataError, naming the file."""
    shown = printable(path)
    try:
        with open_unpacked(path) as file:
            return parse_csv(file, shown)
    except FileNotFoundError as error:
        raise DataError(f"{shown}: not found; give the path of a table, with --data for a model") from error
    except OSError as error:
        raise DataError(f"{shown}: cannot be read ({error.strerror or first_line(error)})") from error


def parse_csv(file: BinaryIO, source: str, names: list[str] | None = None, comment: str | None = None) -> list[Column]:
    """The columns of a table of UTF-8 text, fields divided by comma, semicolon or tab: what the first line has most of.

    names: of the columns, where the first line is a record already. comment: lines that start so are passed over.
    Each different text is kept once and a record's field is an int32, so that memory is a small multiple of the text.
    Raises DataError, naming `source` and the line, on anything else.
    """
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        first = text.readline(LONGEST_LINE)
        delimiter = max(DELIMITERS, key=first.count)
        lines = (line for line in itertools.chain([first], text) if not (comment and line.startswith(comment)))
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
        names = next(reader, []) if names is None else names
        if not 2 <= len(names) <= MOST_COLUMNS:
            raise DataError(
                f"{source}: the first line has {len(names):,} fields, expected the names of 2 to {MOST_COLUMNS:,} "
                "columns"
            )
        return _columns(reader, check_names(names, source), source)
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not UTF-8 text; save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{source}: line {reader.line_num}: {first_line(error)}; write it again") from error
    finally:
        text.detach()  # the file is its opener's


def _columns(reader: Iterator[list[str]], names: list[str], source: str) -> list[Column]:
    width = len(names)
    found: list[defaultdict] = [defaultdict() for _ in names]  # text -> its code, in the order of appearance
    for texts in found:
        texts.default_factory = texts.__len__
    codes: list[list[np.ndarray]] = [[] for _ in names]
    for rows in _blocks(reader, width, source):
        for texts, of, cells in zip(found, codes, zip(*rows, strict=True), strict=True):
            of.append(np.fromiter(map(texts.__getitem__, cells), np.int32, len(rows)))
    if not codes[0]:
        raise DataError(f"{source}: holds no records below its first line")
    columns = []
    for j, name in enumerate(names):
        columns.append(Column.of_text(name, np.concatenate(codes[j]), list(found[j])))
        codes[j], found[j].default_factory = [], None  # which referred to its own dictionary
        found[j].clear()
    return columns


def _blocks(reader: Iterator[list[str]], width: int, source: str) -> Iterator[list[list[str]]]:
    """BLOCK records at a time, each with `width` fields; empty lines are passed over."""
    rows: list[list[str]] = []
    for row in full_rows(reader, source):
        if len(row) != width:
            raise DataError(
                f"{source}: line {reader.line_num} has {len(row):,} fields, the first one names {width:,} columns"
            )
        rows.append(row)
        if len(rows) == BLOCK:
            yield rows
            rows = []
    if rows:
        yield rows
