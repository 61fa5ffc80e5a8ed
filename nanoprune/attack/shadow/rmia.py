r"""RMIA, the robust membership inference attack (Zarifzadeh, Liu & Shokri 2024, arXiv 2312.03262).

A record x is compared with population records z, which the target was not trained on:

    $LR(x, z) = r(x) / r(z), \quad r(x) = p(x | \theta) / p(x)$
    $score(x) = P_z[LR(x, z) \ge \gamma]$                             (their equations 2 to 4)

$p(x | \theta)$ is the probability that the target gives to the true label, and p(x) its mean over IN and OUT models.
Offline there are only OUT models, and $p_{in}$ is approximated by $a\,p_{out} + 1 - a$, so that

    $p(x) = ((1 + a)\,p_{out}(x) + 1 - a) / 2$                        (their section 3, "computing Pr(x)")
"""

from __future__ import annotations

import numpy as np

GAMMA = 2.0
A_GRID = np.linspace(0.0, 1.0, 11)
TINY = 1e-300  # stands in for a p(x) of 0: ratios stay finite, and no other p(x) is raised


def prior_online(p_in: np.ndarray, p_out: np.ndarray) -> np.ndarray:
    """p(x) (n,) from the mean of p_y over IN models and that over OUT models, (n,) each."""
    return (p_in + p_out) / 2


def prior_offline(p_out: np.ndarray, a: float) -> np.ndarray:
    """p(x) (n,) from the mean of p_y over OUT models (n,)."""
    return ((1 + a) * p_out + 1 - a) / 2


def rmia(
    target: np.ndarray, prior: np.ndarray, population: np.ndarray, population_prior: np.ndarray, gamma: float = GAMMA
) -> np.ndarray:
    """P_z[LR(x, z) >= gamma] (n,): target, prior (n,) are p(x | theta) and p(x), the population's (m,) those of z."""
    ratio_z = np.sort(population / np.maximum(population_prior, TINY))
    return np.searchsorted(ratio_z, target / np.maximum(prior, TINY) / gamma, side="right") / len(ratio_z)
