"""The columns of a table file, and the kind that each is read as."""

from __future__ import annotations

import collections
import dataclasses
import re

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.storage.text import printable, printable_list

MISSING = ("", "?", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null")  # texts that stand for no value
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
WHOLE = re.compile(r"[+-]?\d{1,15}")
CODE = re.compile(r"0\d+")  # 007 is a name, and no number
LARGEST = float(np.finfo(np.float32).max)
MOST_CATEGORIES = 1000  # of a column that is not said to be a category; beyond it is free text, or a name
MOST_ASKED = 10_000  # of one that is
LONGEST = 100  # characters of a category
FEWEST_IDENTIFIED = 50  # records of which every one has another whole number: what they number is the records
NUMBER_KIND, CATEGORY, LEFT_OUT = "number", "category", "left out"


@dataclasses.dataclass(eq=False)
class Column:
    """One column of N values: of text, or of numbers where the file has types.

    Text: codes (N,) int32, places in `texts`, -1 where there is no value. Numbers: numbers (N,) float64, NaN where
    there is none, and whether their type is one of whole numbers. unusable: why neither, such as "dates".
    """

    name: str
    codes: np.ndarray | None = None
    texts: list[str] = dataclasses.field(default_factory=list)
    numbers: np.ndarray | None = None
    whole: bool = False
    unusable: str = ""

    @classmethod
    def of_text(cls, name: str, codes: np.ndarray, found: list[str]) -> Column:
        """codes: places in `found`, the distinct cells of a file. Cells that differ in spaces alone are one text."""
        texts: dict[str, int] = {}
        places = np.empty(len(found), np.int32)
        for i, cell in enumerate(found):
            text = cell.strip()
            places[i] = -1 if text in MISSING else texts.setdefault(text, len(texts))
        return cls(name, np.where(codes < 0, -1, places[codes]).astype(np.int32), list(texts))

    def as_numbers(self) -> tuple[np.ndarray, bool] | None:
        """The values (N,) float64 with NaN where there is none, and whether all are written as whole numbers; None
        where one of them is no number."""
        if self.numbers is not None:
            return self.numbers, self.whole
        if not self.texts or any(CODE.fullmatch(t) or not NUMBER.fullmatch(t) for t in self.texts):
            return None
        values = np.array([*map(float, self.texts), np.nan])  # the last one for -1
        return values[self.codes], all(map(WHOLE.fullmatch, self.texts))

    def as_text(self) -> tuple[np.ndarray, list[str]]:
        """(codes, texts), the texts in their order: by value where they are whole numbers, else by character."""
        if self.numbers is not None:
            distinct, codes = np.unique(self.numbers, return_inverse=True)  # NaN is the last one, if there is any
            known = distinct[~np.isnan(distinct)]
            codes = np.where(np.isnan(self.numbers), -1, codes.reshape(-1))
            return codes.astype(np.int32), [f"{v:.0f}" if v == np.floor(v) else repr(float(v)) for v in known]
        numeric = all(WHOLE.fullmatch(t) and not CODE.fullmatch(t) for t in self.texts)
        order = sorted(range(len(self.texts)), key=lambda i: (int(self.texts[i]) if numeric else 0, self.texts[i]))
        place = np.empty(len(order) + 1, np.int32)
        place[order], place[-1] = np.arange(len(order)), -1
        return place[self.codes], [self.texts[i] for i in order]

    def distinct(self) -> int:
        """How many different values there are, missing ones aside."""
        if self.numbers is not None:
            return len(np.unique(self.numbers[~np.isnan(self.numbers)]))
        return len(self.texts)

    def missing(self) -> int:
        """How many records have no value."""
        return int((np.isnan(self.numbers) if self.numbers is not None else self.codes < 0).sum())


@dataclasses.dataclass(frozen=True)
class ColumnKind:
    """What a column is taken for: kind, "number", "category" or "left out", and why it is left out."""

    kind: str
    why: str = ""


def classify_column(column: Column, asked: bool, source: str) -> ColumnKind:
    """What a feature column is. asked: whether the user said that it is a category.

    Left out are columns without a value or with a single one, those in which every record has another whole number
    (they number the records), and texts that are too many or too long for categories. Raises DataError, naming
    `source` and the column, on numbers beyond float32, and where a category that was asked for cannot be one.
    """
    if column.unusable:
        return ColumnKind(LEFT_OUT, column.unusable)
    count, missing, total = column.distinct(), column.missing(), len(_values(column))
    if count == 0:
        return ColumnKind(LEFT_OUT, "no values")
    if count == 1 and not missing:
        return ColumnKind(LEFT_OUT, "the same value in all records")
    numbers = None if asked else column.as_numbers()
    if numbers is not None:
        if not np.nanmax(np.abs(numbers[0])) <= LARGEST:
            raise DataError(f"{source}: column {printable(column.name)} holds a number beyond float32; scale it")
        if numbers[1] and count == total >= FEWEST_IDENTIFIED:
            return ColumnKind(LEFT_OUT, "another whole number in every record: it numbers them")
        return ColumnKind(NUMBER_KIND)
    longest = max(map(len, column.texts), default=0)
    most = MOST_ASKED if asked else min(MOST_CATEGORIES, max(2, total // 2))
    if count <= most and longest <= LONGEST:
        return ColumnKind(CATEGORY)
    if not asked:
        why = f"texts of up to {longest:,} characters" if longest > LONGEST else f"{count:,} different texts"
        others = [text for text in column.texts if not NUMBER.fullmatch(text)]
        if 0 < len(others) <= count // 10:  # a slip, or a word of its own for no value
            why = f"numbers, but also {printable_list(others, 3)}"
        return ColumnKind(LEFT_OUT, why)
    raise DataError(
        f"{source}: column {printable(column.name)} has {count:,} different values of up to {longest:,} characters, "
        f"categories are at most {MOST_ASKED:,} of {LONGEST}; drop it"
    )


def _values(column: Column) -> np.ndarray:
    return column.numbers if column.numbers is not None else column.codes


def check_names(names: list[str], source: str) -> list[str]:
    """The names of columns as a file has them; one without a name is called by its place, as pandas' index is.

    Raises DataError, naming `source`, where two are alike.
    """
    named = [name.strip() or f"column {place}" for place, name in enumerate(names, 1)]
    twice = [name for name, count in collections.Counter(named).items() if count > 1]
    if twice:
        raise DataError(
            f"{source}: columns with one name: {printable_list(twice)}; give each its own in the first line"
        )
    return named
