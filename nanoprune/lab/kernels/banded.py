"""Depthwise convolution as products with banded matrices, a few rows of the image at a time."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.lab.layers.depthwise import DepthwiseConv2D, frame
from nanoprune.nn.workspace import Workspace

TILE = 4  # m: output rows that are computed together; benchmarks/depthwise_tiles.py


class BandedDepthwise(DepthwiseConv2D):
    """`DepthwiseConv2D` with stride 1, m output rows at a time, each kernel column j as one product of matrices.

    With P the padded input, m output rows of channel c need t = m + k - 1 rows of P, each contiguous over its columns
    and samples. Kernel column j is a banded matrix over them:

        Y[y : y + m, c] = sum_j B_j[c] P[y : y + t, c, j : j + OW] + b    (m, t) times (t, OW*N),
        B_j[c][a, a + i] = W[c, i, j], and 0 elsewhere.

    A row of B_j has m + k - 1 entries for k weights: with m = 4 and k = 3 there are twice the multiplications, but in a
    matrix product, where the plain layer multiplies and adds arrays k*k times. dX is the same map of dY, padded with
    k - 1 - p zeros, by the flipped kernels W[c, k - 1 - i, k - 1 - j]; dW is computed as in the plain layer.
    Raises ArgumentError where padding is not less than size.
    """

    def __init__(self, channels: int, size: int, padding: int = 0, bias: bool = True) -> None:
        super().__init__(channels, size, stride=1, padding=padding, bias=bias)
        if padding >= size:
            raise ArgumentError(f"padding must be less than size = {size} here, got {padding}; use DepthwiseConv2D")

    def input_gradient(self, dY: Any, ws: Workspace, P: Any, X_shape: tuple[int, ...]) -> Any:
        margin = self.size - 1 - self.padding
        R, OH, C, OW, N = dY.shape
        framed = ws.scratch("dY in its frame", (R, OH + 2 * margin, C, OW + 2 * margin, N), dY.dtype)
        frame(dY, margin, out=framed)
        dX = ws.gradient(self, X_shape, dY.dtype)
        self.correlate(framed, self.W.value[..., ::-1], dX, ws)
        return dX

    def correlate(self, P: Any, W: Any, Y: Any, ws: Workspace) -> None:
        """Y = sum_j B_j P, with the bands of the weights W (R, C, k*k)."""
        R, OH, C, OW, N = Y.shape
        B = self._bands(W)  # (k, R, C, m, t)
        for y in range(0, OH, TILE):
            m = min(TILE, OH - y)
            t = m + self.size - 1
            out = Y[:, y : y + m].reshape(R, m, C, OW * N).swapaxes(1, 2)  # (R, C, m, OW*N), a view
            rows = P[:, y : y + t].reshape(R, t, C, -1).swapaxes(1, 2)  # (R, C, t, W*N), a view
            term = ws.scratch("term", out.shape, Y.dtype)
            for j in range(self.size):
                columns = rows[..., j * N : (j + OW) * N]
                xp.matmul(B[j, :, :, :m, :t], columns, out=term if j else out)
                if j:
                    out += term

    def _bands(self, W: Any) -> Any:
        """B (k, R, C, m, t), from W (R, C, k*k)."""
        R, C, k = W.shape[0], self.channels, self.size
        kernels = xp.moveaxis(W.reshape(R, C, k, k), -1, 0)  # (k, R, C, k): j before i
        B = xp.zeros((k, R, C, TILE, TILE + k - 1), W.dtype)
        for a in range(TILE):
            B[:, :, :, a, a : a + k] = kernels
        return B

    def __repr__(self) -> str:
        bias = "" if self.b else ", bias=False"
        return f"{type(self).__name__}({self.channels}, {self.size}, padding={self.padding}{bias})"
