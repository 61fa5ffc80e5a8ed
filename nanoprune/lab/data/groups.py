"""Records that belong together, as those of one person do: a group is on one side of every split."""

from __future__ import annotations

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.storage.text import printable

LARGEST = 2**53  # beyond it a float64 no longer tells integers apart
NAME_LENGTH = 100  # characters of a group's name that are shown
PARTS = 5  # of a split: known and scored members, reference, known and scored non-members


def group_codes(values: np.ndarray, source: str) -> tuple[list[str], np.ndarray]:
    """The distinct groups in their order, as text, and the place of each record's group among them, (N,) int64.

    values: (N,) or (N, 1) numbers or text, such as a patient's number. Raises DataError, naming `source`, on another
    shape, and on numbers that are missing or not whole.
    """
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim != 1:
        raise DataError(f"{source} has shape {values.shape}, expected (N,): one group a record")
    if values.dtype.kind == "f":
        values = values.astype(np.float64)
        whole = (values == np.floor(values)) & (np.abs(values) < LARGEST)
        if not whole.all():
            row = int(np.argmin(whole))
            raise DataError(
                f"{source} holds {values[row]} in row {row}, expected whole numbers or text; give a record without a "
                "group a number of its own"
            )
        values = values.astype(np.int64)
    distinct, codes = np.unique(values, return_inverse=True)
    return [_text(value) for value in distinct.tolist()], codes.reshape(-1).astype(np.int64)


def together(order: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The records of `order` (N,) with each group's side by side; all orders of the groups are equally likely, and
    those of one group keep theirs. groups (N,): the group of each record of the data set, 0 .. G-1."""
    place = rng.permutation(groups.max() + 1)
    return order[np.argsort(place[groups[order]], kind="stable")]


def borders(index: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Where a list of records (n,), with the groups side by side, can be cut without parting one; 0 and n included."""
    return np.concatenate([[0], np.flatnonzero(np.diff(groups[index])) + 1, [len(index)]])


def whole_groups(index: np.ndarray, groups: np.ndarray, most: int) -> int:
    """How many of the first records of `index`, at most `most`, are as many groups as fit, none of them parted."""
    ends = borders(index, groups)
    return int(ends[np.searchsorted(ends, most, "right") - 1])


def cut_at_most(groups: np.ndarray) -> int:
    """How many records a split can lose, at most, where the last group of a part has more than there is room for.

    Each part but the last may end in such a group; of each, one record at least is used.
    """
    sizes = np.sort(np.bincount(groups))[::-1]
    return int((sizes[: PARTS - 1] - 1).sum())


def _text(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return printable(text[:NAME_LENGTH], 4 * NAME_LENGTH)
