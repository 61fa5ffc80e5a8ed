"""Chapter 5: how much does overfitting leak?

Write each function in place of its last line, then: python cli.py learn check 5
"""

import math

import numpy as np


def yeom_advantage(inside, outside, B):
    """TPR - FPR of "member with probability 1 - loss / B": losses (n,) of members and (m,) of others, in [0, B]."""
    raise NotImplementedError


def gibbs_log_odds(theta, others, z, T):
    """log P(theta | others and z) / P(theta | others), for the loss (theta - z)^2 / 2 at temperature T.

    others (n - 1,). The posterior of n records is normal, with their mean and the variance T / n.
    """
    raise NotImplementedError


def leak_without_gap():
    """Two arrays (4,) of losses, members' and others', all at least 0.

    Their means are equal, and a rule "loss <= t" or a rule "loss >= t" has an advantage of at least 1/2.
    """
    raise NotImplementedError
