"""Means over seeds with their 95% intervals.

Where all seeds have the same value, there is no interval. Student's would have no width, so it would exclude every
other value; but accuracies are counts of records, and few seeds of few records agree by chance: of two seeds of a model
that leaks nothing, attacked on 40 records each, in 8.9% of the cases. An interval of no width "shows" a leak in 3.7% of
all cases, where 2.5% are allowed; with no interval it is 0.06% (enumerated in tests/test_statistics.py).
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
ROUNDING = 1e-12  # values that differ by less, relative to the largest, are equal


def summary(values: Sequence[float]) -> dict[str, object]:
    """{"mean", "low", "high", "values"} of one value per seed; Student's t interval, None and None where all values are
    equal, as that of one seed is."""
    values = np.asarray(values, dtype=np.float64)  # (seeds,)
    mean, low, high = float(values.mean()), None, None
    if np.ptp(values) > ROUNDING * np.abs(values).max():
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
        low, high = mean - half, mean + half
    return {"mean": mean, "low": low, "high": high, "values": values.tolist()}


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, object]:
    """`summary` of ours - theirs, paired by seed, so that what the seed contributes to both cancels.

    "p_value": two-sided, by Student's paired t test; None without an interval. It is below 0.05 exactly where the
    interval excludes 0. Where two seeds or more all have the difference 0 it is 1.
    """
    difference = np.subtract(ours, theirs)
    found: dict[str, object] = summary(difference) | {"p_value": None}
    if found["low"] is not None:
        found["p_value"] = float(stats.ttest_1samp(difference, 0.0).pvalue)
    elif len(difference) > 1 and not difference.any():
        found["p_value"] = 1.0
    return found
