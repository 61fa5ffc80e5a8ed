"""The cross-validated accuracy of thresholds on the attacker's records, by which attacks are ranked."""

from __future__ import annotations

import numpy as np

from nanoprune.attack.threshold import Thresholds
from nanoprune.lab.statistics.units import Units

QUARTERS = 4  # folds


def cross_validated(
    scores: np.ndarray, units: Units, per_class: bool, rng: np.random.Generator
) -> tuple[np.ndarray, list[Thresholds]]:
    """Which units are said to be members, (U,) bool, and the QUARTERS thresholds: each quarter of the members and of
    the non-members is decided by thresholds that are fitted on the other three. scores (U,)."""
    quarter = np.empty(len(scores), int)
    for kind in (units.member, ~units.member):
        quarter[rng.permutation(np.flatnonzero(kind))] = np.arange(kind.sum()) % QUARTERS
    said, rules = np.zeros(len(scores), bool), []
    for q in range(QUARTERS):
        rest, rows = quarter != q, quarter == q
        rules.append(Thresholds.fit(scores[rest], units.y[rest], units.member[rest], units.classes, per_class))
        said[rows] = rules[q].predict(scores[rows], units.y[rows])
    return said, rules
