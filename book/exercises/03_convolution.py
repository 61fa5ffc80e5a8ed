"""Chapter 3: convolution as a matrix product

Write each function in place of its last line, then: python cli.py learn check 3
"""

import numpy as np


def lower(X, k):
    """The windows of an image X (H, W) as columns: (k k, OH OW), with OH = H - k + 1 and OW = W - k + 1.

    Column y OW + x is the window whose upper left corner is (y, x), row after row.
    """
    raise NotImplementedError


def fold(D, H, W, k):
    """The transpose of `lower`: each entry of D (k k, OH OW) is added to the pixel that it came from; (H, W)."""
    raise NotImplementedError


def multiplications(H, W, channels, kernels, k, m):
    """Products of one image, without padding: (by the loops, by the filter F(m, k) down each column).

    The filter runs over the row index. m divides the number of output rows; for each m of them the filter takes
    t = m + k - 1 products where the loops take m k. Kernel columns, channels, kernels and output columns count as
    before.
    """
    raise NotImplementedError
