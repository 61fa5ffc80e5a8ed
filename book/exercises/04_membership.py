"""Chapter 4: who was in the data?

Write each function in place of its last line, then: python cli.py learn check 4
"""

import math

import numpy as np


def ks_accuracy(members, nonmembers):
    """The balanced accuracy of the best rule "score >= t": scores (n,) and (m,), which may tie."""
    raise NotImplementedError


def area(members, nonmembers):
    """P(member's score > non-member's) + 1/2 P(equal), over all pairs."""
    raise NotImplementedError


def best_rule(mu):
    """Accuracy of the best rule where members' scores are N(0, 1) and non-members' N(-mu, 1), mu >= 0."""
    raise NotImplementedError
