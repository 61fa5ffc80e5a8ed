r"""The one-run bound by trade-off curves, for training that is Gaussian differentially private.

Mahloujifar, Melis & Chaudhuri 2024 (arXiv 2410.22235). Training is f-differentially private if for each record no test
of "it was a member" against "it was not" has a TPR above 1 - f(FPR) (Dong, Roth & Su 2019). Of m records, each a
member with probability pi, an attacker guesses r, and C is the number of right guesses. For c right guesses let

    $R_c = \tfrac1m \sum_i P[\text{guess i right}, C \ge c], \quad H_c = \tfrac1m \sum_i P[\text{wrong}, C \ge c]$.

Whether the c - 1 other guesses are right does not depend on the record itself. So its right and wrong guesses are
the two outcomes of one test and $H_{c-1} \ge g(R_c)$, where g maps the probability of a right guess to the least
probability of a wrong one. If "c or more" has probability alpha, then $R_c \ge \alpha c / m$ and
$H_c = \alpha (r - c) / m$, and going down from c, $H_{i-1} = \max(H_i, g(R_i))$,
$R_{i-1} = R_i + (i - 1) / (r - i + 1) (H_{i-1} - H_i)$. The largest possible sum is r / m, so f is excluded where
$R_0 + H_0 > r / m$ (their algorithm 3, here with the counts of guesses).

For guesses of both kinds at pi = 1/2, $g(x) = \Phi(\Phi^{-1}(x) - \mu)$, as they have it. Where all guesses are
"member", a guess is right if S = 1 and wrong if S = 0, and the same test gives
$g(x) = (1 - \pi) \Phi(\Phi^{-1}(x / \pi) - \mu)$, for any pi. At pi = 1/2 it is at least as large (g is convex and
g(0) = 0), and so is the bound.

The curve is that of the Gaussian mechanism; DP-SGD's is close to it. **The bound does not hold for training with
another curve**: a claim of (epsilon, delta) alone is compared with `epsilon_lower_bound`.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr, ndtri

LARGEST = 100.0  # mu: the upper end of searches


def gaussian_mu_bound(
    records: int, guesses: int, right: int, alpha: float, prior: float | None = None, least: float = 0.0
) -> float:
    """The largest mu that `right` of `guesses` about `records` exclude at confidence 1 - alpha; `least` where no larger
    one is excluded. prior: pi, where all guesses are of one kind; None for guesses of both kinds at pi = 1/2."""

    def excess(mu: float) -> float:
        return probability_mass(mu, records, guesses, right, alpha, prior) - guesses / records

    start = max(least, 1e-9)
    if excess(start) <= 0:
        return least
    end = max(1.0, 2 * start)
    while excess(end) > 0:
        if end > LARGEST:
            return end
        start, end = end, 2 * end
    return float(brentq(excess, start, end, xtol=1e-9))


def probability_mass(
    mu: float, records: int, guesses: int, right: int, alpha: float, prior: float | None = None
) -> float:
    """R_0 + H_0 where "`right` or more" has probability alpha; mu is excluded where it is above guesses / records."""
    pi = 1.0 if prior is None else prior
    rest = 1.0 if prior is None else 1 - prior
    R, H = alpha * right / records, alpha * (guesses - right) / records
    for i in range(right - 1, -1, -1):
        wrong = rest * float(ndtr(ndtri(min(R / pi, 1.0)) - mu))
        if wrong <= H:
            break  # neither changes from here on
        R = min(R + i / (guesses - i) * (wrong - H), 1.0)
        H = wrong
    return R + H


def gaussian_epsilon(mu: float, delta: float) -> float:
    r"""The epsilon at `delta` of the Gaussian mechanism with sensitivity / noise = mu (Balle & Wang 2018, theorem 8):
    $\delta = \Phi(\mu/2 - \epsilon/\mu) - e^\epsilon \Phi(-\mu/2 - \epsilon/\mu)$. 0.0 where delta is large enough."""

    def excess(epsilon: float) -> float:
        return gaussian_delta(mu, epsilon) - delta

    if mu <= 0 or excess(0.0) <= 0:
        return 0.0
    end = 1.0
    while excess(end) > 0:
        end *= 2
    return float(brentq(excess, 0.0, end, xtol=1e-9))


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The delta at `epsilon` of the Gaussian mechanism with sensitivity / noise = mu."""
    return float(ndtr(mu / 2 - epsilon / mu)) - math.exp(min(epsilon + log_ndtr(-mu / 2 - epsilon / mu), 0.0))
