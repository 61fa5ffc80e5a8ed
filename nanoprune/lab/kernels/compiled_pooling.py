"""Max-pooling over windows of 2 x 2 as loops over the windows, compiled by Numba (extra `fast`)."""

import functools
from typing import Any

import numpy as np

from nanoprune.lab.kernels.compiled import LOOPS, started_numba, worth
from nanoprune.nn.maxpool import MaxPool
from nanoprune.nn.workspace import Workspace


class CompiledMaxPool(MaxPool):
    """`MaxPool(2)` with one compiled pass over memory forward and one backward, once it is used much.

    Both give what the plain passes give, bit by bit but for the sign of a zero. Without Numba, and on a GPU, they are
    the plain passes.
    """

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, X: Any, ws: Workspace) -> Any:
        loop = forward_loop() if usable(X) and worth(MaxPool.forward, X.size) else None
        if loop is None:
            return super().forward(X, ws)
        Y = ws.buffer(self, "Y", (X.shape[0], *self.output_shape(X.shape[1:4]), X.shape[-1]), X.dtype)
        loop(X, Y)
        ws.save(self, X, None, Y)
        return Y

    def input_gradient(self, dY: Any, ws: Workspace, P: Any, A: Any, Y: Any) -> Any:
        if A is not None:  # the forward pass was the plain one
            return super().input_gradient(dY, ws, P, A, Y)
        dX = ws.gradient(self, P.shape, P.dtype)
        dX[:, 2 * Y.shape[1] :] = 0  # rows and columns outside of all windows have no influence
        dX[:, :, :, 2 * Y.shape[3] :] = 0
        backward_loop()(P, Y, np.ascontiguousarray(dY), dX)
        return dX


def max_pooling(size: int, stride: int | None = None, padding: int = 0) -> MaxPool:
    """The faster implementation of max-pooling."""
    if (size, stride or size, padding) == (2, 2, 0):
        return CompiledMaxPool()
    return MaxPool(size, stride, padding)


def usable(X: Any) -> bool:
    """Loops are compiled for contiguous arrays of NumPy."""
    return isinstance(X, np.ndarray) and X.flags.c_contiguous


@functools.cache
def forward_loop() -> Any:
    """Y (R, OH, C, OW, N) from X (R, H, C, W, N), compiled; None without Numba."""
    numba = started_numba()

    def forward(X: Any, Y: Any) -> None:
        R, OH, C, OW, N = Y.shape
        for r in range(R):
            for y in range(OH):
                for c in range(C):
                    for x in range(OW):
                        a, b = X[r, 2 * y, c, 2 * x], X[r, 2 * y, c, 2 * x + 1]  # a b  of the window, (N,) each
                        d, e = X[r, 2 * y + 1, c, 2 * x], X[r, 2 * y + 1, c, 2 * x + 1]  # d e
                        out = Y[r, y, c, x]
                        for n in range(N):  # v != v: NaN, which is the maximum, as NumPy has it
                            left = d[n] if d[n] > a[n] or d[n] != d[n] else a[n]
                            right = e[n] if e[n] > b[n] or e[n] != e[n] else b[n]
                            out[n] = right if right > left or right != right else left

    return numba and numba.njit(forward)


@functools.cache
def backward_loop() -> Any:
    """dX from X, Y and dY, compiled: to the first maximum in the order a, d, b, e, column by column.

    Each loop over n sets one or two of the four gradients; one loop that sets all of them is not vectorised.
    """
    numba = started_numba()

    def backward(X: Any, Y: Any, dY: Any, dX: Any) -> None:
        R, OH, C, OW, N = Y.shape
        zero = X.dtype.type(0)
        for r in range(R):
            for y in range(OH):
                for c in range(C):
                    for x in range(OW):
                        a, b = X[r, 2 * y, c, 2 * x], X[r, 2 * y, c, 2 * x + 1]
                        d, e = X[r, 2 * y + 1, c, 2 * x], X[r, 2 * y + 1, c, 2 * x + 1]
                        da, db = dX[r, 2 * y, c, 2 * x], dX[r, 2 * y, c, 2 * x + 1]
                        dd, de = dX[r, 2 * y + 1, c, 2 * x], dX[r, 2 * y + 1, c, 2 * x + 1]
                        maximum, g = Y[r, y, c, x], dY[r, y, c, x]
                        for n in range(N):
                            da[n] = g[n] if a[n] == maximum[n] else zero
                        for n in range(N):
                            left = g[n] - da[n]
                            dd[n] = left if d[n] == maximum[n] else zero
                            de[n] = left
                        for n in range(N):
                            left = de[n] - dd[n]
                            mine = left if b[n] >= e[n] else zero
                            db[n] = mine
                            de[n] = left - mine

    return numba and numba.njit(backward)


def make_ready() -> None:
    """Compile both loops for float32, which networks are made of."""
    if forward_loop():
        X, Y = np.zeros((1, 2, 1, 2, 1), np.float32), np.zeros((1, 1, 1, 1, 1), np.float32)
        forward_loop()(X, Y)
        backward_loop()(X, Y, Y, X)


LOOPS[MaxPool.forward] = make_ready
