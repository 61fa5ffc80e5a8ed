"""Mean over square windows."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer, positive
from nanoprune.nn.workspace import Workspace


class AvgPool(Layer):
    r"""Mean over windows of k x k, moved by k; rows and columns that fill no window are dropped.

    X (R, H, C, W, N), Y (R, H // k, C, W // k, N): $Y_{yx} = \tfrac{1}{k^2} \sum_{ij} X_{ky+i,\,kx+j}$, summed over
    one axis and then over the other. Each of the window's k^2 values gets $dY / k^2$.
    """

    def __init__(self, size: int) -> None:
        self.size = positive("size", size)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3 or shape[0] < self.size or shape[2] < self.size:
            raise ArgumentError(f"{self!r} takes images (H, C, W) of at least {self.size} x {self.size}, got {shape}")
        return (shape[0] // self.size, shape[1], shape[2] // self.size)

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, N, k = X.shape[0], X.shape[-1], self.size
        OH, C, OW = self.output_shape(X.shape[1:4])
        A = ws.buffer(self, "A", (R, OH, C, X.shape[3], N), X.dtype)  # sums over rows
        Y = ws.buffer(self, "Y", (R, OH, C, OW, N), X.dtype)
        total([X[:, i : k * OH : k] for i in range(k)], out=A)
        total([A[:, :, :, j : k * OW : k] for j in range(k)], out=Y)
        Y *= 1 / k**2
        ws.save(self, X.shape)
        return Y

    def input_gradient(self, dY: Any, ws: Workspace, X_shape: tuple[int, ...]) -> Any:
        k, OH, OW = self.size, dY.shape[1], dY.shape[3]
        dX = ws.gradient(self, X_shape, dY.dtype)
        share = xp.multiply(dY, 1 / k**2, out=ws.scratch("share", dY.shape, dY.dtype))  # (R, OH, C, OW, N)
        dX[:, k * OH :] = 0  # rows outside of all windows have no influence
        dX[:, :, :, k * OW :] = 0
        for i in range(k):
            for j in range(k):
                dX[:, i : k * OH : k, :, j : k * OW : k] = share
        return dX

    def __repr__(self) -> str:
        return f"AvgPool({self.size})"


def total(terms: list, out: Any) -> None:
    """out = the sum of the terms, elementwise; all arrays of one shape."""
    out[...] = terms[0]
    for term in terms[1:]:
        out += term
