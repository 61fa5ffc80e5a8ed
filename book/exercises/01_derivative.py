"""Chapter 1: what is a derivative?

Write each function in place of its last line, then: python cli.py learn check 1
"""

import numpy as np


def dense_backward(dY, X, W):
    """For Y = W X + b and dY = dL/dY: return (dW, db, dX).

    dY (out, N), X (in, N), W (out, in); dW is like W, db (out,), dX like X. No loop is needed.
    """
    raise NotImplementedError


def central_difference(f, x, v, eps):
    """(f(x + eps v) - f(x - eps v)) / (2 eps), for a function f of an array; x must not be changed."""
    raise NotImplementedError


def tanh_backward(dY, Y):
    """For Y = tanh(X), elementwise, and dY = dL/dY: return dX. Use tanh' = 1 - tanh^2."""
    raise NotImplementedError
