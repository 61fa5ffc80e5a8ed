"""The cross-validated accuracy of thresholds on the attacker's records, by which attacks are ranked."""

from __future__ import annotations

import numpy as np

from nanoprune.attack.threshold import Thresholds
from nanoprune.lab.statistics.units import Units

FOLDS = 4


def cross_validated(
    scores: np.ndarray, units: Units, per_class: bool, rng: np.random.Generator
) -> tuple[np.ndarray, list[Thresholds]]:
    """Which units are predicted to be members, (U,) bool, and the FOLDS thresholds: the decisions on each fold, a
    quarter of the members and of the non-members, use the thresholds fitted on the other three. scores (U,)."""
    fold = np.empty(len(scores), int)
    for kind in (units.member, ~units.member):
        fold[rng.permutation(np.flatnonzero(kind))] = np.arange(kind.sum()) % FOLDS
    predicted, rules = np.zeros(len(scores), bool), []
    for q in range(FOLDS):
        rest, rows = fold != q, fold == q
        rules.append(Thresholds.fit(scores[rest], units.y[rest], units.member[rest], units.classes, per_class))
        predicted[rows] = rules[q].predict(scores[rows], units.y[rows])
    return predicted, rules
