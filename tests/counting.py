"""Oracles that tests share: statistics by counting, record by record."""

import itertools
import math
import statistics
from fractions import Fraction

from scipy import stats
from scipy.optimize import brentq


def delong(members, nonmembers, alpha):
    """Placements, value and interval of the AUC by the double loop: placements and variances in fractions, the limits
    of each side by scipy's beta distribution, with the effective number of trials."""
    inside, outside = [float(x) for x in members], [float(y) for y in nonmembers]

    def above(x, others):
        return Fraction(sum(2 * (x > y) + (x == y) for y in others), 2 * len(others))

    V10, V01 = [above(x, outside) for x in inside], [1 - above(y, inside) for y in outside]
    value = sum(V10) / len(V10)
    values = set(inside + outside)
    parts = [statistics.variance(V) / len(V) for V in (V10, V01)]
    ratio = 1.0
    if len(values) > 2 and sum(parts):
        nu = float(sum(parts) ** 2 / sum(part**2 / (len(V) - 1) for part, V in zip(parts, (V10, V01), strict=True)))
        ratio = statistics.NormalDist().inv_cdf(1 - alpha / 2) / stats.t.ppf(1 - alpha / 2, nu)
    below, beyond = [], []
    for V, possible in ((V10, [above(x, outside) for x in values]), (V01, [1 - above(y, inside) for y in values])):
        low, width = min(possible), max(possible) - min(possible)
        low, width = (low, width) if width else (Fraction(0), Fraction(1))
        u, s2 = (statistics.mean(V) - low) / width, statistics.variance(V) / width**2
        ends = Fraction(1, 4) * (u**2 + (1 - u) ** 2) / (len(V) - 1)  # a quarter of a record at either end
        k = len(V) if len(values) <= 2 or not s2 else max(float(len(V) * u * (1 - u) / (s2 + ends)) * ratio**2, 1.0)
        least = stats.beta.ppf(alpha / 2, float(u) * k, float(1 - u) * k + 1) if u else 0.0
        most = stats.beta.isf(alpha / 2, float(u) * k + 1, float(1 - u) * k) if u < 1 else 1.0
        below.append(float(width) * (float(u) - least))
        beyond.append(float(width) * (most - float(u)))
    A = float(value)
    return V10, V01, value, [max(0.0, A - math.hypot(*below)), min(1.0, A + math.hypot(*beyond))]


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
