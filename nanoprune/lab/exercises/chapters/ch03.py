"""Chapter 3: lowering by loops, its transpose by inner products, multiplications by counting."""

from collections.abc import Callable

import numpy as np

from nanoprune.lab.exercises.compare import same, untouched
from nanoprune.lab.exercises.grading import Exercise


def windows(X: np.ndarray, k: int) -> np.ndarray:
    """The windows of X (H, W) as columns, in loops."""
    OH, OW = X.shape[0] - k + 1, X.shape[1] - k + 1
    V = np.empty((k * k, OH * OW))
    for y, x, i, j in np.ndindex(OH, OW, k, k):
        V[i * k + j, y * OW + x] = X[y + i, x + j]
    return V


def lower(answer: Callable) -> None:
    rng = np.random.default_rng(1)
    for shape, k in (((5, 4), 3), ((4, 6), 2), ((3, 3), 1)):
        X = rng.standard_normal(shape)
        same(untouched(lambda a, k=k: answer(a, k), X), windows(X, k), f"lower of an image {shape} with k = {k}")


def fold(answer: Callable) -> None:
    """<lower(E), D> for each image E of one pixel is that pixel of fold(D)."""
    rng = np.random.default_rng(2)
    for (H, W), k in (((5, 4), 3), ((4, 6), 2)):
        D = rng.standard_normal((k * k, (H - k + 1) * (W - k + 1)))
        expected = np.empty((H, W))
        for y, x in np.ndindex(H, W):
            E = np.zeros((H, W))
            E[y, x] = 1
            expected[y, x] = (windows(E, k) * D).sum()
        same(untouched(lambda a, s=(H, W, k): answer(a, *s), D), expected, f"fold to {(H, W)} with k = {k}")


def multiplications(answer: Callable) -> None:
    for H, W, channels, kernels, k, m in ((8, 8, 1, 4, 3, 2), (10, 7, 3, 5, 3, 4), (12, 9, 2, 1, 5, 4)):
        loops = sum(1 for _ in np.ndindex(H - k + 1, W - k + 1, kernels, channels, k, k))
        tiles = (H - k + 1) // m
        fast = tiles * (m + k - 1) * (W - k + 1) * kernels * channels * k
        what = f"multiplications({H}, {W}, {channels}, {kernels}, {k}, {m})"
        same(answer(H, W, channels, kernels, k, m), (loops, fast), what)


EXERCISES = (Exercise("lower", lower), Exercise("fold", fold), Exercise("multiplications", multiplications))
