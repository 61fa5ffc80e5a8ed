"""Answers to the exercises of chapter 8."""

import numpy as np
from scipy.stats import t


def masked_step(W, V, g, mask, rate, m):
    V = m * V + mask * g
    return W - rate * V, V


def paired_interval(a, b):
    d = a - b
    return d.mean(), t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))


def early_stop(accuracies, wanted):
    for epoch, accuracy in enumerate(accuracies):
        if accuracy >= wanted:
            return epoch
    return int(np.argmax(accuracies))
