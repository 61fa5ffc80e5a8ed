"""Test of label shift: where the labels of members and non-members differ in distribution, any attack looks strong."""

import numpy as np

from nanoprune.errors import ArgumentError

DRAWS = 9999


def label_shift(members: np.ndarray, nonmembers: np.ndarray, classes: int, seed: int = 0) -> float:
    """The p-value of "labels (n,) and (m,) come from one distribution", by the chi-squared statistic.

    A permutation test, valid for rare classes too: given all labels, the members' class counts are multivariate
    hypergeometric under the null. The p-value is (1 + draws that are as large) / (1 + DRAWS).
    Raises ArgumentError where there are no members or no non-members.
    """
    n, m = len(members), len(nonmembers)
    if not (n and m):
        raise ArgumentError(f"labels must be of members and non-members, got {n} and {m}")
    inside = np.bincount(members, minlength=classes)  # (classes,)
    total = inside + np.bincount(nonmembers, minlength=classes)
    inside, total = inside[total > 0], total[total > 0]
    expected = total * (n / (n + m))

    def statistic(counts: np.ndarray) -> np.ndarray:
        """Chi-squared up to a factor that is the same for all draws; counts (..., classes)."""
        return ((counts - expected) ** 2 / expected).sum(axis=-1)

    draws = np.random.default_rng(seed).multivariate_hypergeometric(total, n, DRAWS, method="marginals")
    as_large = (statistic(draws) >= statistic(inside) * (1 - 1e-12)).sum()
    return float((1 + as_large) / (1 + DRAWS))
