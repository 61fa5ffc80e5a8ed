"""Oracles that tests share: statistics by counting, one record after the other."""

import itertools
import math
import statistics
from fractions import Fraction

from scipy import stats
from scipy.optimize import brentq


def delong(members, nonmembers, alpha):
    """Placements, value and logit interval of the AUC by the double loop, in fractions up to the square root.

    The interval is None where the variance is 0.
    """
    outside = [float(y) for y in nonmembers]
    twice_psi = [[2 * (x > y) + (x == y) for y in outside] for x in map(float, members)]
    V10 = [Fraction(sum(row), 2 * len(row)) for row in twice_psi]
    V01 = [Fraction(sum(column), 2 * len(column)) for column in zip(*twice_psi, strict=True)]
    value = sum(V10) / len(V10)
    variance = statistics.variance(V10) / len(V10) + statistics.variance(V01) / len(V01)
    if variance == 0:
        return V10, V01, value, None
    A = float(value)
    half = statistics.NormalDist().inv_cdf(1 - alpha / 2) * math.sqrt(variance) / (A * (1 - A))
    centre = math.log(A) - math.log(1 - A)
    return V10, V01, value, [1 / (1 + math.exp(-(centre + sign * half))) for sign in (-1, 1)]


def epsilon_bound(members, nonmembers, alpha):
    """The k highest are guessed "member", the k lowest "non-member": the best of the lower limits of epsilon."""
    records = [(s, True) for s in members] + [(s, False) for s in nonmembers]
    odds = len(members) / len(nonmembers)
    ks, k = [len(records) // 2], len(records) // 4
    while k >= 8:
        ks, k = [*ks, k], k // 2
    best = 0.0
    for guess, k in itertools.product((True, False), ks):
        chosen = []
        for t in sorted({s for s, _ in records}, reverse=guess):  # equal scores together or not at all
            taken = [is_member for s, is_member in records if (s >= t if guess else s <= t)]
            chosen = taken if len(taken) <= k else chosen
        right = chosen.count(guess)
        if right:
            q = lower_limit(right, len(chosen), alpha / (2 * len(ks)))
            best = max(best, math.log(q / (1 - q) / (odds if guess else 1 / odds)))
    return best


def lower_limit(right, guesses, alpha):
    """The q at which `right` or more of the guesses are right with probability alpha."""
    return brentq(lambda q: stats.binom.sf(right - 1, guesses, q) - alpha, 1e-300, 1.0, xtol=1e-15)
