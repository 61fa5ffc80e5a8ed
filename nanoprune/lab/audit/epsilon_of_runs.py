r"""A bound on the epsilon of the recipe, from many models: the shadows, each trained on a record or not.

One record and one threshold are chosen on half of the pairs of shadows, and the rates at which models that trained on
the record, and models that did not, exceed the threshold are counted on the other half
(`nanoprune/lab/statistics/epsilon_bounds.py`: epsilon_of_runs). Each pair has one model of either kind, so that
the trials of a kind are independent. Training sets have one size: the two kinds differ in one member that is replaced
by another, so epsilon is that of replacing a record. For adding or removing one it is at least half of that, at a delta
of $\delta / (1 + e^{\epsilon / 2})$, since a replacement is one removal and one addition. Of data with groups all of
this is about groups: phi is the mean of a group's records, and epsilon that of replacing all records of one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoprune.attack.shadow.lira import margin
from nanoprune.lab.statistics import epsilon_of_runs
from nanoprune.lab.statistics.units import Units, units_of

NEIGHBOURS = "one member replaced by another"
OF_GROUPS = "all records of one group replaced by those of others"


def runs_bound(
    logits: np.ndarray,
    y: np.ndarray,
    inside: np.ndarray,
    alpha: float = 0.05,
    delta: float = 0.0,
    units: Units | None = None,
) -> dict[str, Any]:
    """{"value", "delta", "neighbours", "row", "models"}: the bound, at confidence 1 - alpha on its own, the record that
    was chosen (of groups the place of the unit), and how many models of either kind were counted.

    logits (K, n, classes) of K shadows, y (n,), inside (K, n) bool, in which rows 2j and 2j + 1 are complements.
    """
    units = units or units_of(y, np.zeros(len(y), bool), logits.shape[2])
    phi, inside = units.mean(margin(logits, y)), inside[:, units.first]  # (K, U)
    first = inside[::2]  # (K/2, U)
    trained, other = (np.where(first == of, phi[::2], phi[1::2]) for of in (True, False))  # (K/2, n)
    half = len(first) // 2
    gap = (trained - other)[:half].mean(axis=0)  # (n,)
    spread = np.sqrt((trained[:half].var(axis=0) + other[:half].var(axis=0)) / 2)
    row = int(np.argmax(gap / (spread + spread.mean() + 1e-3)))  # the mean: few pairs tell little of one record
    threshold = (trained[:half, row].mean() + other[:half, row].mean()) / 2
    hits, false = (int((of[half:, row] > threshold).sum()) for of in (trained, other))
    models = len(first) - half
    value = epsilon_of_runs(hits, models, false, models, alpha, delta)
    neighbours = OF_GROUPS if units.grouped else NEIGHBOURS
    return {"value": value, "delta": delta, "neighbours": neighbours, "row": row, "models": models}
