r"""The error of a layer's outputs, $\|W X - B X\|^2 = \mathrm{tr}\,(W - B) H (W - B)^T$ with $H = X X^T$.

W and B are (O, I), H (I, I), all float64.
"""

from __future__ import annotations

import numpy as np

DAMPING = 0.01  # of the mean diagonal entry, as in the code of SparseGPT and ALPS


def error(W: np.ndarray, B: np.ndarray, H: np.ndarray) -> float:
    """The squared error of the outputs where B is in place of W."""
    return float((((W - B) @ H) * (W - B)).sum())


def damped(H: np.ndarray) -> np.ndarray:
    r"""$H + \lambda I$, $\lambda$ a hundredth of the mean diagonal entry: an inverse exists, inputs that are always 0
    included."""
    return H + (DAMPING * np.diag(H).mean() + 1e-12) * np.eye(len(H))


def refit(W: np.ndarray, support: np.ndarray, H: np.ndarray) -> np.ndarray:
    r"""The B of least error with zeros outside of `support` (O, I) bool: row by row, $H_{SS}\, b_S = (H w)_S$."""
    B, targets = np.zeros_like(W), W @ H
    for row, target, alive in zip(B, targets, support, strict=True):
        S = np.flatnonzero(alive)
        row[S] = np.linalg.solve(H[np.ix_(S, S)], target[S])
    return B


def largest(A: np.ndarray, k: int) -> np.ndarray:
    """True at the k entries of largest magnitude, ties to the first; the shape of A, bool."""
    keep = np.zeros(A.size, bool)
    keep[np.argsort(-np.abs(A), axis=None, kind="stable")[:k]] = True
    return keep.reshape(A.shape)
