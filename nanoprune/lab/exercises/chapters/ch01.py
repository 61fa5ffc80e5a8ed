"""Chapter 1: derivatives, graded by central differences."""

from collections.abc import Callable

import numpy as np

from nanoprune.lab.exercises.compare import derivative, parts, same, untouched
from nanoprune.lab.exercises.grading import Exercise


def dense_backward(answer: Callable) -> None:
    """Every entry of the three derivatives of <dY, W X + b>."""
    rng = np.random.default_rng(1)
    dY, X, W, b = (rng.standard_normal(shape) for shape in ((3, 5), (4, 5), (3, 4), (3,)))
    found = parts(untouched(answer, dY, X, W), "dW", "db", "dX")
    expected = (
        derivative(lambda M: float((dY * (M @ X + b[:, None])).sum()), W),
        derivative(lambda c: float((dY * (W @ X + c[:, None])).sum()), b),
        derivative(lambda M: float((dY * (W @ M + b[:, None])).sum()), X),
    )
    for name, got, right in zip(("dW", "db", "dX"), found, expected, strict=True):
        same(got, right, name, 1e-7)


def central_difference(answer: Callable) -> None:
    """Exact on a quadratic, wrong by eps^2 on a cubic."""
    x, v = np.array([0.3, -1.2]), np.array([2.0, 0.5])
    quadratic = untouched(lambda x, v: answer(lambda z: float((z**2).sum()), x, v, 0.1), x, v)
    same(quadratic, 2 * float(x @ v), "the difference of |z|^2 along v", 1e-9)
    cubic = answer(lambda z: float(z[0] ** 3), x, v, 0.1)
    same(cubic, 3 * x[0] ** 2 * v[0] + 0.1**2 * v[0] ** 3, "the difference of z_0^3 along v with eps = 0.1", 1e-9)


def tanh_backward(answer: Callable) -> None:
    rng = np.random.default_rng(2)
    X, dY = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    expected = derivative(lambda M: float((dY * np.tanh(M)).sum()), X)
    same(untouched(answer, dY, np.tanh(X)), expected, "dX", 1e-7)


EXERCISES = (
    Exercise("dense_backward", dense_backward),
    Exercise("central_difference", central_difference),
    Exercise("tanh_backward", tanh_backward),
)
