"""Which records of a data set a model was trained on, where its user says so: they become the official training set."""

from __future__ import annotations

import dataclasses
import os
import re

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.data.dataset import Dataset, arrays_sha256
from nanoprune.lab.statistics.units import first_mixed
from nanoprune.lab.storage.bounded import read_bounded
from nanoprune.lab.storage.text import printable

LINE = 32  # bytes of a line, at most


def read_members(path: str | os.PathLike, records: int) -> np.ndarray:
    """Who is a member, (records,) bool, by a text file: the place of one member a line, counted from 0.

    Raises DataError, naming the file and the line, on anything but integers from 0 to records - 1, each once.
    """
    shown = printable(path, 400)
    lines = read_bounded(path, LINE * records + 1024).split(b"\n")
    member = np.zeros(records, bool)
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        place = int(text) if re.fullmatch(rb"\d{1,18}", text) else records
        if place >= records or member[place]:
            what = "is named twice" if place < records else f"expected a record's place from 0 to {records - 1:,}"
            raise DataError(f"{shown}: line {number} is {printable(text.decode('utf-8', 'replace'), 40)!r}: {what}")
        member[place] = True
    return member


def with_members(dataset: Dataset, member: np.ndarray, source: str) -> Dataset:
    """The data set with the members first, as its official training set; both parts keep their order.

    member: (N,) bool. Its hash depends on who is a member. Raises DataError, naming `source`, unless there are at least
    two members and two others, where a group is on both sides, and where the records are no array in memory.
    """
    members = int(member.sum())
    if not 2 <= members <= len(member) - 2:
        raise DataError(
            f"{source}: {members:,} of {len(member):,} records are members; expected at least two, and two others to "
            "compare them with"
        )
    if not isinstance(dataset.x, np.ndarray):
        raise DataError(f"{source}: the members of {dataset.name}, which is a table or a packed file, cannot be named")
    groups = dataset.groups
    row = None if groups is None else first_mixed(groups, member)
    if row is not None:
        raise DataError(f"{source}: records of the group of record {row} are on both sides; a group must be on one")
    order = np.argsort(~member, kind="stable")  # (N,)
    x, y = dataset.x[order], dataset.y[order]
    x.setflags(write=False)
    y.setflags(write=False)
    sha256 = arrays_sha256(np.frombuffer(dataset.sha256.encode(), np.uint8), member)
    groups = None if groups is None else groups[order]
    return dataclasses.replace(dataset, x=x, y=y, train=members, sha256=sha256, groups=groups)


def checked_members(values: np.ndarray, records: int, source: str) -> np.ndarray:
    """Who is a member, (records,) bool, of an array of a file. Raises DataError, naming `source`, unless it is (N,) or
    (N, 1) of true and false, or 1 and 0."""
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.shape != (records,) or not np.isin(values, (0, 1)).all():
        raise DataError(
            f"{source}: member is {values.dtype} of shape {values.shape}, expected ({records},) of 1, a member, and 0"
        )
    return values.astype(bool)
