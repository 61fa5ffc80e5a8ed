"""Chapter 8: a masked step against one of the survivors alone, an interval against its coverage, a loop over epochs."""

from collections.abc import Callable

import numpy as np
from scipy.stats import ttest_rel

from nanoprune.lab.exercises.compare import Wrong, same, untouched
from nanoprune.lab.exercises.grading import Exercise


def masked_step(answer: Callable) -> None:
    """Three steps give what training the survivors alone gives; the others stay zero."""
    rng = np.random.default_rng(1)
    mask = np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    W, V, alive = rng.standard_normal(5) * mask, np.zeros(5), mask > 0
    w, v = W[alive].copy(), np.zeros(3)
    for _ in range(3):
        g = rng.standard_normal(5)
        W, V = untouched(lambda *a: answer(*a, 0.1, 0.9), W, V, g, mask)
        v = 0.9 * v + g[alive]
        w = w - 0.1 * v
    same(np.asarray(W)[~alive], np.zeros(2), "the pruned weights after three steps", 0.0)
    same(np.asarray(W)[alive], w, "the survivors after three steps")


def paired_interval(answer: Callable) -> None:
    """Against a library's paired test: zero shifted to the end of the interval has a p-value of 5%."""
    rng = np.random.default_rng(2)
    for n in (3, 8):
        a, b = rng.standard_normal(n) + 1, rng.standard_normal(n)
        found = untouched(answer, a, b)
        if not isinstance(found, tuple) or len(found) != 2:
            raise Wrong("return two numbers: the mean, and half of the interval")
        mean, half = found
        same(mean, sum(x - y for x, y in zip(a, b, strict=True)) / n, "the mean")
        same(ttest_rel(a, b + mean - half).pvalue, 0.05, f"the p-value at the lower end, with {n} pairs", 1e-6)


def early_stop(answer: Callable) -> None:
    cases = (([0.2, 0.6, 0.5, 0.9], 0.6, 1), ([0.9, 0.1], 0.3, 0), ([0.2, 0.7, 0.7, 0.1], 0.8, 1))
    for accuracies, wanted, epoch in cases:
        same(answer(accuracies, wanted), epoch, f"early_stop({accuracies}, {wanted})")


EXERCISES = (
    Exercise("masked_step", masked_step),
    Exercise("paired_interval", paired_interval),
    Exercise("early_stop", early_stop),
)
