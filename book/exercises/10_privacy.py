"""Chapter 10: what is promised?

Write each function in place of its last line, then: python cli.py learn check 10
"""

import math

import numpy as np


def record_lengths(dY, X):
    """For Y = W X + b: the length (N,) of each record's gradient with respect to W and b together.

    dY (out, N), X (in, N).
    """
    raise NotImplementedError


def clipped_gradient(dY, X, C):
    """dW (out, in) and db (out,) as sums over the records, each record's gradient of W and b clipped to length C."""
    raise NotImplementedError


def advantage_bound(epsilon, delta):
    """The largest TPR - FPR of any attack on an (epsilon, delta)-private training."""
    raise NotImplementedError
