"""Maximum over square windows."""

import math
from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer, positive, windows_along
from nanoprune.nn.workspace import Workspace


class MaxPool(Layer):
    r"""Maximum over windows of k x k, moved by `stride` (by default k), with `padding` rows and columns of -infinity
    around; rows and columns that fill no window are dropped.

    X (R, H, C, W, N), Y (R, OH, C, OW, N) with $OH = \lfloor (H + 2p - k)/s \rfloor + 1$. The maximum over a window is
    the maximum over its columns of the maxima over its rows, so both passes treat one axis at a time; rows first, each
    of which is contiguous. The gradient goes to the window's first maximum, column by column; where windows overlap,
    gradients add up.
    """

    def __init__(self, size: int, stride: int | None = None, padding: int = 0) -> None:
        self.size = positive("size", size)
        self.stride = positive("stride", size if stride is None else stride)
        if not isinstance(padding, int) or not 0 <= padding <= size // 2:
            raise ArgumentError(f"padding must be an integer from 0 to size // 2 = {size // 2}, got {padding!r}")
        self.padding = padding

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        least = self.size - 2 * self.padding
        if len(shape) != 3 or shape[0] < least or shape[2] < least:
            raise ArgumentError(f"{self!r} takes images (H, C, W) of at least {least} x {least}, got {shape}")
        OH, OW = (windows_along(length, self.size, self.stride, self.padding) for length in (shape[0], shape[2]))
        return (OH, shape[1], OW)

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, N = X.shape[0], X.shape[-1]
        OH, C, OW = self.output_shape(X.shape[1:4])
        P = self._framed(X, ws)  # (R, H + 2p, C, W + 2p, N)
        A = ws.buffer(self, "A", (R, OH, C, P.shape[3], N), X.dtype)  # maxima over rows
        Y = ws.buffer(self, "Y", (R, OH, C, OW, N), X.dtype)  # maxima over columns of these
        maximum(self._rows(P, OH), out=A)
        maximum(self._columns(A, OW), out=Y)
        ws.save(self, P, A, Y)
        return Y

    def input_gradient(self, dY: Any, ws: Workspace, P: Any, A: Any, Y: Any) -> Any:
        OH, OW, p = Y.shape[1], Y.shape[3], self.padding
        dA = ws.scratch("dA", A.shape, A.dtype)
        dP = ws.gradient(self, P.shape, P.dtype)
        if self.stride == self.size:
            dA[:, :, :, self.size * OW :] = 0  # columns outside of all windows have no influence
            dP[:, self.size * OH :] = 0
        else:  # overlapping windows add up, or leave gaps
            dA[...] = 0
            dP[...] = 0
        self._spread(self._columns(A, OW), Y, dY, self._columns(dA, OW), ws)
        self._spread(self._rows(P, OH), A, dA, self._rows(dP, OH), ws)
        return dP[:, p : P.shape[1] - p, :, p : P.shape[3] - p]

    def _spread(self, terms: list, Y: Any, dY: Any, out: list, ws: Workspace) -> None:
        """`maximum_backward` into the views `out`: written where they are disjoint, else added."""
        overlap = self.stride < self.size
        parts = [ws.scratch(f"part {j}", Y.shape, Y.dtype) for j in range(self.size)] if overlap else out
        maximum_backward(terms, Y, dY, out=parts, ws=ws)
        if overlap:
            for view, part in zip(out, parts, strict=True):
                view += part

    def _framed(self, X: Any, ws: Workspace) -> Any:
        """X with `padding` rows and columns of -infinity around."""
        p = self.padding
        if p == 0:
            return X
        R, H, C, W, N = X.shape
        P = ws.buffer(self, "P", (R, H + 2 * p, C, W + 2 * p, N), X.dtype)
        P[...] = -math.inf
        P[:, p : p + H, :, p : p + W] = X
        return P

    def _rows(self, P: Any, OH: int) -> list:
        """k views (R, OH, C, W + 2p, N)."""
        return [P[:, i : i + self.stride * (OH - 1) + 1 : self.stride] for i in range(self.size)]

    def _columns(self, A: Any, OW: int) -> list:
        """k views (R, OH, C, OW, N)."""
        return [A[:, :, :, j : j + self.stride * (OW - 1) + 1 : self.stride] for j in range(self.size)]

    def __repr__(self) -> str:
        if (self.stride, self.padding) == (self.size, 0):
            return f"MaxPool({self.size})"
        return f"MaxPool({self.size}, stride={self.stride}, padding={self.padding})"


def maximum(terms: list, out: Any) -> None:
    """out = max of the terms, elementwise; all arrays of one shape."""
    xp.maximum(terms[0], terms[-1], out=out)
    for term in terms[1:-1]:
        xp.maximum(out, term, out=out)


def maximum_backward(terms: list, Y: Any, dY: Any, out: list, ws: Workspace) -> None:
    """Give dY to the first of the terms that equals Y = max(terms), elementwise, and 0 to the others.

    The last term takes what the others left: dY - dY or dY - 0, both exact.
    """
    is_first = ws.scratch("is_first", Y.shape, bool)
    left = dY
    for term, d in zip(terms[:-1], out[:-1], strict=True):
        xp.equal(term, Y, out=is_first)
        xp.multiply(left, is_first, out=d)
        left = xp.subtract(left, d, out=out[-1])
    if len(terms) == 1:
        out[0][...] = dY
