"""The unit of counting: records or, where several belong to one person, groups of records.

Records of one group are not independent, so that intervals which count them are too narrow: benchmarks/null_audits.py
has by how much. A group is one observation. Its score is the mean or the largest of its records' scores.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from nanoprune.errors import ArgumentError

RECORDS = ("",)
GROUPS = ("mean", "max")  # how the scores of a group become one


@dataclass(frozen=True, eq=False)
class Units:
    """U units of n records, numbered in the order of their first records.

    of (n,): the unit of each record; y (U,): its label, of a group the most frequent one of its records, the lowest of
    several; member (U,) bool; aggregations: how `combine` makes one score of the scores of a unit.
    """

    of: np.ndarray
    y: np.ndarray
    member: np.ndarray
    classes: int
    aggregations: tuple[str, ...] = RECORDS

    @property
    def grouped(self) -> bool:
        return self.aggregations == GROUPS

    @functools.cached_property
    def first(self) -> np.ndarray:
        """The first record of each unit, (U,)."""
        return np.unique(self.of, return_index=True)[1]

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """How many records each unit has, (U,)."""
        return np.bincount(self.of)

    @functools.cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """The records unit by unit (n,), and where each unit begins (U,)."""
        return np.argsort(self.of, kind="stable"), np.cumsum(self.sizes) - self.sizes

    def combine(self, scores: np.ndarray, aggregation: str) -> np.ndarray:
        """One score of each unit, (..., U), of the records' scores (..., n); the same where `aggregation` is ""."""
        if not aggregation:
            return scores
        order, starts = self._sorted
        scores = scores[..., order]
        if aggregation == "max":
            return np.maximum.reduceat(scores, starts, axis=-1)
        return np.add.reduceat(scores.astype(np.float64), starts, axis=-1) / self.sizes

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The mean over each unit's records, (..., U), of values (..., n)."""
        return self.combine(values, self.aggregations[0])

    def rows(self, chosen: np.ndarray) -> np.ndarray:
        """Which records are of the units chosen (U,) bool; (n,) bool."""
        return chosen[self.of]

    def part(self, chosen: np.ndarray) -> Units:
        """Some of the units, chosen (U,) bool, with their records alone."""
        number = np.cumsum(chosen) - 1
        return Units(
            number[self.of[self.rows(chosen)]], self.y[chosen], self.member[chosen], self.classes, self.aggregations
        )


def attack_name(name: str, aggregation: str) -> str:
    """The name of an attack whose scores are aggregated so: "confidence", "confidence (max)"."""
    return f"{name} ({aggregation})" if aggregation else name


def units_of(y: np.ndarray, member: np.ndarray, classes: int, group: np.ndarray | None = None) -> Units:
    """The units of n records: y (n,) labels, member (n,) bool; group (n,) integers, equal for records that belong
    together, or None where each counts on its own. Raises ArgumentError where a group has members and non-members."""
    if group is None:
        return Units(np.arange(len(y)), y, member, classes)
    row = first_mixed(group, member)
    if row is not None:
        raise ArgumentError(f"group {group[row]} has members and non-members; a group must be on one side")
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    of = np.argsort(np.argsort(first))[inverse.reshape(-1)]
    return Units(of, _most_frequent(of, y, classes), member[np.sort(first)], classes, GROUPS)


def first_mixed(group: np.ndarray, member: np.ndarray) -> int | None:
    """A record of a group that has members and non-members, if there is one: group (n,), member (n,) bool."""
    mixed = np.isin(group, np.intersect1d(group[member], group[~member]))
    return int(np.argmax(mixed)) if mixed.any() else None


def _most_frequent(of: np.ndarray, y: np.ndarray, classes: int) -> np.ndarray:
    """The most frequent label of each unit, (U,); the lowest of those that are as frequent."""
    pairs, counts = np.unique(of * classes + y, return_counts=True)
    units, labels = np.divmod(pairs, classes)
    order = np.lexsort((labels, -counts, units))
    return labels[order[np.unique(units[order], return_index=True)[1]]]
