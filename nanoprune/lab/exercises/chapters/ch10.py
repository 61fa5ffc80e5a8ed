"""Chapter 10: clipping record by record, and the bound as a linear programme."""

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import linprog

from nanoprune.lab.exercises.compare import parts, same, untouched
from nanoprune.lab.exercises.grading import Exercise


def records() -> tuple[np.ndarray, np.ndarray, list]:
    """dY (3, 6), X (4, 6), and each record's gradient of W and b as one vector; one record's is zero."""
    rng = np.random.default_rng(1)
    dY, X = rng.standard_normal((3, 6)), rng.standard_normal((4, 6))
    dY[:, 2] = 0
    return dY, X, [np.concatenate([np.outer(dY[:, n], X[:, n]).ravel(), dY[:, n]]) for n in range(6)]


def record_lengths(answer: Callable) -> None:
    dY, X, gradients = records()
    same(untouched(answer, dY, X), [np.linalg.norm(g) for g in gradients], "the lengths")


def clipped_gradient(answer: Callable) -> None:
    dY, X, gradients = records()
    for C in (0.5, 3.0, 100.0):
        total = sum(g / max(1, np.linalg.norm(g) / C) for g in gradients)
        dW, db = parts(untouched(lambda a, b, C=C: answer(a, b, C), dY, X), "dW", "db")
        same(dW, total[:12].reshape(3, 4), f"dW with C = {C:g}")
        same(db, total[12:], f"db with C = {C:g}")


def advantage_bound(answer: Callable) -> None:
    for epsilon, delta in ((0.0, 0.0), (0.0, 0.1), (1.0, 1e-5), (3.0, 0.01)):
        e = math.exp(epsilon)
        found = linprog([-1, 1], A_ub=[[1, -e], [e, -1]], b_ub=[delta, e - 1 + delta], bounds=[(0, 1), (0, 1)])
        same(answer(epsilon, delta), -found.fun, f"advantage_bound({epsilon:g}, {delta:g})", 1e-8)


EXERCISES = (
    Exercise("record_lengths", record_lengths),
    Exercise("clipped_gradient", clipped_gradient),
    Exercise("advantage_bound", advantage_bound),
)
