"""Chapter 11: subsets by enumeration, bits by counting, the bound by inserting it."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from nanoprune.lab.exercises.compare import same
from nanoprune.lab.exercises.grading import Exercise


def nearest_subset(answer: Callable) -> None:
    rng = np.random.default_rng(1)
    for m, target in ((1, 0.9), (5, 0.3), (9, -1.7), (4, 50.0), (3, 0.0)):
        numbers = [float(x) for x in rng.uniform(-1, 1, m)]
        sums = [sum(c) for size in range(m + 1) for c in itertools.combinations(numbers, size)]
        expected = min(sums, key=lambda s, t=target: abs(s - t))
        same(answer(list(numbers), target), expected, f"nearest_subset({numbers}, {target})")


def support_bits(answer: Callable) -> None:
    for n, k in ((5, 2), (40, 0), (300, 17), (430_500, 6_048)):
        exact = math.comb(n, k)
        shift = max(0, exact.bit_length() - 60)
        same(answer(n, k), math.log2(exact >> shift) + shift, f"support_bits({n}, {k})", 1e-8)


def bits_allowed(answer: Callable) -> None:
    for n, accuracy in ((100, 0.6), (60_000, 0.82), (10, 0.5)):
        bits = float(answer(n, accuracy))
        what = f"(1 + sqrt(b ln 2 / (2 n))) / 2 at your b for n = {n}"
        same((1 + math.sqrt(max(0.0, bits) * math.log(2) / (2 * n))) / 2, accuracy, what)


EXERCISES = (
    Exercise("nearest_subset", nearest_subset),
    Exercise("support_bits", support_bits),
    Exercise("bits_allowed", bits_allowed),
)
