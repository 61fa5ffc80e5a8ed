"""A table in an Apache Parquet file, by the package pyarrow (the extra `parquet`)."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data.columns import Column, check_names
from nanoprune.lab.data.csv_file import MOST_COLUMNS
from nanoprune.lab.storage.bounded import check_promise, first_line
from nanoprune.lab.storage.files import open_regular
from nanoprune.lab.storage.text import printable

MISSING = "a .parquet file needs the package pyarrow; install the extra: pip install 'nanoprune[parquet]'"
BYTES = 8  # of a value in memory, at least


def read_parquet(path: str | os.PathLike) -> list[Column]:
    """The columns of a .parquet file. Numbers stay numbers, text and booleans become text; columns of dates, lists and
    whatever else are unusable, and say so.

    The sizes that its footer declares are compared with the file's before anything is read. Raises DataError, naming
    the file, where it is damaged or promises too much, ArgumentError where pyarrow is not installed.
    """
    shown = printable(path)
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ArgumentError(MISSING) from error
    try:
        with open_regular(path) as file:
            table = pq.ParquetFile(file)
            _check_sizes(table.metadata, os.fstat(file.fileno()).st_size, shown)
            names = list(table.schema_arrow.names)
            named = check_names(names, shown)
            return [
                _column(pa, ours, table.read(columns=[name]), shown) for name, ours in zip(names, named, strict=True)
            ]
    except FileNotFoundError as error:
        raise DataError(f"{shown}: not found; give the path of a table, with --data for a model") from error
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{shown}: cannot be read as Parquet ({first_line(error)}); write it again") from error


def _check_sizes(about: Any, size: int, source: str) -> None:
    """DataError where the footer promises more than the file can reasonably hold."""
    if not 2 <= about.num_columns <= MOST_COLUMNS:
        raise DataError(f"{source}: has {about.num_columns:,} columns, expected 2 to {MOST_COLUMNS:,}")
    if about.num_rows < 1:
        raise DataError(f"{source}: holds no records")
    groups = (about.row_group(i) for i in range(about.num_row_groups))
    unpacked = sum(group.column(j).total_uncompressed_size for group in groups for j in range(about.num_columns))
    promised = max(unpacked, BYTES * about.num_rows * about.num_columns)
    check_promise(promised, size, source, "write fewer records")


def _column(pa: Any, name: str, table: Any, source: str) -> Column:
    """One column of the file. table: with that column alone."""
    if table.num_columns != 1:
        return Column(name, unusable="a nested type")
    values, kind = table.column(0), table.column(0).type
    types = pa.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
        if np.isinf(numbers).any():
            raise DataError(f"{source}: column {printable(name)} holds infinity; write numbers, or nothing")
        return Column(name, numbers=numbers, whole=types.is_integer(kind))
    if types.is_boolean(kind):
        values = values.cast(pa.string())
    elif not (types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind)):
        return Column(
            name, unusable="no values" if types.is_null(kind) else f"values of the type {printable(kind, 40)}"
        )
    values = values.combine_chunks()
    values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
    coded = values if types.is_dictionary(values.type) else values.dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return Column.of_text(name, codes, [str(text) for text in coded.dictionary.to_pylist()])
