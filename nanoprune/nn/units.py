"""How a linear layer loses units: the algebra that Dense and Conv2D share.

A (O, C, k) are the weights of one replica, by output unit, input unit and place in the window (k = 1 in a dense layer),
b (O,) the biases, c (C,) the value of each input unit that is constant, and NaN for the others. All on the host.
"""

import numpy as np


def linear_constants(A: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The value of each output unit that reads nothing but constants, b + sum A c; NaN for the others. (O,) float64."""
    varies = (A[:, np.isnan(c)] != 0).any(axis=(1, 2))  # (O,)
    return np.where(varies, np.nan, b + contribution(A, c, ~np.isnan(c)))


def linear_needs(A: np.ndarray, needed: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The input units that are not constant and that a needed output unit reads; the first one if there are none."""
    read = (A[needed] != 0).any(axis=(0, 2)) & np.isnan(c)  # (C,)
    read[0] |= not read.any()
    return read


def contribution(A: np.ndarray, c: np.ndarray, of: np.ndarray) -> np.ndarray:
    """What the constant input units among `of` (bool) add to each output unit, in float64. (O,)"""
    of = of & ~np.isnan(c)
    return A[:, of].sum(axis=2, dtype=np.float64) @ c[of]
