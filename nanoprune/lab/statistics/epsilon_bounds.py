r"""Empirical lower bounds on the epsilon of differential privacy, from guesses about the members of one trained model.

Each record is a member independently with probability pi. An attacker who sees the model guesses "member" for r of the
m records, and v of these guesses are right.

**(epsilon, delta).** Steinke, Nasr & Jagielski 2023 (arXiv 2305.08846, theorem 5.2): if training is
(epsilon, delta)-differentially private, then for any attacker

    $P[\text{right} \ge v] \le b(v) + 2 m \delta \max_i (b(v - i) - b(v)) / i, \quad b(v) = P[Binomial(r, q) \ge v]$,
    $q / (1 - q) = e^\epsilon \pi / (1 - \pi)$;

for guesses "non-member" the odds are (1 - pi) / pi. They state it for pi = 1/2. Their proof bounds each guess's
posterior odds by e^epsilon times the prior odds, except for outputs of probability at most
pi delta + (1 - pi) delta = delta, so it holds for any pi. An epsilon is excluded where the right side is below alpha.

**Gaussian.** `nanoprune/lab/statistics/tradeoff.py`: a larger bound, for training whose trade-off curve is that of the
Gaussian mechanism.

The guesses must not depend on the membership: the k highest scores are guessed "member", the k lowest "non-member", for
several k fixed in advance, with alpha divided by their number (Bonferroni). Records of equal score are guessed together
or not at all.

Conditions. Membership was drawn at random, independently for each record; a split of fixed size is less variable than
independent draws. The number of members is public: an attacker who knows it and all memberships but one knows the last
one too, so no bound can hold against such an attacker.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import beta, binom

from nanoprune.errors import ArgumentError
from nanoprune.lab.statistics.proportion import check_alpha
from nanoprune.lab.statistics.tradeoff import gaussian_epsilon, gaussian_mu_bound

FEWEST_GUESSES = 8  # all of 8 right bound epsilon by log odds of alpha^(1/8), about 0.8 at alpha = 0.05
LARGEST = 60.0  # log odds: the upper end of searches


def epsilon_lower_bound(
    members: np.ndarray, nonmembers: np.ndarray, alpha: float = 0.05, delta: float = 0.0, chance: float | None = None
) -> float:
    """The largest epsilon that the scores (n,) and (m,) exclude at confidence 1 - alpha for (epsilon, delta)-
    differential privacy; 0.0 where they exclude none.

    The scores must come from the model alone, or from the membership of records that are not among them. chance: pi,
    where it is known, as of canaries; by default the share of members.
    Raises ArgumentError where there are no members or no non-members, or delta is not one.
    """
    check_delta(delta)
    best = 0.0
    for right, guesses, prior, each, records in guess_table(members, nonmembers, alpha, chance):
        if limit(right, guesses, each) - prior > best:  # with delta = 0 the bound is largest
            best = max(best, limit(right, guesses, each, records, delta) - prior)
    return float(best)


def gaussian_lower_bound(
    members: np.ndarray, nonmembers: np.ndarray, alpha: float, delta: float, chance: float | None = None
) -> float:
    """As `epsilon_lower_bound`, for training whose trade-off curve is that of the Gaussian mechanism: the epsilon at
    `delta` of the largest mu that is excluded. It excludes no epsilon of other training."""
    check_delta(delta, positive=True)  # at delta = 0 the Gaussian mechanism has no finite epsilon
    mu = 0.0
    for right, guesses, prior, each, records in guess_table(members, nonmembers, alpha, chance):
        mu = max(mu, gaussian_mu_bound(records, guesses, right, each, float(expit(prior)), mu))
    return gaussian_epsilon(mu, delta)


def guess_table(
    members: np.ndarray, nonmembers: np.ndarray, alpha: float, chance: float | None = None
) -> list[tuple[int, int, float, float, int]]:
    """(right, guesses, log prior odds of a right guess, its share of alpha, records) for each set of guesses."""
    check_alpha(alpha)
    if not (len(members) and len(nonmembers)):
        raise ArgumentError(f"scores must be of members and non-members, got {len(members)} and {len(nonmembers)}")
    scores = np.concatenate([members, nonmembers])
    is_member = np.repeat([True, False], [len(members), len(nonmembers)])
    prior = float(logit(is_member.mean() if chance is None else chance))
    ks, table = guess_counts(len(scores)), []
    for sign, right, odds in ((-1, is_member, prior), (1, ~is_member, -prior)):
        order = np.argsort(sign * scores, kind="stable")  # "member" for the highest, then "non-member" for the lowest
        ends = np.flatnonzero(np.diff(scores[order])) + 1  # numbers of guesses that separate no tied records
        hits = np.concatenate([[0], np.cumsum(right[order])])
        for k in ks:
            r = int(ends[np.searchsorted(ends, k, "right") - 1]) if len(ends) and ends[0] <= k else 0
            if r:
                table.append((int(hits[r]), r, odds, alpha / (2 * len(ks)), len(scores)))
    return table


def guess_counts(n: int) -> list[int]:
    """The numbers of guesses that are tried on n records: n/2, n/4, ... down to FEWEST_GUESSES."""
    counts = [n // 2]
    while counts[-1] // 2 >= FEWEST_GUESSES:
        counts.append(counts[-1] // 2)
    return counts


def limit(right: int, guesses: int, alpha: float, records: int = 0, delta: float = 0.0) -> float:
    """The largest log odds of q that `right` of `guesses` exclude: with delta = 0 the one-sided Clopper-Pearson limit,
    else where the theorem's right side is alpha. -inf where none are excluded."""
    if not right:
        return -np.inf
    exact = float(logit(beta.ppf(alpha, right, guesses - right + 1)))
    if not delta:
        return exact

    def excess(log_odds: float) -> float:
        return p_value(right, guesses, float(expit(log_odds)), records, delta) - alpha

    end = exact + 1e-6  # where even delta = 0 excludes nothing
    return float(brentq(excess, -LARGEST, end)) if excess(-LARGEST) < 0 else -np.inf


