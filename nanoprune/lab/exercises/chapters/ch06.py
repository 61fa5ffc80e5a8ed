"""Chapter 6: projections by enumeration of all supports."""

import itertools
from collections.abc import Callable

import numpy as np

from nanoprune.lab.exercises.compare import same, untouched
from nanoprune.lab.exercises.grading import Exercise


def nearest(W: np.ndarray, k: int) -> np.ndarray:
    """Over all choices of k of the first axis, in lexicographic order; the first of equals."""
    best, least = None, np.inf
    for kept in itertools.combinations(range(len(W)), k):
        Z = np.zeros_like(W)
        Z[list(kept)] = W[list(kept)]
        distance = ((Z - W) ** 2).sum()
        if distance < least:
            best, least = Z, distance
    return best


def nearest_sparse(answer: Callable) -> None:
    rng = np.random.default_rng(1)
    for k in (0, 1, 3, 6):
        for W in (rng.standard_normal(6), rng.integers(-2, 3, 6).astype(float)):
            expected = nearest(W, k)
            same(untouched(lambda a, k=k: answer(a, k), W), expected, f"nearest_sparse({list(W)}, {k})", 0.0)


def nearest_n_of_m(answer: Callable) -> None:
    rng = np.random.default_rng(2)
    for N, M in ((2, 4), (1, 3)):
        W = rng.integers(-3, 4, (3, 12)).astype(float)
        cells = W.reshape(3, 12 // M, M)
        expected = np.array([[nearest(cell, N) for cell in row] for row in cells]).reshape(W.shape)
        same(untouched(lambda a, n=N, m=M: answer(a, n, m), W), expected, f"nearest_n_of_m with {N}:{M}", 0.0)


def nearest_filters(answer: Callable) -> None:
    """A large entry in a small row and two rows of one norm are among the cases."""
    rng = np.random.default_rng(3)
    tied = np.array([[3.0, 0.0, 0.0], [2.0, 2.0, 2.0], [2.0, -2.0, 2.0], [0.0, 1.0, 0.0]])
    for W in (rng.standard_normal((5, 3)), tied):
        for k in (0, 1, 2):
            same(untouched(lambda a, k=k: answer(a, k), W), nearest(W, k), f"nearest_filters with k = {k}", 0.0)


EXERCISES = (
    Exercise("nearest_sparse", nearest_sparse),
    Exercise("nearest_n_of_m", nearest_n_of_m),
    Exercise("nearest_filters", nearest_filters),
)
