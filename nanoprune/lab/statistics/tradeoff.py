"""The bound of one run by trade-off curves, for training that is Gaussian differentially private.

Mahloujifar, Melis & Chaudhuri 2024 (arXiv 2410.22235). Training is f-differentially private if for each record no test
of "it was a member" against "it was not" has a TPR above 1 - f(FPR) (Dong, Roth & Su 2019). Of m records, each a
member with probability pi, let an attacker guess r, and let C be the number of right guesses. For c right guesses let

    $R_c = sum over records of P[guess right, C >= c] / m$,    $H_c = sum over records of P[guess wrong, C >= c] / m$.

Whether the c - 1 other guesses are right does not depend on the record itself, so that its right and wrong guesses are
the two outcomes of one test and $H_{c-1} >= g(R_c)$, with g the least probability of a wrong guess for that of a right
one. If "c or more" had probability alpha, then $R_c = alpha c / m$ at least and $H_c = alpha (r - c) / m$, and going
down from c, $H_{i-1} = max(H_i, g(R_i))$, $R_{i-1} = R_i + (i - 1) / (r - i + 1) (H_{i-1} - H_i)$; where
$R_0 + H_0 > r / m$, which is all there can be, f is excluded (their algorithm 3, here with the counts of guesses).

For guesses of both kinds at pi = 1/2, $g(x) = Phi(Phi^-1(x) - mu)$: their form. Where all guesses are "member",
right is S = 1 and wrong is S = 0, and the same test gives $g(x) = (1 - pi) Phi(Phi^-1(x / pi) - mu)$, for any pi;
at pi = 1/2 that is no less (g is convex and g(0) = 0), so that the bound is no smaller.

The curve is that of the Gaussian mechanism, which DP-SGD's is close to. **It says nothing of training with another
curve**: a claim of (epsilon, delta) alone is compared with `epsilon_lower_bound`.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr, ndtri

LARGEST = 100.0  # mu at which a search ends


def gaussian_mu_bound(
    records: int, guesses: int, right: int, alpha: float, prior: float | None = None, least: float = 0.0
) -> float:
    """The largest mu that `right` of `guesses` about `records` exclude at confidence 1 - alpha; `least` where none
    above that is excluded. prior: pi, where all guesses are of one kind; None for guesses of both kinds at pi = 1/2."""

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
    """R_0 + H_0 if "`right` or more" has probability alpha under a curve of mu; above guesses / records it cannot."""
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
    """The epsilon at `delta` of the Gaussian mechanism with sensitivity over noise mu (Balle & Wang 2018, theorem 8):
    $delta = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu)$. 0.0 where delta covers all of it."""

    def excess(epsilon: float) -> float:
        return gaussian_delta(mu, epsilon) - delta

    if mu <= 0 or excess(0.0) <= 0:
        return 0.0
    end = 1.0
    while excess(end) > 0:
        end *= 2
    return float(brentq(excess, 0.0, end, xtol=1e-9))


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The delta at `epsilon` of the Gaussian mechanism of mu."""
    return float(ndtr(mu / 2 - epsilon / mu)) - math.exp(min(epsilon + log_ndtr(-mu / 2 - epsilon / mu), 0.0))
