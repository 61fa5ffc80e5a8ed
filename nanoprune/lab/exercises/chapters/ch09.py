"""Chapter 9: the best adversary by searching, the pullback by central differences."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar

from nanoprune.lab.exercises.compare import derivative, parts, same, untouched
from nanoprune.lab.exercises.grading import Exercise


def best_adversary(answer: Callable) -> None:
    """Each h is found by minimising on its own; the gain is that of these."""
    rng = np.random.default_rng(1)
    f, g = rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(5))
    expected, total = [], 0.0
    for a, b in zip(f, g, strict=True):
        found = minimize_scalar(
            lambda h, a=a, b=b: -0.5 * a * np.log(h) - 0.5 * b * np.log(1 - h),
            bounds=(1e-9, 1 - 1e-9),
            method="bounded",
            options={"xatol": 1e-12},
        )
        expected.append(found.x)
        total -= found.fun
    h, gain = parts(untouched(answer, f, g), "h*", "its gain")
    same(h, expected, "h*", 1e-6)
    same(gain, total, "the gain", 1e-9)


def softmax_pullback(answer: Callable) -> None:
    rng = np.random.default_rng(2)
    z, g = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))

    def softmax(a: np.ndarray) -> np.ndarray:
        return np.exp(a) / np.exp(a).sum(axis=0)

    expected = derivative(lambda a: float((g * softmax(a)).sum()), z)
    same(untouched(answer, softmax(z), g), expected, "dG/dz", 1e-7)


def guess_of(answer: Callable) -> None:
    for q in (0.5, 0.2, 0.9):
        grid = np.linspace(0.0005, 0.9995, 1000)
        losses = -q * np.log(grid) - (1 - q) * np.log(1 - grid)
        h, loss = parts(answer(q), "h", "its log-loss")
        same(h, grid[losses.argmin()], f"the best constant where q = {q:g}", 1e-3)
        same(loss, -q * np.log(h) - (1 - q) * np.log(1 - h), f"the log-loss of {h:g} where q = {q:g}")


EXERCISES = (
    Exercise("best_adversary", best_adversary),
    Exercise("softmax_pullback", softmax_pullback),
    Exercise("guess_of", guess_of),
)
