"""Chapter 2: the loss by central differences, and descent by following it."""

import math
from collections.abc import Callable

import numpy as np

from nanoprune.lab.exercises.compare import Wrong, derivative, parts, same, untouched
from nanoprune.lab.exercises.grading import Exercise


def cross_entropy(answer: Callable) -> None:
    """The loss in Python's own floats; the gradient by differences of the answer's loss; both where exp overflows."""
    rng = np.random.default_rng(1)
    z, y = rng.standard_normal((4, 3)), np.array([0, 3, 1])
    loss, dz = parts(untouched(answer, z, y), "the loss", "its gradient")
    by_hand = [math.log(sum(map(math.exp, z[:, i]))) - z[y[i], i] for i in range(3)]
    same(loss, sum(by_hand) / 3, "the loss")
    same(dz, derivative(lambda a: float(answer(a, y)[0]), z), "dz", 1e-7)
    with np.errstate(all="ignore"):
        found = answer(np.array([[1e4, 1e4], [-1e4, -1e4]]), np.array([0, 1]))
    loss, dz = parts(found, "the loss", "its gradient")
    same(loss, 1e4, "the loss at logits of 1e4 and -1e4")
    same(dz, [[0, 0.5], [0, -0.5]], "dz at logits of 1e4 and -1e4")


def momentum_step(answer: Callable) -> None:
    """Three steps, against sums of all gradients so far, weighted by powers of m."""
    rng = np.random.default_rng(2)
    theta, V, gradients, rate, m = rng.standard_normal(3), np.zeros(3), rng.standard_normal((3, 3)), 0.1, 0.7
    start = theta.copy()
    for t, g in enumerate(gradients, 1):
        found = untouched(lambda a, b, c: answer(a, b, c, rate, m), theta, V, g)
        theta, V = parts(found, "theta", "V")
        powers = m ** np.arange(t)[::-1]  # of the gradients so far, the oldest first
        same(V, powers @ gradients[:t], f"V after step {t}")
        moved = np.cumsum(powers[::-1])[::-1] @ gradients[:t]
        same(theta, start - rate * moved, f"theta after step {t}")


def largest_rate(answer: Callable) -> None:
    """The heavy ball itself, a little below and above the answer."""
    for curvature, m in ((1.0, 0.0), (3.0, 0.5), (0.2, 0.9)):
        limit = float(answer(curvature, m))
        for factor, falls in ((0.99, True), (1.01, False)):
            x, V = 1.0, 0.0
            for _ in range(4000):
                V = m * V + curvature * x
                x = max(-1e100, min(1e100, x - factor * limit * V))
            if (abs(x) < 1) != falls:
                what = "does not converge" if falls else "still converges"
                raise Wrong(
                    f"with curvature {curvature:g}, m = {m:g}, the heavy ball {what} at {factor:g} times {limit:g}"
                )


EXERCISES = (
    Exercise("cross_entropy", cross_entropy),
    Exercise("momentum_step", momentum_step),
    Exercise("largest_rate", largest_rate),
)
