"""Chapter 2: what does SGD minimise?

Write each function in place of its last line, then: python cli.py learn check 2
"""

import numpy as np


def cross_entropy(z, y):
    """For logits z (classes, N) and labels y (N,): the mean of -log softmax(z)_y, and its gradient, like z.

    It must be finite for logits of 1e4 and -1e4.
    """
    raise NotImplementedError


def momentum_step(theta, V, g, rate, m):
    """One step of the heavy ball: return the new theta and the new V."""
    raise NotImplementedError


def largest_rate(curvature, m):
    """The largest learning rate below which the heavy ball converges on curvature x^2 / 2."""
    raise NotImplementedError
