"""The scores of threshold attacks in log space, so that they order records whose probabilities round to 0 or 1.

All follow from the log odds $phi_c = log p_c / (1 - p_c)$ of every class, with $s(x) = log(1 + e^x)$:

    $log p_c = -s(-phi_c)$,    $log(1 - p_c) = -s(phi_c)$.

Each score is an increasing function of the one of the same name in `nanoprune/attack/scores.py` (Song & Mittal 2021,
arXiv 2003.10595), so that it has the same ROC and the same best decisions. phi is (n, classes), y is (n,); each
returns (n,) float64.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

BLOCK = 1 << 16  # elements of phi that are computed together: what is derived from them stays in the cache
LOG_ZERO = -746.0  # stands for log 0: the least positive float64 has the logarithm -744.4
LARGEST = 1e300  # log odds beyond it are not distinguished


def in_blocks(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """A function of rows, the first argument's (n, classes), computed for a block of them after another."""

    @functools.wraps(function)
    def of_blocks(*arrays: np.ndarray | None) -> np.ndarray:
        n, classes = arrays[0].shape
        rows = max(1, BLOCK // classes)
        blocks = [slice(start, start + rows) for start in range(0, max(n, 1), rows)]
        return np.concatenate([function(*(None if A is None else A[of] for A in arrays)) for of in blocks])

    return of_blocks


@in_blocks
def log_odds(p: np.ndarray, logits: np.ndarray | None = None) -> np.ndarray:
    """phi (n, classes) from the logits (n, classes), or from probabilities p where there are none:
    $phi_c = z_c - log sum_{k != c} e^{z_k}$."""
    if logits is None:
        with np.errstate(divide="ignore"):
            logits = np.maximum(np.log(p), LOG_ZERO)
    with np.errstate(over="ignore", divide="ignore"):  # beyond the largest float: clipped below
        z = logits - logits.max(axis=1, keepdims=True)
        first = z.argmax(axis=1, keepdims=True)
        rest = z.copy()
        np.put_along_axis(rest, first, -np.inf, axis=1)
        others = rest.max(axis=1, keepdims=True)
        rest -= others  # of the greatest class: the others relative to the second, which may be far below
        top = -(others + logsumexp(rest, axis=1, keepdims=True))
        terms = np.exp(z)
        below = terms.sum(axis=1, keepdims=True) - terms  # of any other class: holds the greatest, which is 1
        phi = z - np.log(np.maximum(below, 1.0))
    np.put_along_axis(phi, first, top, axis=1)
    return np.clip(phi, -LARGEST, LARGEST)


def correctness(phi: np.ndarray, y: np.ndarray) -> np.ndarray:
    """1 where the label is the predicted class, else 0."""
    return (phi.argmax(axis=1) == y).astype(np.float64)


def confidence(phi: np.ndarray, y: np.ndarray) -> np.ndarray:
    """phi_y, which increases with p_y and with log p_y."""
    return phi[np.arange(len(y)), y]


@in_blocks
def entropy(phi: np.ndarray, y: np.ndarray) -> np.ndarray:
    """-log H with $H = -sum_c p_c log p_c$: members are predicted with less entropy."""
    return -logsumexp(_log_p(phi) + _log_loss(phi), axis=1)


@in_blocks
def modified_entropy(phi: np.ndarray, y: np.ndarray) -> np.ndarray:
    """-log M with $M = -(1 - p_y) log p_y - sum_{c != y} p_c log(1 - p_c)$ (their equation 8)."""
    terms = _log_p(phi) + _log_loss(-phi)  # log of -p_c log(1 - p_c)
    own = confidence(phi, y)
    terms[np.arange(len(y)), y] = _log_p(-own) + _log_loss(own)
    return -logsumexp(terms, axis=1)


def _log_p(phi: np.ndarray) -> np.ndarray:
    """log p = -s(-phi)."""
    return -np.logaddexp(0, -phi)


def _log_loss(phi: np.ndarray) -> np.ndarray:
    """log(-log p) = log s(-phi); s(x) is e^x where that is less than the rounding of 1."""
    with np.errstate(divide="ignore"):
        return np.where(phi > 40, -phi, np.log(np.logaddexp(0, -np.minimum(phi, 700))))
