"""Answers to the exercises of chapter 5."""

import math

import numpy as np


def yeom_advantage(inside, outside, B):
    return (np.mean(outside) - np.mean(inside)) / B


def gibbs_log_odds(theta, others, z, T):
    n = len(others) + 1
    out, member = np.mean(others), (np.sum(others) + z) / n
    return 0.5 * math.log(n / (n - 1)) + ((n - 1) * (theta - out) ** 2 - n * (theta - member) ** 2) / (2 * T)


def leak_without_gap():
    return np.array([0.0, 0.0, 0.0, 4.0]), np.array([1.0, 1.0, 1.0, 1.0])
