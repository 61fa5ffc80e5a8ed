r"""BaVarIA (Brännvall 2026, arXiv 2603.11799): LiRA with a conjugate prior on each record's mean and variance.

The $\phi$ of a record over models (see `lira.py`) are normal with unknown moments, $\sigma^2 \sim IG(a_0, b_0)$ and
$\mu | \sigma^2 \sim N(m_0, \sigma^2/\kappa_0)$. After K models with mean m and squared deviations S,

    $\kappa = \kappa_0 + K, \quad \mu_K = (\kappa_0 m_0 + K m) / \kappa, \quad a = a_0 + K/2,$
    $b = b_0 + S/2 + \kappa_0 K (m - m_0)^2 / (2 \kappa),$

and the predictive density of the target's phi is Student's t, of 2a degrees of freedom, location $\mu_K$ and squared
scale $b (\kappa + 1) / (a \kappa)$. A weak prior has each record's own variance, as LiRA's "record", a strong one the
pooled variance, as "fixed"; between them it weighs the two by how many models there are.

The paper's values of the prior were not available. Ours come from the shadow models by the method of moments, for IN
and OUT apart: $m_0$ the mean over records, $\kappa_0$ the ratio of the variance within records to that between them,
$a_0$ and $b_0$ from the mean and the spread of the records' variances.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from nanoprune.attack.shadow.lira import FLOOR
from nanoprune.attack.shadow.moments import Moments

STRONGEST = 1e6  # a_0 where records' variances differ by no more than chance


@dataclass(frozen=True)
class Prior:
    """The normal-inverse-gamma prior: m0, kappa0, a0, b0."""

    m0: float
    kappa0: float
    a0: float
    b0: float


def prior_of(mean: np.ndarray, scatter: np.ndarray, count: np.ndarray) -> Prior:
    """By moments, from n records: mean, scatter (sum of squared deviations) and count of models, each (n,)."""
    freedom = np.maximum(count - 1, 1)
    within = scatter.sum() / freedom.sum() + FLOOR
    between = max(mean.var() - within * (1 / count).mean(), FLOOR)
    chance = (2 / freedom).mean()  # Var(s^2) / sigma^4 of a normal sample
    spread = ((scatter / freedom).var() / within**2 - chance) / (1 + chance)  # Var(sigma^2) / E(sigma^2)^2
    a0 = min(2 + 1 / max(spread, 1e-12), STRONGEST)  # of IG: spread = 1 / (a0 - 2), mean = b0 / (a0 - 1)
    return Prior(float(mean.mean()), float(within / between), a0, float(within * (a0 - 1)))


def predictive(prior: Prior, mean: np.ndarray, scatter: np.ndarray, count: np.ndarray) -> tuple:
    """Degrees of freedom, location and scale of the predictive t, each (n,), from the moments of n records."""
    kappa, a = prior.kappa0 + count, prior.a0 + count / 2
    location = (prior.kappa0 * prior.m0 + count * mean) / kappa
    b = prior.b0 + scatter / 2 + prior.kappa0 * count * (mean - prior.m0) ** 2 / (2 * kappa)
    return 2 * a, location, np.sqrt(b * (kappa + 1) / (a * kappa))


def fitted(of: Moments) -> tuple:
    """`predictive` for moments of phi. Raises ArgumentError where a record has no model."""
    moments = of.checked().mean[:, 0], of.scatter[:, 0, 0], of.count
    return predictive(prior_of(*moments), *moments)


def bavaria_online(target: np.ndarray, inner: Moments, outer: Moments) -> np.ndarray:
    """The log ratio (n,) of the predictive densities of IN and OUT: target (n,), moments of phi."""
    densities = [stats.t.logpdf(target, *fitted(of)) for of in (inner, outer)]
    return densities[0] - densities[1]


def bavaria_offline(target: np.ndarray, outer: Moments) -> np.ndarray:
    """The target's phi (n,) in units of the predictive scale of its OUT models: the order of their one-sided p-values
    where every record has as many OUT models."""
    _, location, scale = fitted(outer)
    return (target - location) / scale
