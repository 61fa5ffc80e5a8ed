"""The rows of a text that a csv reader gives, without the empty ones."""

from __future__ import annotations

from collections.abc import Iterator

from nanoprune.errors import DataError

MOST_EMPTY = 1000  # lines: a packed file of a few kilobytes can hold millions, which take time and say nothing


def full_rows(rows: Iterator[list[str]], source: str) -> Iterator[list[str]]:
    """The rows with at least one field. Raises DataError, naming `source`, where more than MOST_EMPTY have none."""
    empty = 0
    for row in rows:
        if row:
            yield row
            continue
        empty += 1
        if empty > MOST_EMPTY:
            raise DataError(f"{source}: more than {MOST_EMPTY:,} empty lines; leave them out")