def p_value(right: int, guesses: int, q: float, records: int, delta: float) -> float:
    """The right side of the theorem: an upper bound on the probability of so many right guesses."""
    tail = binom.sf(right - 1, guesses, q)
    i = np.arange(1, right + 1)
    gained = np.max((binom.sf(right - i - 1, guesses, q) - tail) / i, initial=0.0)
    return float(tail + 2 * records * delta * gained)


def epsilon_of_runs(
    true_positives: int, inside: int, false_positives: int, outside: int, alpha: float = 0.05, delta: float = 0.0
) -> float:
    r"""A lower bound on epsilon from many models and one record; 0.0 where no epsilon is excluded.

    The arguments count the models that a decision rule classifies as trained on the record, among those that were
    (`inside`) and those that were not (`outside`). The rule and the record must have been chosen on other models.
    (epsilon, delta)-privacy implies $TPR \le e^\epsilon FPR + \delta$ and $TNR \le e^\epsilon FNR + \delta$; the rates
    are replaced by Clopper-Pearson limits of confidence 1 - alpha/2 each (Jagielski, Ullman & Oprea 2020, arXiv
    2006.07709; Nasr et al. 2021, arXiv 2101.04535). The models must be independent.
    """
    check_alpha(alpha)
    check_delta(delta)
    for count, of in ((true_positives, inside), (false_positives, outside)):
        if not (0 <= count <= of and of >= 1):
            raise ArgumentError(f"positives must lie between 0 and their models >= 1, got {count} of {of}")
    FPR, FNR = (
        float(beta.ppf(1 - alpha / 2, wrong + 1, of - wrong)) if wrong < of else 1.0
        for wrong, of in ((false_positives, outside), (inside - true_positives, inside))
    )
    found = [np.log((1 - missed - delta) / wrong) for missed, wrong in ((FNR, FPR), (FPR, FNR)) if 1 - missed > delta]
    return float(max([0.0, *found]))


def check_delta(delta: float, positive: bool = False) -> None:
    """ArgumentError unless 0 <= delta < 1; `positive`: unless 0 < delta < 1."""
    if not 0 <= delta < 1 or (positive and not delta):
        raise ArgumentError(f"delta must lie between 0 and 1, got {delta}")
