"""Answers to the exercises of chapter 3."""

import numpy as np


def lower(X, k):
    H, W = X.shape
    rows = [X[i : i + H - k + 1, j : j + W - k + 1].ravel() for i in range(k) for j in range(k)]
    return np.array(rows)


def fold(D, H, W, k):
    X, OH, OW = np.zeros((H, W)), H - k + 1, W - k + 1
    for row, (i, j) in zip(D, np.ndindex(k, k), strict=True):
        X[i : i + OH, j : j + OW] += row.reshape(OH, OW)
    return X


def multiplications(H, W, channels, kernels, k, m):
    OH, OW = H - k + 1, W - k + 1
    loops = OH * OW * kernels * channels * k * k
    return loops, loops * (m + k - 1) // (m * k)
