"""Answers to the exercises of chapter 9."""

import math

import numpy as np


def best_adversary(f, g):
    h = f / (f + g)
    return h, 0.5 * (f * np.log(h)).sum() + 0.5 * (g * np.log(1 - h)).sum()


def softmax_pullback(p, g):
    return p * (g - (p * g).sum(axis=0))


def guess_of(q):
    return q, -q * math.log(q) - (1 - q) * math.log(1 - q)
