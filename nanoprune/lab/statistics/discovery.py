"""Which members score higher than non-members do by chance, with the false discovery rate controlled.

A member's p-value is the rank of its score among the m non-members' scores,

    $p(x) = (1 + number of non-members that score at least as high) / (m + 1)$.

Were its score drawn as theirs, every rank would be as likely as any other (ties make p larger), so that
$P[p <= t] <= t$: a conformal p-value. All share the same non-members and so depend on each other, but positively, and
the procedure of Benjamini & Hochberg (1995) still controls the false discovery rate (Bates, Candes, Lei, Romano & Sesia
2023, Annals of Statistics 51(1), theorem 2): of the records that it names, a share of at most q is there by chance, on
average over audits.
"""

from __future__ import annotations

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.statistics.proportion import check_alpha


def conformal_p_values(members: np.ndarray, nonmembers: np.ndarray) -> np.ndarray:
    """p (n,) of the scores `members` (n,) among the scores `nonmembers` (m,). Raises ArgumentError where m is 0."""
    if not len(nonmembers):
        raise ArgumentError("nonmembers must hold at least one score")
    as_high = len(nonmembers) - np.searchsorted(np.sort(nonmembers), members, "left")
    return (1 + as_high) / (len(nonmembers) + 1)


def benjamini_hochberg(p: np.ndarray, q: float) -> np.ndarray:
    """Which of the hypotheses of p (n,) are rejected, (n,) bool: the k least, with the largest k for which the k-th
    least is at most q k / n. Raises ArgumentError unless 0 < q < 1."""
    check_alpha(q)
    ordered = np.sort(p)
    fits = np.flatnonzero(ordered <= q * np.arange(1, len(p) + 1) / len(p))
    return p <= ordered[fits[-1]] if len(fits) else np.zeros(len(p), bool)
