"""Checks of intervals and bounds against closed forms."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from nanoprune.lab.statistics import auc_interval, balanced_accuracy_interval, epsilon_lower_bound, epsilon_of_runs
from nanoprune.lab.statistics.epsilon_bounds import limit
from nanoprune.lab.statistics.tradeoff import gaussian_delta, gaussian_mu_bound
from nanoprune.lab.verify.layers import Pair

ALPHA = 0.05


def log_odds(q: float) -> float:
    return math.log(q / (1 - q))


def separated_epsilon() -> Pair:
    """6 members score above 6 non-members: one number of guesses for two sides, all right, so q^6 = alpha / 2."""
    return epsilon_lower_bound(np.arange(6) + 9.0, np.arange(6.0), ALPHA), log_odds((ALPHA / 2) ** (1 / 6))


def epsilon_with_delta() -> Pair:
    """Two right guesses of two: q^2 + 2 m delta max((2 q (1 - q)), (1 - q^2) / 2) = alpha, a quadratic in q.

    For q < 1/3 the second term is the larger one: q^2 (1 - m delta) = alpha - m delta.
    """
    m, delta = 10, 1e-3
    q = math.sqrt((ALPHA - m * delta) / (1 - m * delta))
    return limit(2, 2, ALPHA, m, delta), log_odds(q)


def gaussian_one_guess() -> Pair:
    """The best guess of one record is right with probability Phi(mu / 2)."""
    return [gaussian_mu_bound(1, 1, 1, a) for a in (0.6, 0.9)], [2 * NormalDist().inv_cdf(a) for a in (0.6, 0.9)]


def gaussian_at_zero() -> Pair:
    """At epsilon 0, delta is the total variation of two normals mu apart: 2 Phi(mu / 2) - 1."""
    mus = (0.1, 1.0, 3.0)
    return [gaussian_delta(mu, 0.0) for mu in mus], [math.erf(mu / math.sqrt(8)) for mu in mus]


def many_models() -> Pair:
    """50 models with the record and 50 without, all classified right: the error is at most 1 - (alpha / 2)^(1/50)."""
    wrong = 1 - (ALPHA / 2) ** (1 / 50)
    deltas = (0.0, 0.1)
    ours = [epsilon_of_runs(50, 50, 0, 50, ALPHA, delta) for delta in deltas]
    return ours, [math.log((1 - wrong - delta) / wrong) for delta in deltas]


def perfect_decisions() -> Pair:
    """All of n members and m non-members right: 1 - sqrt(sum over sides of ((1 - (alpha / 2)^(1/N)) / 2)^2)."""
    n, m = 12, 30
    ours = balanced_accuracy_interval(np.ones(n, bool), np.zeros(m, bool), ALPHA)["low"]
    return ours, 1 - math.hypot(*((1 - (ALPHA / 2) ** (1 / N)) / 2 for N in (n, m)))


def scores_that_tie() -> Pair:
    """All scores equal: each side's lower limit is that of one success in two trials, 1 - sqrt(1 - alpha / 2)."""
    alpha = 0.9  # at a small alpha these few records exclude nothing
    distance = math.sqrt(2) * (0.5 - (1 - math.sqrt(1 - alpha / 2)))
    ours = auc_interval(np.zeros(2), np.zeros(2), alpha)
    return [ours["low"], ours["high"]], [max(0.0, 0.5 - distance), min(1.0, 0.5 + distance)]
