"""SparseGPT (Frantar & Alistarh 2023, arXiv 2301.00774)."""

from __future__ import annotations

import numpy as np

from nanoprune.lab.layerwise.quadratic import damped, largest

BLOCK = 128  # columns whose mask is chosen at once


def sparsegpt(W: np.ndarray, H: np.ndarray, k: int, block: int = BLOCK) -> np.ndarray:
    r"""At most k weights of W (O, I); columns are pruned from left to right, later columns make up for it.

    With $H^{-1} = U^T U$, U upper triangular, $U_{jj}^2$ is the first entry of $H_{j:,j:}^{-1}$, and
    $U_{jj} U_{j,j:}$ its first row: what the optimal brain surgeon needs where the columns before j are fixed. In each
    block of columns the weights of the lowest $w_{ij}^2 / U_{jj}^2$ are pruned, by which the error rises; then, column
    by column, $W_{:,j:} \leftarrow W_{:,j:} - e\, U_{j,j:}$ with $e_i = w_{ij} / U_{jj}$ where $w_{ij}$ is pruned, else
    0 (their algorithm 1). H is damped. Each block keeps its share of the k weights.
    """
    W, (_, I) = W.copy(), W.shape
    U = np.linalg.cholesky(np.linalg.inv(damped(H))).T
    for start in range(0, I, block):
        stop = min(start + block, I)
        keep = largest(W[:, start:stop] / np.diag(U)[start:stop], k * stop // I - k * start // I)  # (O, columns)
        for j in range(start, stop):
            pruned = ~keep[:, j - start]  # (O,)
            e = np.where(pruned, W[:, j] / U[j, j], 0.0)
            W[:, j:] -= e[:, None] * U[j, j:]
            W[pruned, j] = 0.0  # and not what rounding leaves
    return W
