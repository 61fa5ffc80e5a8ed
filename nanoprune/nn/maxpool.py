"""Maximum over square windows."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Elementwise, positive
from nanoprune.nn.workspace import Workspace


class MaxPool(Elementwise):
    """Maximum over windows of size x size, moved by `size`; rows and columns that fill no window are dropped.

    X (R, H, C, W, N), Y (R, H // size, C, W // size, N). The maximum over a window is the maximum over its columns of
    the maxima over its rows, so both passes treat one axis at a time; rows first, each of which lies in memory in one
    piece. The gradient goes to the window's first maximum, column by column.
    """

    def __init__(self, size: int) -> None:
        self.size = positive("size", size)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3 or shape[0] < self.size or shape[2] < self.size:
            raise ArgumentError(f"{self!r} takes images (H, C, W) of at least {self.size} x {self.size}, got {shape}")
        return (shape[0] // self.size, shape[1], shape[2] // self.size)

    def constants(self, c: Any, shape: tuple[int, ...]) -> Any:
        return c  # every window lies inside of the image

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, H, C, W, N = X.shape
        k = self.size
        A = ws.buffer(self, "A", (R, H // k, C, W, N), X.dtype)  # maxima over rows
        Y = ws.buffer(self, "Y", (R, H // k, C, W // k, N), X.dtype)  # maxima over columns of these
        maximum(self._rows(X), out=A)
        maximum(self._columns(A), out=Y)
        ws.save(self, X, A, Y)
        return Y

    def backward(self, dY: Any, ws: Workspace) -> Any:
        X, A, Y = ws.saved(self)
        k, (H, W) = self.size, (X.shape[1], X.shape[3])
        dA = ws.buffer(self, "dA", A.shape, A.dtype)
        dX = ws.buffer(self, "dX", X.shape, X.dtype)
        dA[:, :, :, W - W % k :] = 0  # what fills no window has no influence
        dX[:, H - H % k :] = 0
        maximum_backward(self._columns(A), Y, dY, out=self._columns(dA), owner=(self, "columns"), ws=ws)
        maximum_backward(self._rows(X), A, dA, out=self._rows(dX), owner=(self, "rows"), ws=ws)
        return dX

    def _columns(self, X: Any) -> list:
        end = X.shape[3] - X.shape[3] % self.size
        return [X[:, :, :, j : end : self.size] for j in range(self.size)]  # size views (R, H // size, C, W // size, N)

    def _rows(self, X: Any) -> list:
        end = X.shape[1] - X.shape[1] % self.size
        return [X[:, i : end : self.size] for i in range(self.size)]  # size views (R, H // size, C, W, N)

    def __repr__(self) -> str:
        return f"MaxPool({self.size})"


def maximum(terms: list, out: Any) -> None:
    """out = max of the terms, elementwise; all arrays of one shape."""
    xp.maximum(terms[0], terms[-1], out=out)
    for term in terms[1:-1]:
        xp.maximum(out, term, out=out)


def maximum_backward(terms: list, Y: Any, dY: Any, out: list, owner: Any, ws: Workspace) -> None:
    """Give dY to the first of the terms that equals Y = max(terms), elementwise, and 0 to the others.

    The last term takes what the others left: dY - dY or dY - 0, both exact.
    """
    is_first = ws.buffer(owner, "is_first", Y.shape, bool)
    left = dY
    for j, (term, d) in enumerate(zip(terms[:-1], out[:-1], strict=True)):
        xp.equal(term, Y, out=is_first)
        xp.multiply(left, is_first, out=d)
        left = xp.subtract(left, d, out=out[-1] if j == len(terms) - 2 else ws.buffer(owner, "left", Y.shape, Y.dtype))
    if len(terms) == 1:
        out[0][...] = dY
