"""Chapter 2: the loss by central differences, and descent by following it."""

import math
from collections.abc import Callable

import numpy as np

from nanoprune.lab.exercises.compare import Wrong, derivative, same, untouched
from nanoprune.lab.exercises.grading import Exercise


def cross_entropy(answer: Callable) -> None:
    """The loss in Python's own floats; the gradient by differences of the answer's loss; both where exp overflows."""
    rng = np.random.default_rng(1)
    z, y = rng.standard_normal((4, 3)), np.array([0, 3, 1])
    found = untouched(answer, z, y)
    if not isinstance(found, tuple) or len(found) != 2:
        raise Wrong("return two things: the loss and its gradient")
    by_hand = [math.log(sum(map(math.exp, z[:, i]))) - z[y[i], i] for i in range(3)]
    same(found[0], sum(by_hand) / 3, "the loss")
    same(found[1], derivative(lambda a: float(answer(a, y)[0]), z), "dz", 1e-7)
    with np.errstate(all="ignore"):
        loss, dz = answer(np.array([[1e4, 1e4], [-1e4, -1e4]]), np.array([0, 1]))
    same(loss, 1e4, "the loss at logits of 1e4 and -1e4")
    same(dz, [[0, 0.5], [0, -0.5]], "dz at logits of 1e4 and -1e4")


def momentum_step(answer: Callable) -> None:
    """Three steps, against sums of all gradients so far, weighted by powers of m."""
    rng = np.random.default_rng(2)
    theta, V, gradients, rate, m = rng.standard_normal(3), np.zeros(3), rng.standard_normal((3, 3)), 0.1, 0.7
    start = theta.copy()
    for g in gradients:
        theta, V = untouched(lambda a, b, c: answer(a, b, c, rate, m), theta, V, g)
    same(V, m**2 * gradients[0] + m * gradients[1] + gradients[2], "V after three steps")
    moved = (1 + m + m**2) * gradients[0] + (1 + m) * gradients[1] + gradients[2]
    same(theta, start - rate * moved, "theta after three steps")


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
