"""Chapter 7: a round by its optimality conditions, fixed points by enumeration, the penalty by its inequality."""

import itertools
from collections.abc import Callable

import numpy as np

from nanoprune.lab.exercises.chapters.ch06 import nearest
from nanoprune.lab.exercises.compare import Wrong, parts, same, untouched
from nanoprune.lab.exercises.grading import Exercise


def admm_round(answer: Callable) -> None:
    """z is the nearest point, the gradient of the W-step is zero, and rho u = -grad L(w) follows."""
    rng = np.random.default_rng(1)
    for rho in (0.3, 5.0):
        A, b = rng.standard_normal((8, 6)), rng.standard_normal(8)
        w, z, u = rng.standard_normal((3, 6))
        found = untouched(lambda *a, r=rho: answer(a[0], a[1], 2, r, *a[2:]), A, b, w, z, u)
        new_w, new_z, new_u = parts(found, "w", "z", "u")
        same(new_z, nearest(w + u, 2), "z")
        gradient = A.T @ (A @ new_w - b) + rho * (new_w - new_z + u)
        same(gradient, np.zeros(6), "the gradient of the W-step at your w", 1e-8)
        same(new_u, -(A.T @ (A @ new_w - b)) / rho, "u", 1e-8)


def is_fixed_point(answer: Callable) -> None:
    """Least squares on every support: a fixed point exactly if no other entry of the gradient is too steep."""
    rng = np.random.default_rng(2)
    A, b, k = rng.standard_normal((8, 5)), rng.standard_normal(8), 2
    seen = set()
    for rho in (2.0, 12.0, 40.0):
        for support in map(list, itertools.combinations(range(5), k)):
            w = np.zeros(5)
            w[support] = np.linalg.lstsq(A[:, support], b, rcond=None)[0]
            steepest = np.abs(np.delete(A.T @ (A @ w - b), support)).max()
            expected = bool(steepest / rho < np.abs(w[support]).min())
            seen.add(expected)
            got = answer(A, b, k, rho, w)
            if bool(got) != expected:
                raise Wrong(f"for the least-squares solution on the entries {support} with rho = {rho:g} it is {got}")
    if bool(answer(A, b, k, 12.0, np.ones(5))):
        raise Wrong("a vector with five entries is no fixed point for k = 2")
    assert seen == {True, False}


def least_penalty(answer: Callable) -> None:
    """Where rho / 2 - Lambda^2 / rho changes its sign, by bisection."""
    for lipschitz in (1.0, 7.5):
        low, high = 0.0, 100 * lipschitz
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (low, middle) if middle / 2 - lipschitz**2 / middle > 0 else (middle, high)
        same(answer(lipschitz), high, f"least_penalty({lipschitz:g})", 1e-9)


EXERCISES = (
    Exercise("admm_round", admm_round),
    Exercise("is_fixed_point", is_fixed_point),
    Exercise("least_penalty", least_penalty),
)
