r"""Differences between two attacks on the same records: paired intervals of second less first.

What both attacks owe to the records cancels, so that a paired interval is shorter than two that overlap suggest.

**Decisions.** A record on which both say the same adds nothing. Of N members let g be accused by the second attack
alone and l by the first alone: the TPR changes by $(g - l) / N$. Were g and l counts of Poisson variables, exact limits
of their means would be Garwood's (1936), quantiles of gamma distributions; they are combined as those of independent
estimates (Donner & Zou 2012: the square-root form of "MOVER"),

    $low = d - sqrt(sum of w^2 (count - its limit)^2)$,

over g with its lower and l with its upper limit, each of weight w = 1/N; the non-members' counts come in alike, with
the opposite sign and weight 1/(2 m), where the balanced accuracy changes. Where the attacks are equal this is as exact
as a sign test: five records that change sides all one way do not tell them apart at alpha = 0.05, six do, and none
that change leave 3.7 / N open. Where they differ by d it is wider than need be, as $d^2$ is left in the variance.

Two models that leak equally are attacked by thresholds that were fitted on few records, and one of them may have been
luckier. So the jackknife's variance of d, from decisions of attacks that are fitted without a part of their records, is
combined with the rest, as a normal estimate. Without it intervals err more often than alpha where thresholds are fitted
on 200 records. Its quantile is the normal one, though it has four parts: the jackknife's variance is too large on
average (Efron & Stein 1981), so that models that leak equally are told apart less often than alpha already, and
Student's quantile of three degrees of freedom would only make intervals longer (tests/test_compare.py simulates it).

**AUC.** With the placements V of `delong.py`, the differences $V10_second - V10_first$ of the members and of the
non-members have DeLong, DeLong & Clarke-Pearson's (1988) covariance in their variances; Student's quantile with
Satterthwaite's degrees of freedom takes the place of the normal one, and half a record with the largest change that is
seen is added to each side, since where few change the variance is too small as often as not. Where no placement changes
(two attacks may both be right about every pair) a share q of pairs may still be ordered otherwise: of k = min(n, m)
pairs without a record in common none was, with a probability of $(1 - q)^k$, so that the interval is
$\pm (1 - alpha^{1/k})$. It is 0 alone where both order all records alike, and so are one attack.

**TPR at fixed FPR.** The two thresholds are those of the non-members at hand, of whom a binomial number lies above the
threshold of that FPR. What that number's limits do to each TPR is combined with the members' limits, by MOVER again.

tests/test_paired.py enumerates and simulates the error rates.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaincinv, ndtri, stdtrit
from scipy.stats import binom, rankdata

from nanoprune.attack import metrics
from nanoprune.errors import ArgumentError
from nanoprune.lab.statistics.delong import placements
from nanoprune.lab.statistics.proportion import check_alpha

ADDED = 0.5  # records of the largest change that are added to the variance of an AUC's difference, on each side
Difference = dict[str, float]


def accuracy_difference(
    first: np.ndarray,
    second: np.ndarray,
    member: np.ndarray,
    alpha: float = 0.05,
    refitted: tuple[np.ndarray, np.ndarray] | None = None,
) -> Difference:
    """{"value", "low", "high"} of the balanced accuracy of `second` less that of `first`: decisions (n,) bool, True
    where "member" was said, about the same records; member (n,) bool. Raises ArgumentError without records of a kind.

    refitted: the decisions of both (Q, n) where one of Q parts of what they were fitted on is left out. Without it the
    attacks are taken as given, and the interval is for them alone; with it, for attacks that are fitted so.
    """
    _check(first, second, member, alpha)
    change = second.astype(np.int64) - first.astype(np.int64)
    fit = 0.0
    if refitted is not None:
        without = refitted[1].astype(np.int64) - refitted[0].astype(np.int64)  # (Q, n)
        values = (without[:, member].mean(axis=1) - without[:, ~member].mean(axis=1)) / 2
        variance = (len(values) - 1) * values.var()  # the jackknife's
        fit = float(ndtri(1 - alpha / 2) * np.sqrt(variance))
    return _combined([(change[member], 0.5), (-change[~member], 0.5)], alpha, (fit,), (fit,))


def tpr_difference(
    first: np.ndarray, second: np.ndarray, member: np.ndarray, fpr: float, alpha: float = 0.05
) -> Difference | None:
    """{"value", "low", "high"} of the TPR at `fpr` of the scores `second` (n,) less that of `first`; None where fewer
    than 1 / fpr non-members can say."""
    _check(first, second, member, alpha)
    others = int((~member).sum())
    if others < metrics.needed_nonmembers(fpr):
        return None
    k = int(fpr * others + 1e-9)
    few, many = (int(binom.ppf(p, others, fpr)) for p in (alpha / 2, 1 - alpha / 2))
    said, spread = [], []
    for scores in (first, second):
        outside = np.concatenate([[np.inf], np.sort(scores[~member])[::-1]])  # the i-th largest at place i
        found = [scores[member] > outside[at] for at in (k + 1, few, min(many + 1, others))]
        said.append(found[0])
        spread.append([float(np.mean(found[0]) - np.mean(found[1])), float(np.mean(found[2]) - np.mean(found[0]))])
    change = said[1].astype(np.int64) - said[0].astype(np.int64)
    (first_down, first_up), (second_down, second_up) = spread
    return _combined([(change, 1.0)], alpha, (second_down, first_up), (second_up, first_down))


def auc_difference(first: np.ndarray, second: np.ndarray, member: np.ndarray, alpha: float = 0.05) -> Difference:
    """{"value", "low", "high"} of the AUC of the scores `second` (n,) less that of `first`, on the same records.

    Raises ArgumentError on fewer than two records of a kind.
    """
    _check(first, second, member, alpha)
    before, after = (placements(of[member], of[~member]) for of in (first, second))
    sides = [b - a for a, b in zip(before, after, strict=True)]  # each in [-1, 1]
    if min(map(len, sides)) < 2:
        raise ArgumentError("member must have at least 2 members and 2 non-members")
    value = float(sides[0].mean())
    if not any(side.any() for side in sides):
        alike = np.array_equal(rankdata(first), rankdata(second))
        unseen = 0.0 if alike else 1 - alpha ** (1 / min(map(len, sides)))
        return {"value": 0.0, "low": -unseen, "high": unseen}
    sizes, largest = np.array(list(map(len, sides))), max(float(np.abs(side).max()) for side in sides)
    variances = (np.array([side.var(ddof=1) for side in sides]) + ADDED * largest**2 / sizes) / sizes
    freedom = variances.sum() ** 2 / (variances**2 / (sizes - 1)).sum()
    half = float(stdtrit(freedom, 1 - alpha / 2) * np.sqrt(variances.sum()))
    return {"value": value, "low": max(-1.0, value - half), "high": min(1.0, value + half)}


def _combined(sides: list[tuple[np.ndarray, float]], alpha: float, below: tuple = (), above: tuple = ()) -> Difference:
    """The sum over `sides` of weight times the mean of changes (N,), each -1, 0 or 1, with its limits; below, above:
    more distances that are combined with them."""
    value, squares = 0.0, np.zeros(2)  # of the distances below and above
    for change, weight in sides:
        N, up, down = len(change), int((change > 0).sum()), int((change < 0).sum())
        value += weight * (up - down) / N
        down_up = [_poisson_distances(count, alpha) for count in (up, down)]
        for i in range(2):  # below: fewer up, more down
            squares[i] += (weight / N) ** 2 * (down_up[0][i] ** 2 + down_up[1][1 - i] ** 2)
    squares += [sum(d**2 for d in below), sum(d**2 for d in above)]
    low, high = value - np.sqrt(squares[0]), value + np.sqrt(squares[1])
    return {"value": value, "low": max(-1.0, float(low)), "high": min(1.0, float(high))}


def _poisson_distances(count: int, alpha: float) -> tuple[float, float]:
    """How far Garwood's limits lie below and above a count."""
    low = float(gammaincinv(count, alpha / 2)) if count else 0.0
    return count - low, float(gammaincinv(count + 1, 1 - alpha / 2)) - count


def _check(first: np.ndarray, second: np.ndarray, member: np.ndarray, alpha: float) -> None:
    check_alpha(alpha)
    if not len(first) == len(second) == len(member):
        raise ArgumentError(f"attacks must be on the same records, got {len(first)}, {len(second)} and {len(member)}")
    if member.all() or not member.any():
        raise ArgumentError("member must have members and non-members")
