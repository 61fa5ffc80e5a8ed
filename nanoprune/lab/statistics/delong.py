"""The interval of an AUC (DeLong, DeLong & Clarke-Pearson 1988), and with it of a balanced accuracy.

Every member x and non-member y are compared: psi(x, y) = 1 if x scores higher, 1/2 if they tie, else 0. The AUC is the
mean of psi. With the two placements

    V10(x) = mean over y of psi(x, y),    V01(y) = mean over x of psi(x, y)

its variance is estimated by  var V10 / n + var V01 / m.  The interval is symmetric on the logit scale, which keeps it
inside (0, 1) (Pepe 2003, section 5.2).

The balanced accuracy of decisions is the AUC of the scores 0 and 1: psi's mean is then (TPR + TNR) / 2, exactly.
"""

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from nanoprune.errors import ArgumentError
from nanoprune.lab.statistics.proportion import check_alpha, clopper_pearson


def auc_interval(members: np.ndarray, nonmembers: np.ndarray, alpha: float = 0.05) -> dict[str, float]:
    """{"value", "low", "high"}: the AUC of the scores (n,) and (m,), and its 1 - alpha interval.

    Where the variance is estimated as 0 (no pair, or every pair, in the wrong order) the normal approximation says
    nothing; the interval is then that of a proportion of min(n, m) trials. Raises ArgumentError on fewer than two
    scores of a kind.
    """
    check_alpha(alpha)
    n, m = len(members), len(nonmembers)
    if min(n, m) < 2:
        raise ArgumentError(f"scores must be of at least 2 members and 2 non-members, got {n} and {m}")
    V10, V01 = placements(members, nonmembers)
    value = float(V10.mean())
    variance = V10.var(ddof=1) / n + V01.var(ddof=1) / m
    if variance == 0:
        trials, right = min(n, m), value * min(n, m)  # all, none, or (everything ties) a half of them
        low, high = (clopper_pearson(k, trials, alpha) for k in (int(np.floor(right)), int(np.ceil(right))))
        return {"value": value, "low": low[0], "high": high[1]}
    half = norm.ppf(1 - alpha / 2) * np.sqrt(variance) / (value * (1 - value))  # on the logit scale
    return {"value": value, "low": float(expit(logit(value) - half)), "high": float(expit(logit(value) + half))}


def balanced_accuracy_interval(members: np.ndarray, nonmembers: np.ndarray, alpha: float = 0.05) -> dict[str, float]:
    """{"value", "low", "high"} of (TPR + TNR) / 2 for decisions (n,) and (m,), True where "member" was said."""
    return auc_interval(members.astype(np.float64), nonmembers.astype(np.float64), alpha)


def placements(members: np.ndarray, nonmembers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """V10 (n,) and V01 (m,), by sorting: n log n instead of n m comparisons."""
    V10 = (_count(nonmembers, members, "left") + _count(nonmembers, members, "right")) / (2 * len(nonmembers))
    V01 = 1 - (_count(members, nonmembers, "left") + _count(members, nonmembers, "right")) / (2 * len(members))
    return V10, V01


def _count(sample: np.ndarray, at: np.ndarray, side: str) -> np.ndarray:
    """How many of the sample are below ("left") or not above ("right") each value."""
    return np.searchsorted(np.sort(sample), at, side)
