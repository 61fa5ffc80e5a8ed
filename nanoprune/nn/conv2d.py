"""Convolution as matrix products over a row-wise lowering."""

from typing import Any

from nanoprune.backend import product, windows, xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer, he, positive, windows_along
from nanoprune.nn.parameter import Parameter
from nanoprune.nn.workspace import Workspace


class Conv2D(Layer):
    r"""Cross-correlation with O kernels of k x k over C channels, stride s, p rows and columns of zeros around.

    X (R, H, C, W, N), W (R, O, k*C*k), b (R, O, 1), Y (R, OH, O, OW, N) with $OH = \lfloor (H + 2p - k)/s \rfloor + 1$.

    MEC (Cho & Brand 2017, arXiv 1706.06873): the input is copied once per kernel *column* j,
    $$L[h, c, j, x, n] = X[h - p, c, s x + j - p, n] \quad (H + 2p, C, k, OW, N), \text{ zeros outside of } X.$$
    The k rows of L that output row y needs, L[s y : s y + k], are adjacent, so the overlapping view V[y]
    (k*C*k, OW*N) gives the output row without a further copy, $Y_y = W V_y + b$. Backward, row by row,
    $$dW = \sum_y dY_y V_y^T, \quad db = \sum_y dY_y, \quad dL[s y : s y + k] \mathrel{+}= W^T dY_y,$$
    and dX adds up the k columns of dL: $dX[h - p, c, s x + j - p, n] \mathrel{+}= dL[h, c, j, x, n]$.

    bias=False: without b; a following BatchNorm has a shift that does the same.
    """

    def __init__(
        self, channels: int, kernels: int, size: int, stride: int = 1, padding: int = 0, bias: bool = True
    ) -> None:
        self.channels, self.kernels = positive("channels", channels), positive("kernels", kernels)
        self.size, self.stride = positive("size", size), positive("stride", stride)
        if not isinstance(padding, int) or padding < 0:
            raise ArgumentError(f"padding must be an integer of at least 0, got {padding!r}")
        self.padding = padding
        fan_in = size * channels * size
        self.W = Parameter("W", (kernels, fan_in), he(fan_in), prunable=True, window=(size, channels, size))
        self.b = Parameter("b", (kernels, 1), std=0.0, prunable=False) if bias else None

    def parameters(self) -> list[Parameter]:
        return [self.W, self.b] if self.b else [self.W]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3 or shape[1] != self.channels or min(shape[0], shape[2]) + 2 * self.padding < self.size:
            least = self.size - 2 * self.padding
            raise ArgumentError(
                f"{self!r} takes images (H, {self.channels}, W) of at least {least} rows and columns, got {shape}"
            )
        OH, OW = (windows_along(length, self.size, self.stride, self.padding) for length in (shape[0], shape[2]))
        return (OH, self.kernels, OW)

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, N = X.shape[0], X.shape[-1]
        OH, O, OW = self.output_shape(X.shape[1:4])
        L = self._lower(X, OW, ws)  # (R, H + 2p, C, k, OW, N)
        Y = ws.buffer(self, "Y", (R, OH, O, OW * N), X.dtype)
        product(self.W.value[:, None], self._rows(L), out=Y)  # Y_y = W V_y           (R, OH, O, OW*N)
        if self.b:
            Y += self.b.value[:, None]  # + b                                         (R, 1, O, 1)
        ws.save(self, L, X.shape)
        return Y.reshape(R, OH, O, OW, N)

    def weight_gradient(self, dY: Any, ws: Workspace, L: Any, X_shape: tuple[int, ...]) -> None:
        R, OH, O, OW, N = dY.shape
        V, dY = self._rows(L), dY.reshape(R, OH, O, OW * N)
        rows = ws.scratch("dW of rows", (R, OH, V.shape[2], O), dY.dtype)
        product(V, dY.swapaxes(-1, -2), out=rows)  # dW_y^T = V_y dY_y^T, which BLAS does faster than dY_y V_y^T
        self.W.grad[...] = xp.sum(rows, axis=1).swapaxes(-1, -2)  # dW = sum_y dW_y   (R, O, k*C*k)
        if self.b:
            self.b.grad[..., 0] = xp.sum(xp.sum(dY, axis=-1), axis=1)  # db           (R, O)

    def input_gradient(self, dY: Any, ws: Workspace, L: Any, X_shape: tuple[int, ...]) -> Any:
        R, H, C, _, N = X_shape
        _, OH, O, OW, _ = dY.shape
        k, s, p = self.size, self.stride, self.padding
        dY = dY.reshape(R, OH, O, OW * N)
        dL = ws.scratch("dL", (R, H + 2 * p, C * k, OW * N), dY.dtype)
        dV = ws.scratch("dV", (R, k * C * k, OW * N), dY.dtype)
        dL[...] = 0
        for y in range(OH):
            product(self.W.value.swapaxes(-1, -2), dY[:, y], out=dV)  # dV_y = W^T dY_y  (R, k*C*k, OW*N)
            dL[:, s * y : s * y + k] += dV.reshape(R, k, C * k, OW * N)
        dX = ws.gradient(self, X_shape, dY.dtype)
        self.fold_columns(dL.reshape(R, H + 2 * p, C, k, OW, N)[:, p : p + H], out=dX)
        return dX

    def _lower(self, X: Any, OW: int, ws: Workspace) -> Any:
        """L (R, H + 2p, C, k, OW, N): the input once per kernel column."""
        R, H, C, _, N = X.shape
        p = self.padding
        L = ws.buffer(self, "L", (R, H + 2 * p, C, self.size, OW, N), X.dtype)
        L[:, :p] = 0
        L[:, p + H :] = 0
        self.lower_columns(X, out=L[:, p : p + H])
        return L

    def _rows(self, L: Any) -> Any:
        """V (R, OH, k*C*k, OW*N): for each output row its k adjacent rows of L, as an overlapping view."""
        R, HP, C, k, OW, N = L.shape
        OH = (HP - k) // self.stride + 1
        of_replica, of_row, item = L.strides[0], L.strides[1], L.itemsize
        return windows(L, (R, OH, k * C * k, OW * N), (of_replica, self.stride * of_row, OW * N * item, item))

    def lower_columns(self, X: Any, out: Any) -> None:
        """out[h, c, j, x, n] = X[h, c, s x + j - p, n], zeros outside of X; (R, H, C, W, N) to (R, H, C, k, OW, N)."""
        for j in range(self.size):
            x, columns = self.overlap(j, X.shape[3], out.shape[4])
            out[:, :, :, j, : x.start] = 0
            out[:, :, :, j, x.stop :] = 0
            out[:, :, :, j, x] = X[:, :, :, columns]

    def fold_columns(self, dL: Any, out: Any) -> None:
        """The transpose of `lower_columns`: out[h, c, s x + j - p, n] is the sum of all dL[h, c, j, x, n]."""
        out[...] = 0
        for j in range(self.size):
            x, columns = self.overlap(j, out.shape[3], dL.shape[4])
            out[:, :, :, columns] += dL[:, :, :, j, x]

    def overlap(self, j: int, W: int, OW: int) -> tuple[slice, slice]:
        """For kernel column j, the output columns x with s x + j - p inside of the image, and these image columns."""
        s, p = self.stride, self.padding
        first = min(max(0, -((j - p) // s)), OW)  # smallest x with s x + j - p >= 0
        last = max(min(OW, (W - 1 + p - j) // s + 1), first)  # one past the largest with s x + j - p < W
        return slice(first, last), slice(s * first + j - p, s * last + j - p, s)

    def __repr__(self) -> str:
        sizes = f"{self.channels}, {self.kernels}, {self.size}, stride={self.stride}, padding={self.padding}"
        return f"Conv2D({sizes})" if self.b else f"Conv2D({sizes}, bias=False)"
