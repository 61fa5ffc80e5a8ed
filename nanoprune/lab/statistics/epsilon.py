"""A lower bound on the epsilon of differential privacy, from guesses about the members of one trained model.

Steinke, Nasr & Jagielski 2023 (arXiv 2305.08846): let every record have been a member by the toss of a coin, of its
own, that says yes with probability pi. If training is (epsilon, 0)-differentially private and an attacker who sees the
model guesses "member" for r records, then the number of right guesses is stochastically at most binomial,

    P[right >= v]  <=  P[Binomial(r, q) >= v],    q / (1 - q) = e^epsilon pi / (1 - pi),

whatever the attacker does; for guesses "non-member" the odds are (1 - pi) / pi. (They state it for pi = 1/2;
each guess's posterior odds are at most e^epsilon times the prior odds, which is all that their proof uses.)
So a lower confidence limit of q gives one of epsilon.

The guesses must not depend on who is a member: the k highest scores are guessed "member", the k lowest "non-member",
for several k fixed in advance, with alpha divided by their number (Bonferroni). Records of equal score are guessed
together or not at all. A split of fixed size, half and half, is less variable than coins: the bound is careful there.
"""

import numpy as np
from scipy.special import logit
from scipy.stats import beta

from nanoprune.errors import ArgumentError
from nanoprune.lab.statistics.proportion import check_alpha

FEWEST_GUESSES = 8  # even all right they bound epsilon by log(alpha^(-1/8) ...) or so: fewer could show nothing


def epsilon_lower_bound(members: np.ndarray, nonmembers: np.ndarray, alpha: float = 0.05) -> float:
    """The largest epsilon that the scores (n,) and (m,) exclude at confidence 1 - alpha; 0.0 where they exclude none.

    The scores must come from the model alone, or from the membership of records that are not among them.
    Raises ArgumentError where there are no members or no non-members.
    """
    check_alpha(alpha)
    if not (len(members) and len(nonmembers)):
        raise ArgumentError(f"scores must be of members and non-members, got {len(members)} and {len(nonmembers)}")
    scores = np.concatenate([members, nonmembers])
    is_member = np.repeat([True, False], [len(members), len(nonmembers)])
    prior = logit(is_member.mean())  # log odds of membership
    ks = guess_counts(len(scores))
    best = 0.0
    for sign, right, prior_odds in ((-1, is_member, prior), (1, ~is_member, -prior)):
        order = np.argsort(sign * scores, kind="stable")  # "member" for the highest, then "non-member" for the lowest
        ends = np.flatnonzero(np.diff(scores[order])) + 1  # numbers of guesses that part no tie
        hits = np.concatenate([[0], np.cumsum(right[order])])
        for k in ks:
            r = ends[np.searchsorted(ends, k, "right") - 1] if len(ends) and ends[0] <= k else 0
            if r:
                best = max(best, limit(int(hits[r]), int(r), alpha / (2 * len(ks))) - prior_odds)
    return float(best)


def guess_counts(n: int) -> list[int]:
    """How many guesses are tried on n records: n/2, n/4, ... down to FEWEST_GUESSES."""
    counts = [n // 2]
    while counts[-1] // 2 >= FEWEST_GUESSES:
        counts.append(counts[-1] // 2)
    return counts


def limit(right: int, guesses: int, alpha: float) -> float:
    """The log odds of the lower 1 - alpha confidence limit of a binomial q (one-sided Clopper-Pearson)."""
    return float(logit(beta.ppf(alpha, right, guesses - right + 1))) if right else -np.inf
