"""Chapter 9: the Min-Max game

Write each function in place of its last line, then: python cli.py learn check 9
"""

import math

import numpy as np


def best_adversary(f, g):
    """For positive probabilities f (n,) of members and g (n,) of others over n predictions: h* (n,) and its gain."""
    raise NotImplementedError


def softmax_pullback(p, g):
    """From p = softmax(z) and g = dG/dp, both (classes, N), the derivative dG/dz, without a loop."""
    raise NotImplementedError


def guess_of(q):
    """The best constant h where a share q in (0, 1) are members, and its log-loss -q log h - (1 - q) log(1 - h)."""
    raise NotImplementedError
