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

from nanoprune.errors import ArgumentError

FLOOR = 1e-6  # added to variances: all shadow models may agree on a record


def margin(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    r"""$\phi = z_y - \log \sum_{c \ne y} e^{z_c}$ (..., n), from logits z (..., n, classes) and labels y (n,)."""
    z = logits.astype(np.float64)
    at = np.broadcast_to(y, z.shape[:-1])[..., None]
    of_label = np.take_along_axis(z, at, axis=-1)[..., 0]
    np.put_along_axis(z, at, -np.inf, axis=-1)
    return of_label - logsumexp(z, axis=-1)


def moments(phi: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scatter matrix of each record's phi over the models that are chosen for it.

    phi (K, n, d); chosen (K, n) bool. Returns mu (n, d) and scatter (n, d, d).
    """
    count = chosen.sum(axis=0)
    if (count == 0).any():
        raise ArgumentError(f"shadows: record {np.argmin(count)} has none that saw it, or none that did not; use more")
    weights = chosen[..., None].astype(np.float64)  # (K, n, 1)
    mu = (weights * phi).sum(axis=0) / count[:, None]  # (n, d)
    centred = weights * (phi - mu)  # (K, n, d)
    return mu, np.einsum("kni,knj->nij", centred, centred)


def covariance(scatter: np.ndarray, chosen: np.ndarray, variance: str) -> np.ndarray:
    """(n, d, d) where `variance` is "record", (1, d, d) where it is "fixed"."""
    if variance not in ("record", "fixed"):
        raise ArgumentError(f"variance must be record or fixed, got {variance!r}")
    freedom = chosen.sum(axis=0) - 1  # (n,)
    floor = FLOOR * np.eye(scatter.shape[-1])
    if variance == "fixed":
        return (scatter.sum(axis=0) / max(freedom.sum(), 1) + floor)[None]
    return scatter / np.maximum(freedom, 1)[:, None, None] + floor


def log_normal(phi: np.ndarray, mu: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    r"""$\log N(\phi; \mu, \Sigma)$ without its constant: phi, mu (n, d), sigma (n or 1, d, d); (n,)."""
    off = phi - mu
    solved = np.linalg.solve(np.broadcast_to(sigma, (len(off), *sigma.shape[1:])), off[..., None])[..., 0]
    return -0.5 * ((off * solved).sum(axis=1) + np.linalg.slogdet(sigma)[1])


def lira_online(target: np.ndarray, phi: np.ndarray, inside: np.ndarray, variance: str = "fixed") -> np.ndarray:
    """The log likelihood ratio (n,) of IN to OUT: target (n,) or (n, d), phi (K, n) or (K, n, d), inside (K, n) bool.

    Raises ArgumentError where a record has no IN or no OUT model.
    """
    target, phi = (a.reshape(*shape, -1) for a, shape in ((target, inside.shape[1:]), (phi, inside.shape)))
    terms = []
    for chosen in (inside, ~inside):
        mu, scatter = moments(phi, chosen)
        terms.append(log_normal(target, mu, covariance(scatter, chosen, variance)))
    return terms[0] - terms[1]


def lira_offline(target: np.ndarray, phi: np.ndarray, inside: np.ndarray, variance: str = "fixed") -> np.ndarray:
    """The standard score (n,) of the target's phi (n,) under the record's OUT models; phi (K, n)."""
    mu, scatter = moments(phi[..., None], ~inside)
    sigma = covariance(scatter, ~inside, variance)
    return (target - mu[:, 0]) / np.sqrt(sigma[:, 0, 0])
