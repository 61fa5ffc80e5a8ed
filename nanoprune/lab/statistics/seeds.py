"""Means over seeds with their 95% intervals."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


def summary(values: Sequence[float]) -> dict[str, object]:
    """{"mean", "low", "high", "values"} of one value per seed; Student's t interval, None and None with one seed."""
    values = np.asarray(values, dtype=np.float64)  # (seeds,)
    mean, low, high = float(values.mean()), None, None
    if len(values) > 1:
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
        low, high = mean - half, mean + half
    return {"mean": mean, "low": low, "high": high, "values": values.tolist()}


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, object]:
    """`summary` of ours - theirs, paired by seed, so that what the seed contributes to both cancels.

    "p_value": two-sided, by Student's paired t test; None with one seed. It is below 0.05 exactly where the interval
    excludes 0. Where all differences are 0 it is 1. Where all are equal but not 0, there is neither p_value nor
    interval: few seeds of few records have that by chance, and it says nothing of how much seeds differ.
    """
    difference = np.subtract(ours, theirs)
    found: dict[str, object] = summary(difference) | {"p_value": None}
    if len(difference) < 2:
        return found
    if np.ptp(difference) > 1e-12 * np.abs(difference).max():  # not equal, up to the rounding of the subtraction
        return found | {"p_value": float(stats.ttest_1samp(difference, 0.0).pvalue)}
    return found | ({"low": None, "high": None} if difference.any() else {"p_value": 1.0})
