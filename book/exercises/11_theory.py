"""Chapter 11: why could pruning help?

Write each function in place of its last line, then: python cli.py learn check 11
"""

import itertools
import math

import numpy as np


def nearest_subset(numbers, target):
    """The sum, over the best subset of `numbers` (a list; the empty subset counts), that is nearest to `target`."""
    raise NotImplementedError


def support_bits(n, k):
    """log2 of n over k. math.comb of such numbers is no float: use math.lgamma."""
    raise NotImplementedError


def bits_allowed(n, accuracy):
    """The largest b for which sqrt(b ln 2 / (2 n)) promises an attack accuracy of at most `accuracy`, in [1/2, 1)."""
    raise NotImplementedError
