r"""LiRA on all released versions of a model: dense, pruned to several ratios, quantised.

An attacker with several versions sees a vector $\phi = (\phi_1, ..., \phi_d)$ for a record, the log odds of its label
under each. Versions are derived from one another, so the $\phi$ are correlated: their differences may reveal
membership. With normal vectors of covariance $\Sigma$, IN and OUT apart, the optimal test is the likelihood ratio

    $\log N(\phi; \mu_{in}, \Sigma_{in}) - \log N(\phi; \mu_{out}, \Sigma_{out}),$

whose AUC for one common $\Sigma$ is $\Phi(\sqrt{\delta^T \Sigma^{-1} \delta / 2})$, $\delta = \mu_{in} - \mu_{out}$.
A covariance of few shadow models is noisy or singular. Its correlations r are shrunk to $(1 - \lambda) r$, its
variances are kept (the target D of Schäfer & Strimmer 2005, doi 10.2202/1544-6115.1175, on the scale of correlations):

    $\lambda = \min(1, \sum_{a \ne b} Var(r_{ab}) / \sum_{a \ne b} r_{ab}^2), \quad Var(r) = (1 - r^2)^2 / f$

with f degrees of freedom. They estimate Var(r) from products of the data; ours is that of normal data, which LiRA
assumes anyway. Two models (f = 1) put every r at 1 or -1, whatever the truth is: there lambda is 1. With one version
there is nothing to shrink, and the score is LiRA's. CompLeak (2025) showed that versions leak jointly, with networks as
attackers; the likelihood ratio in their place is ours.
"""

from __future__ import annotations

import numpy as np

from nanoprune.attack.shadow.lira import covariance, log_normal
from nanoprune.attack.shadow.moments import Moments


def shrunk(sigma: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Covariances sigma (m, d, d) with freedom (m,) degrees of freedom each, their correlations shrunk towards 0."""
    spread = np.sqrt(np.einsum("mii->mi", sigma))  # (m, d)
    r = sigma / (spread[:, :, None] * spread[:, None, :])  # (m, d, d)
    off = ~np.eye(sigma.shape[-1], dtype=bool)
    noise = (np.maximum(1 - r**2, 0) ** 2 * off).sum(axis=(1, 2)) / np.maximum(freedom, 1)  # (m,)
    signal = (r**2 * off).sum(axis=(1, 2))  # (m,)
    kept = np.where(freedom > 1, 1 - np.minimum(1, noise / np.maximum(signal, 1e-300)), 0)  # 1 - lambda
    return np.where(off, kept[:, None, None] * sigma, sigma)


def lira_versions(target: np.ndarray, inner: Moments, outer: Moments, variance: str = "fixed") -> np.ndarray:
    """The log likelihood ratio (n,) of IN to OUT: target (n, d) of d versions, moments of their phi.

    variance: as of LiRA. Raises ArgumentError where a record has no IN or no OUT model.
    """
    terms = []
    for of in (inner, outer):
        sigma, freedom = covariance(of.checked(), variance), of.count - 1  # (n,)
        freedom = freedom.sum(keepdims=True) if variance == "fixed" else freedom
        terms.append(log_normal(target, of.mean, shrunk(sigma, freedom)))
    return terms[0] - terms[1]
