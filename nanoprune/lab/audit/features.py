"""The features of records for small networks: flat, standardised, with the label."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoprune.backend import to_device, to_host
from nanoprune.records import Records

MOST = 4096  # features: beyond that a network on them is neither small nor to be learned from a few records


class Features:
    """The records `scored` (n,) and `population` (m,) of a data set x (N, ...), y (N,), used like an array (m + n, F).

    The first m are the population, whose mean and variance they are standardised by; a missing number (NaN) becomes
    the mean. The last `classes` features are the label.
    """

    def __init__(self, x: Any, y: np.ndarray, classes: int, scored: np.ndarray, population: np.ndarray) -> None:
        self.x, self.y, self.classes = x, y, classes
        self.rows, self.known = np.concatenate([population, scored]), len(population)
        known = self._flat(population)  # (m, F)
        there = np.isfinite(known)
        count = np.maximum(there.sum(axis=0), 1)
        self.mean = np.where(there, known, 0).sum(axis=0) / count
        variance = np.where(there, (known - self.mean) ** 2, 0).sum(axis=0) / count
        self.scale = np.where(variance > 1e-12, 1 / np.sqrt(np.maximum(variance, 1e-12)), 0)  # a constant says nothing

    @classmethod
    def of(cls, x: Any, y: np.ndarray, classes: int, scored: np.ndarray, population: np.ndarray) -> Features | None:
        """None without a population, or with more than MOST features."""
        few = int(np.prod(x.shape[1:])) <= MOST
        return cls(x, y, classes, scored, population) if few and len(population) else None

    @property
    def count(self) -> int:
        """How many features, the label's included."""
        return len(self.mean) + self.classes

    def records(self) -> Records:
        """As networks take them."""
        return Records(self, self.y[self.rows])

    def __getitem__(self, index: Any) -> Any:
        """Features (R, N, F) float32 of index (R, N), on the device; gathered once where all replicas ask the same."""
        index = to_host(index)
        rows = self.rows[index[:1] if (index == index[:1]).all() else index]  # (1 or R, N)
        flat = np.nan_to_num((self._flat(rows.ravel()) - self.mean) * self.scale)  # NaN: the mean
        label = np.arange(self.classes) == self.y[rows.ravel()][:, None]
        found = np.concatenate([flat, label], axis=1).astype(np.float32).reshape(*rows.shape, -1)
        return to_device(np.broadcast_to(found, (len(index), *found.shape[1:])))

    def _flat(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.x[rows], np.float64).reshape(len(rows), -1)
