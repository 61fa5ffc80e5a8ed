"""Answers to the exercises of chapter 11."""

import math


def nearest_subset(numbers, target):
    sums = [0.0]
    for number in numbers:
        sums += [s + number for s in sums]
    return min(sums, key=lambda s: abs(s - target))


def support_bits(n, k):
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def bits_allowed(n, accuracy):
    # accuracy = (1 + adv) / 2
    return (2 * accuracy - 1) ** 2 * 2 * n / math.log(2)
