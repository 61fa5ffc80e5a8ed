"""Answers to the exercises of chapter 4."""

import math

import numpy as np


def ks_accuracy(members, nonmembers):
    thresholds = np.append(np.concatenate([members, nonmembers]), np.inf)
    return max((np.mean(members >= t) + np.mean(nonmembers < t)) / 2 for t in thresholds)


def area(members, nonmembers):
    difference = members[:, None] - nonmembers
    return np.mean((difference > 0) + 0.5 * (difference == 0))


def best_rule(mu):
    # The likelihood ratio grows with the score, so the best rule is a threshold, half-way between the means.
    return 0.5 * (1 + math.erf(mu / 2 / math.sqrt(2)))
