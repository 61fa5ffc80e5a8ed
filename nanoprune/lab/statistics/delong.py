r"""Confidence intervals of an AUC and of a balanced accuracy.

Every member x is compared with every non-member y: $\psi(x, y)$ is 1 if x scores higher, 1/2 if they tie, else 0. The
AUC A is the mean of psi. With the placements

    $V_{10}(x) = \text{mean over y of } \psi(x, y)$,    $V_{01}(y) = \text{mean over x of } \psi(x, y)$

its variance is estimated by $s_{10}^2 / n + s_{01}^2 / m$, from the sample variances of V10 and V01 (DeLong, DeLong &
Clarke-Pearson 1988). That estimate is itself uncertain, which matters at the small alphas of multiple tests. So
Student's quantile t with Satterthwaite's degrees of freedom replaces the normal quantile z (Brunner & Munzel 2000),

    $\nu = (s_{10}^2/n + s_{01}^2/m)^2 / ((s_{10}^2/n)^2/(n - 1) + (s_{01}^2/m)^2/(m - 1))$.

Neither is valid where nearly all placements are equal, for example where a model is right on 99% of the records: the
estimated variance is then nearly zero by chance. So each side gets an exact binomial limit instead of t times a
standard error, with the effective number of trials k (Korn & Graubard 1998). With $u$ the mean of V, rescaled from its
range [lo, hi] to [0, 1], and $s$ its standard deviation on that scale,

    $k = N u (1 - u) / s^2 (z / t)^2$,    $d = (hi - lo) (u - \text{Clopper-Pearson limit of k u successes in k})$,

where $s^2$ includes a quarter of a record at either end of the range. Without it, ten records with similar scores by
chance would count for too much: the error at alpha = 0.0002 was 2 to 4 times the nominal one. The distances of the two
sides are combined as those of independent estimates (Newcombe 1998, method 10): $A - \sqrt{d_{10}^2 + d_{01}^2}$. With
many records this is $A \mp t \sqrt{s_{10}^2/n + s_{01}^2/m}$. Scores of decisions have two values, so V is binomial and
k = N, without t. benchmarks/null_audits.py measures the error rates.

The balanced accuracy of decisions is the AUC of the scores 0 and 1: the mean of psi is then exactly (TPR + TNR) / 2.
"""

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit

from nanoprune.errors import ArgumentError
from nanoprune.lab.statistics.proportion import check_alpha

ENDS = 0.25  # share of a record that is added at either end of the range, in the variance of a side
ROUNDING = 1e-12  # a variance, or a distance from 0 or 1, below this counts as 0


def auc_interval(members: np.ndarray, nonmembers: np.ndarray, alpha: float = 0.05) -> dict[str, float]:
    """{"value", "low", "high"}: the AUC of the scores (n,) and (m,), and its 1 - alpha interval.

    Raises ArgumentError on fewer than two scores of a kind.
    """
    check_alpha(alpha)
    n, m = len(members), len(nonmembers)
    if min(n, m) < 2:
        raise ArgumentError(f"scores must be of at least 2 members and 2 non-members, got {n} and {m}")
    V10, V01 = placements(members, nonmembers)
    value = float(V10.mean())
    ends = np.array([f(f(members), f(nonmembers)) for f in (min, max)])  # the least and the greatest score
    ranges = [placements(ends, nonmembers)[0], placements(members, ends[::-1])[1]]  # of V10 and V01, each (2,)
    binary = all(((side == ends[0]) | (side == ends[1])).all() for side in (members, nonmembers))
    factor = 1.0 if binary else _quantile_ratio(V10.var(ddof=1) / n, V01.var(ddof=1) / m, n, m, alpha) ** 2
    distances = [_distances(V, *of, binary, factor, alpha) for V, of in zip((V10, V01), ranges, strict=True)]
    below, above = (float(np.hypot(*sides)) for sides in zip(*distances, strict=True))
    return {"value": value, "low": max(0.0, value - below), "high": min(1.0, value + above)}


def balanced_accuracy_interval(members: np.ndarray, nonmembers: np.ndarray, alpha: float = 0.05) -> dict[str, float]:
    """{"value", "low", "high"} of (TPR + TNR) / 2 for decisions (n,) and (m,), True for "member"."""
    return auc_interval(members.astype(np.float64), nonmembers.astype(np.float64), alpha)


def placements(members: np.ndarray, nonmembers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """V10 (n,) and V01 (m,), by sorting: n log n instead of n m comparisons."""
    V10 = (_count(nonmembers, members, "left") + _count(nonmembers, members, "right")) / (2 * len(nonmembers))
    V01 = 1 - (_count(members, nonmembers, "left") + _count(members, nonmembers, "right")) / (2 * len(members))
    return V10, V01


def _quantile_ratio(v10: float, v01: float, n: int, m: int, alpha: float) -> float:
    """z / t: the normal quantile over Student's with Satterthwaite's degrees of freedom; v10, v01 are variances."""
    total = v10 + v01
    if total < ROUNDING:
        return 1.0
    freedom = total**2 / (v10**2 / (n - 1) + v01**2 / (m - 1))
    return float(ndtri(1 - alpha / 2) / stdtrit(freedom, 1 - alpha / 2))


def _distances(
    V: np.ndarray, low: float, high: float, binary: bool, factor: float, alpha: float
) -> tuple[float, float]:
    """The distances of the lower and the upper limit from the mean of V (N,); V takes values in [low, high]."""
    if high - low < ROUNDING:  # all scores tie: the range of V is not known
        low, high = 0.0, 1.0
    N, width = len(V), high - low
    u = min(max((V.mean() - low) / width, 0.0), 1.0)
    u = round(u) if min(u, 1 - u) < ROUNDING else u
    variance = V.var(ddof=1) / width**2
    if binary or variance < ROUNDING:
        trials = float(N)
    else:
        variance += ENDS * (u**2 + (1 - u) ** 2) / (N - 1)
        trials = max(N * u * (1 - u) / variance * factor, 1.0)
    below = u - betaincinv(u * trials, (1 - u) * trials + 1, alpha / 2) if u > 0 else 0.0
    above = betaincinv(u * trials + 1, (1 - u) * trials, 1 - alpha / 2) - u if u < 1 else 0.0
    return width * float(below), width * float(above)


def _count(sample: np.ndarray, at: np.ndarray, side: str) -> np.ndarray:
    """How many of the sample are below ("left") or not above ("right") each value."""
    return np.searchsorted(np.sort(sample), at, side)
