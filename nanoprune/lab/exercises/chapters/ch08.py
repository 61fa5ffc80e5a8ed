"""Chapter 8: a masked step against one of the survivors alone, an interval against its coverage, a loop over epochs."""

from collections.abc import Callable

import numpy as np
from scipy.stats import ttest_rel

from nanoprune.lab.exercises.compare import parts, same, untouched
from nanoprune.lab.exercises.grading import Exercise


def masked_step(answer: Callable) -> None:
    """Three steps give what training the survivors alone gives; the others stay zero."""
    rng = np.random.default_rng(1)
    mask = np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    W, V, alive = rng.standard_normal(5) * mask, np.zeros(5), mask > 0
    w, v = W[alive].copy(), np.zeros(3)
    for t in (1, 2, 3):
        g = rng.standard_normal(5)
        W, V = parts(untouched(lambda *a: answer(*a, 0.1, 0.9), W, V, g, mask), "W", "V")
        v = 0.9 * v + g[alive]
        w = w - 0.1 * v
        expected = np.zeros((2, 5))  # W and V, zero where pruned
        expected[:, alive] = w, v
        for name, got, right in zip(("W", "V"), (W, V), expected, strict=True):
            same(got, right, f"{name} after step {t}")
            same(np.asarray(got)[~alive], np.zeros(2), f"{name} of the pruned weights after step {t}", 0.0)


def paired_interval(answer: Callable) -> None:
    """Against a library's paired test: zero shifted to the end of the interval has a p-value of 5%."""
    rng = np.random.default_rng(2)
    for n in (3, 8):
        a, b = rng.standard_normal(n) + 1, rng.standard_normal(n)
        mean, half = parts(untouched(answer, a, b), "the mean", "half of the interval")
        same(mean, sum(x - y for x, y in zip(a, b, strict=True)) / n, "the mean")
        same(ttest_rel(a, b + mean - half).pvalue, 0.05, f"the p-value at the lower end, with {n} pairs", 1e-6)


def early_stop(answer: Callable) -> None:
    cases = (([0.2, 0.6, 0.5, 0.9], 0.6, 1), ([0.9, 0.1], 0.3, 0), ([0.2, 0.7, 0.7, 0.1], 0.8, 1))
    for accuracies, wanted, epoch in cases:
        found = untouched(lambda a, w=wanted: answer(a, w), np.array(accuracies))
        same(found, epoch, f"early_stop({accuracies}, {wanted})")


EXERCISES = (
    Exercise("masked_step", masked_step),
    Exercise("paired_interval", paired_interval),
    Exercise("early_stop", early_stop),
)
