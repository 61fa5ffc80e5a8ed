"""Wanda: pruning by weights and activations (Sun, Liu, Bair & Kolter 2024, arXiv 2306.11695)."""

from __future__ import annotations

import numpy as np

from nanoprune.lab.layerwise.quadratic import largest


def wanda(W: np.ndarray, H: np.ndarray, k: int) -> np.ndarray:
    r"""W (O, I) with the k weights of the largest $|W_{ij}|\, \|x_j\|_2$, $\|x_j\|^2 = H_{jj}$; the others are 0.

    The paper ranks the weights of each output alone; here those of the layer are ranked together, so that with
    orthonormal inputs the weights are those of magnitude pruning at the same k.
    """
    return np.where(largest(W * np.sqrt(np.diag(H)), k), W, 0.0)
