"""Chapter 6: the nearest sparse point

Write each function in place of its last line, then: python cli.py learn check 6
"""

import numpy as np


def nearest_sparse(W, k):
    """The nearest vector to W (n,) with at most k nonzero entries; of equal magnitudes keep the first ones."""
    raise NotImplementedError


def nearest_n_of_m(W, N, M):
    """The nearest matrix to W (rows, columns) with at most N nonzero entries in each M neighbours of a row.

    M divides the number of columns; the cells are the columns 0 to M - 1, M to 2 M - 1, and so on. Ties: as above.
    """
    raise NotImplementedError


def nearest_filters(W, k):
    """The nearest matrix to W (rows, columns) with at most k rows that are not all zero; of equal ones the first."""
    raise NotImplementedError
