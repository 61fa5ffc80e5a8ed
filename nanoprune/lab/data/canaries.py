"""Canaries: records with a wrong label, each of which is in the training set or not by the toss of a fair coin.

Nothing but the coin decides whether a canary is a member, so that what a model says of canaries bounds the epsilon of
its training, from this one training (Steinke, Nasr & Jagielski 2023, arXiv 2305.08846). A wrong label has to be
memorised: it cannot be learned from other records. Canaries are drawn among the records that are neither member,
reference nor non-member of the split; which, with which labels, and the coins come from the seed, in a stream of their
own. Steinke et al. leave the choice of canaries open; ours are mislabelled records of the data set, uniform among the
other labels.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data.dataset import Dataset, arrays_sha256
from nanoprune.lab.data.split import Split

STREAM = int.from_bytes(b"canary", "big")
FEWEST, MOST = 16, 40_000  # so that there are as many guesses as a bound needs; of which a model file holds the coins


@dataclasses.dataclass(frozen=True, eq=False)
class Canaries:
    """rows (M,) int64 of the data set, labels (M,) int64, inserted (M,) bool: those that a model was trained on."""

    rows: np.ndarray
    labels: np.ndarray
    inserted: np.ndarray

    def record(self) -> dict[str, Any]:
        """As a model file keeps them: {"count", "inserted": the coins in hex, "sha256": of rows, labels and coins}."""
        coins = np.packbits(self.inserted).tobytes().hex()
        return {"count": len(self.rows), "inserted": coins, "sha256": self.sha256}

    @property
    def sha256(self) -> str:
        """SHA-256, in hex, of rows, labels and coins."""
        return arrays_sha256(self.rows, self.labels, self.inserted)

    def trained_on(self, dataset: Dataset, split: Split) -> tuple[Dataset, Split]:
        """The data set with the canaries' labels, and the split with those that were inserted among its members."""
        y = dataset.y.copy()
        y[self.rows] = self.labels
        y.setflags(write=False)
        members = np.concatenate([split.members, self.rows[self.inserted]])
        return dataclasses.replace(dataset, y=y), dataclasses.replace(split, members=members)


def draw_canaries(dataset: Dataset, split: Split, count: int, seed: int) -> Canaries:
    """M = `count` canaries of a split; the same arguments draw the same ones.

    Raises ArgumentError where there are too few records outside the split, another number than FEWEST to MOST is asked
    for, or records come in groups.
    """
    if not FEWEST <= count <= MOST:
        raise ArgumentError(f"canaries must be {FEWEST} to {MOST:,}, got {count}")
    if dataset.groups is not None:
        raise ArgumentError(f"canaries are single records, those of {dataset.name} come in groups; leave them out")
    if dataset.classes < 2:
        raise ArgumentError(f"canaries have a wrong label, and {dataset.name} has one class; leave them out")
    used = np.concatenate([split.members, split.reference, split.nonmembers])
    spare = np.setdiff1d(np.arange(len(dataset.y)), used)
    if len(spare) < count:
        raise ArgumentError(
            f"canaries must be records outside the split, of which there are {len(spare):,}, got {count:,}; ask for "
            "fewer of them, or for fewer members, reference or non-members"
        )
    rng = np.random.default_rng([seed, STREAM])
    rows = rng.permutation(spare)[:count]
    labels = (dataset.y[rows] + rng.integers(1, dataset.classes, count)) % dataset.classes  # any but the true one
    return Canaries(rows, labels, rng.integers(0, 2, count).astype(bool))


def kept_canaries(dataset: Dataset, split: Split, seed: int, record: dict[str, Any]) -> Canaries:
    """The canaries of a model file. Raises DataError where they are not those of its `record` (`Canaries.record`)."""
    try:
        found = draw_canaries(dataset, split, record["count"], seed)
        same = found.record() == record
    except (KeyError, TypeError, ArgumentError) as error:
        raise DataError(f"canaries: the model's are not those of this data set and split ({error})") from error
    if not same:
        raise DataError(
            "canaries: other ones are drawn here than the model was trained with (another version of NumPy may do "
            "that, or a file that was changed); train it again with `train --canaries`"
        )
    return found
