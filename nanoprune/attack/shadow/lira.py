r"""The likelihood-ratio attack, LiRA (Carlini et al. 2022, arXiv 2112.03570).

Some of K shadow models were trained on a record (IN), some were not (OUT). $\phi = \log (p_y / (1 - p_y))$ is about
normal over models (their section IV-C), and the target's phi is compared with both normal distributions:

    online    $\log N(\phi; \mu_{in}, \Sigma_{in}) - \log N(\phi; \mu_{out}, \Sigma_{out})$
    offline   $(\phi - \mu_{out}) / \sigma_{out}$                       (the same order as their one-sided test)

The variance is estimated for each record ("record") or pooled over all records ("fixed"), which is better with few
shadow models (their figure 8). phi may have several entries, as of an attacker who sees two models.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from nanoprune.attack.shadow.moments import Moments
from nanoprune.errors import ArgumentError

FLOOR = 1e-6  # added to variances: all shadow models may agree on a record


def margin(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    r"""$\phi = z_y - \log \sum_{c \ne y} e^{z_c}$ (..., n), from logits z (..., n, classes) and labels y (n,)."""
    z = logits.astype(np.float64)
    at = np.broadcast_to(y, z.shape[:-1])[..., None]
    of_label = np.take_along_axis(z, at, axis=-1)[..., 0]
    np.put_along_axis(z, at, -np.inf, axis=-1)
    return of_label - logsumexp(z, axis=-1)


def covariance(of: Moments, variance: str) -> np.ndarray:
    """(n, d, d) where `variance` is "record", (1, d, d) where it is "fixed"."""
    if variance not in ("record", "fixed"):
        raise ArgumentError(f"variance must be record or fixed, got {variance!r}")
    freedom = of.count - 1  # (n,)
    floor = FLOOR * np.eye(of.scatter.shape[-1])
    if variance == "fixed":
        return (of.scatter.sum(axis=0) / max(freedom.sum(), 1) + floor)[None]
    return of.scatter / np.maximum(freedom, 1)[:, None, None] + floor


def log_normal(phi: np.ndarray, mu: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    r"""$\log N(\phi; \mu, \Sigma)$ without its constant: phi, mu (n, d), sigma (n or 1, d, d); (n,)."""
    off = phi - mu
    solved = np.linalg.solve(np.broadcast_to(sigma, (len(off), *sigma.shape[1:])), off[..., None])[..., 0]
    return -0.5 * ((off * solved).sum(axis=1) + np.linalg.slogdet(sigma)[1])


def lira_online(target: np.ndarray, inner: Moments, outer: Moments, variance: str = "fixed") -> np.ndarray:
    """The log likelihood ratio (n,) of IN to OUT: target (n,) or (n, d), moments of phi over IN and over OUT models.

    Raises ArgumentError where a record has no IN or no OUT model.
    """
    target = target.reshape(len(target), -1)  # (n, d)
    terms = [log_normal(target, of.checked().mean, covariance(of, variance)) for of in (inner, outer)]
    return terms[0] - terms[1]


def lira_offline(target: np.ndarray, outer: Moments, variance: str = "fixed") -> np.ndarray:
    """The standard score (n,) of the target's phi (n,) under the record's OUT models."""
    sigma = covariance(outer.checked(), variance)
    return (target - outer.mean[:, 0]) / np.sqrt(sigma[:, 0, 0])
