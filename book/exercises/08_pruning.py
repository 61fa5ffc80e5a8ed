"""Chapter 8: does pruning defend?

Write each function in place of its last line, then: python cli.py learn check 8
"""

import numpy as np
from scipy.stats import t


def masked_step(W, V, g, mask, rate, m):
    """A step of the heavy ball in which the weights where mask is 0 stay as they are: return the new W and V.

    W, V, g, mask (n,); W and V are 0 where mask is.
    """
    raise NotImplementedError


def paired_interval(a, b):
    """The mean of a - b (n,) and half of its 95% interval, by Student's t with n - 1 degrees of freedom."""
    raise NotImplementedError


def early_stop(accuracies, wanted):
    """From the accuracies (n,) after each of n epochs: the first epoch, from 0, that reaches `wanted`.

    Where none does, the epoch of the best accuracy; of equal ones the first.
    """
    raise NotImplementedError
