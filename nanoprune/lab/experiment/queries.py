"""The queries of the label-only attack: predictions on perturbed copies of the records."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoprune.backend import to_host
from nanoprune.lab.data import Dataset
from nanoprune.lab.data.table import Table
from nanoprune.lab.engine.evaluation import predict_fleet
from nanoprune.lab.experiment.label_only import Perturbation, perturbations, table_perturbations, token_perturbations
from nanoprune.nn import Network, Workspace
from nanoprune.records import Records

STREAM = int.from_bytes(b"label-only", "big")
SAMPLED = 256  # records that are looked at to tell whether features are binary


class Perturbed(Records):
    """The records of `records`, each batch passed through a perturbation."""

    def __init__(self, records: Records, change: Perturbation) -> None:
        self.x, self.y, self.change = records.x, records.y, change

    def batch(self, index: Any, ws: Workspace) -> tuple[Any, Any]:
        """The perturbed features (R, ..., N) and the labels (R, N) of the records index (R, N)."""
        X, y = super().batch(index, ws)
        return self.change(X), y


def label_queries(dataset: Dataset) -> list[Perturbation]:
    """The perturbations for a data set: the same for every seed, method and record."""
    if isinstance(dataset.x, Table):
        return table_perturbations(dataset.x.spread(), dataset.x.column, np.random.default_rng(STREAM))
    if dataset.tokens is not None:
        return token_perturbations(dataset.x.shape[1], dataset.tokens, np.random.default_rng(STREAM))
    some = np.asarray(dataset.x[np.arange(min(SAMPLED, len(dataset.y)))])
    binary = bool(np.isin(some, (0, 1)).all())
    return perturbations(dataset.x.shape[1:], binary, np.random.default_rng(STREAM))


def queried(net: Network, records: Records, index: np.ndarray, queries: list[Perturbation], threads: int) -> np.ndarray:
    """Whether each replica predicts the label of each copy of the records index (R, n): (R, n, copies) bool."""
    y = to_host(records.y)[index]  # (R, n)
    return np.stack(
        [predict_fleet(net, Perturbed(records, change), index, threads).argmax(axis=2) == y for change in queries],
        axis=2,
    )
