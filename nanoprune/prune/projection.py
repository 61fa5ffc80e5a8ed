"""Euclidean projection onto the vectors with at most k nonzero entries."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError


def project(W: Any, k: int, out: Any = None) -> Any:
    r"""$\Pi(W) = \mathrm{argmin}_Z \|Z - W\|$ subject to $\|Z\|_0 \le k$: keep the k largest magnitudes, zero the rest.

    W: (n,), any real dtype. Ties go to the lower index, so that Pi is a function. $\|\Pi(W) - W\|^2$ is the sum of the
    squares that are dropped, hence least when the smallest are. Returns a new array, or `out`, which may be W. Raises
    ArgumentError if k is not in 0..n or W holds a NaN or an infinity.
    """
    n = W.shape[0]
    if not 0 <= k <= n:
        raise ArgumentError(f"k must lie in 0..{n}, got {k}")
    out = xp.empty_like(W) if out is None else out
    return xp.multiply(W, largest(W, k), out=out)


def largest(W: Any, k: int) -> Any:
    """True at the k entries of W (n,) of largest magnitude, ties to the lower index; (n,) bool."""
    n = W.shape[0]
    magnitude = xp.abs(W)
    if not xp.isfinite(magnitude).all():
        raise ArgumentError("W holds NaN or infinity, which have no nearest sparse point; the training has diverged")
    if k == 0:
        return xp.zeros(n, bool)
    threshold = xp.partition(magnitude, n - k)[n - k]  # the k-th largest magnitude
    keep = magnitude > threshold  # fewer than k entries
    ties = xp.flatnonzero(magnitude == threshold)  # in ascending order
    keep[ties[: k - int(keep.sum())]] = True
    return keep
