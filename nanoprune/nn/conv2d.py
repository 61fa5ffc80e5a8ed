"""Convolution as matrix products over a row-wise lowering."""

from typing import Any

import numpy as np

from nanoprune.backend import product, windows, xp
from nanoprune.errors import ArgumentError
from nanoprune.lab.shrink.units import Linear
from nanoprune.nn.layer import Parameter, he, positive
from nanoprune.nn.records import blocks, pair_norms, records_first
from nanoprune.nn.workspace import Workspace


class Conv2D(Linear):
    """Cross-correlation with O kernels of kh x kw over C channels, stride s, p rows and columns of zeros around.

    bias=False: without b, where BatchNorm follows, whose shift does the same.

    X (R, H, C, W, N), W (R, O, kh*C*kw), b (R, O, 1), Y (R, OH, O, OW, N) with OH = (H + 2p - kh) // s + 1.

    MEC (Cho & Brand 2017, arXiv 1706.06873): the input is copied once per kernel *column*,
        L[h, c, j, x, n] = X[h - p, c, s x + j - p, n]        (H + 2p, C, kw, OW, N), zeros outside of X.
    The kh rows of L that output row i needs, L[s i : s i + kh], are adjacent, so the overlapping view
        V[i] (kh*C*kw, OW*N)    feeds    Y[i] = W V[i] + b
    without a further copy. Backward, row by row:
        dW = sum_i dY[i] V[i]^T,   dL[s i : s i + kh] += W^T dY[i],   db = sum dY,
    and dX folds the kw columns of dL back: dX[h - p, c, s x + j - p, n] += dL[h, c, j, x, n].
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
        room = min(shape[0], shape[-1]) + 2 * self.padding
        if len(shape) != 3 or shape[1] != self.channels or room < self.size:
            raise ArgumentError(
                f"{self!r} takes images (H, {self.channels}, W) of at least {self.size - 2 * self.padding} rows and "
                f"columns, got {shape}"
            )
        return (self._positions(shape[0]), self.kernels, self._positions(shape[2]))

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, N = X.shape[0], X.shape[-1]
        OH, O, OW = self.output_shape(X.shape[1:4])
        L = self._lower(X, ws)  # (R, H + 2p, C, kw, OW, N)
        V = self._rows(L)  # (R, OH, kh*C*kw, OW*N), overlapping
        Y = product(self.W.value[:, None], V, out=ws.buffer(self, "Y", (R, OH, O, OW * N), X.dtype))
        if self.b:
            Y += self.b.value[:, None]
        ws.save(self, L, X.shape)
        return Y.reshape(R, OH, O, OW, N)

    def backward(self, dY: Any, ws: Workspace, need_dX: bool = True, need_dW: bool = True) -> Any:
        L, X_shape = ws.saved(self)
        R, OH, O, OW, N = dY.shape
        if need_dW and not ws.keeps(self, dY, L, X_shape):
            self.weight_gradient(dY, ws, L, X_shape)
        return self._input_gradient(dY.reshape(R, OH, O, OW * N), X_shape, ws) if need_dX else None

    def weight_gradient(self, dY: Any, ws: Workspace, L: Any, X_shape: tuple[int, ...]) -> None:
        R, OH, O, OW, N = dY.shape
        V, dY = self._rows(L), dY.reshape(R, OH, O, OW * N)
        rows = ws.scratch("dW of rows", (R, OH, V.shape[2], O), dY.dtype)
        product(V, dY.swapaxes(-1, -2), out=rows)  # dW^T: BLAS does V dY^T faster than dY V^T
        self.W.grad[...] = xp.sum(rows, axis=1).swapaxes(-1, -2)
        if self.b:
            self.b.grad[..., 0] = xp.sum(xp.sum(dY, axis=-1), axis=1)  # (R, O)

    def record_norms(self, dY: Any, ws: Workspace, *saved: Any) -> Any:
        """Of dW_n: row i of the kernels has the gradient D^T A_i, with A_i the rows i, s + i, 2s + i, ... of L."""
        R, OH, O, OW, N = dY.shape
        k, s, CK, T = self.size, self.stride, self.channels * self.size, OH * OW
        M = self.W.support
        if M is not None:
            M = M.reshape(R, O, k, -1, k).transpose(0, 2, 1, 4, 3).reshape(R, k, O, CK)  # (R, kh, O, kw*C)
        norms = xp.empty((R, N), dY.dtype)
        for block in blocks(N, R * (s * T * CK + T * O + O * CK)):
            L = self._lowered_records(block, ws, *saved)  # (R, b, H + 2p, OW, kw*C)
            D = records_first(dY[..., block], "D", ws)  # (R, b, OH, OW, O)
            b = D.shape[1]
            A = [L[:, :, i : i + s * (OH - 1) + 1 : s].reshape(R, b, T, CK) for i in range(k)]
            norms[:, block] = pair_norms(A, D.reshape(R, b, T, O), self.b is not None, M, ws)
        return norms

    def _lowered_records(self, block: slice, ws: Workspace, L: Any, X_shape: tuple[int, ...]) -> Any:
        """L of a block of records, which come first: (R, b, H + 2p, OW, kw*C)."""
        L = records_first(L[..., block], "L", ws)  # (R, b, H + 2p, OW, kw, C)
        return L.reshape(*L.shape[:4], -1)

    def _input_gradient(self, dY: Any, X_shape: tuple[int, ...], ws: Workspace) -> Any:
        R, H, C, _, N = X_shape
        OH, k, s, p = dY.shape[1], self.size, self.stride, self.padding
        OW = dY.shape[3] // N
        dL = ws.scratch("dL", (R, H + 2 * p, C * k, OW * N), dY.dtype)
        dV = ws.scratch("dV", (R, k * C * k, OW * N), dY.dtype)
        dL[...] = 0
        for i in range(OH):
            product(self.W.value.swapaxes(-1, -2), dY[:, i], out=dV)  # (R, kh*C*kw, OW*N)
            dL[:, s * i : s * i + k] += dV.reshape(R, k, C * k, OW * N)
        dX = ws.gradient(self, X_shape, dY.dtype)
        self._fold_columns(dL.reshape(R, H + 2 * p, C, k, OW, N)[:, p : p + H], out=dX)
        return dX

    def _lower(self, X: Any, ws: Workspace) -> Any:
        """L (R, H + 2p, C, kw, OW, N): the input once per kernel column."""
        R, H, C, W, N = X.shape
        p, OW = self.padding, self._positions(W)
        L = ws.buffer(self, "L", (R, H + 2 * p, C, self.size, OW, N), X.dtype)
        L[:, :p] = 0
        L[:, p + H :] = 0
        self._lower_columns(X, out=L[:, p : p + H])
        return L

    def _lower_columns(self, X: Any, out: Any) -> None:
        """out[h, c, j, x, n] = X[h, c, s x + j - p, n], zeros outside of X; (R, H, C, W, N) to (R, H, C, kw, OW, N)."""
        W, OW = X.shape[3], out.shape[4]
        for j in range(self.size):
            x, columns = self._overlap(j, W, OW)
            out[:, :, :, j, : x.start] = 0
            out[:, :, :, j, x.stop :] = 0
            out[:, :, :, j, x] = X[:, :, :, columns]

    def _fold_columns(self, dL: Any, out: Any) -> None:
        """The transpose: out[h, c, s x + j - p, n] = the sum of all dL[h, c, j, x, n]."""
        W, OW = out.shape[3], dL.shape[4]
        out[...] = 0
        for j in range(self.size):
            x, columns = self._overlap(j, W, OW)
            out[:, :, :, columns] += dL[:, :, :, j, x]

    def _rows(self, L: Any) -> Any:
        """V (R, OH, kh*C*kw, OW*N): for each output row, its kh adjacent rows of L, as an overlapping view."""
        R, HP, C, k, OW, N = L.shape
        OH = (HP - k) // self.stride + 1
        of_replica, of_row, item = L.strides[0], L.strides[1], L.itemsize
        return windows(L, (R, OH, k * C * k, OW * N), (of_replica, self.stride * of_row, OW * N * item, item))

    def _overlap(self, j: int, W: int, OW: int) -> tuple[slice, slice]:
        """For kernel column j: the output columns x with s x + j - p inside of the image, and these image columns."""
        s, p = self.stride, self.padding
        first = min(max(0, -((j - p) // s)), OW)  # smallest x with s x + j - p >= 0
        last = max(min(OW, (W - 1 + p - j) // s + 1), first)  # one past the largest with s x + j - p < W
        return slice(first, last), slice(s * first + j - p, s * last + j - p, s) if last > first else slice(0, 0)

    def _positions(self, length: int) -> int:
        return (length + 2 * self.padding - self.size) // self.stride + 1

    def by_unit(self, W: np.ndarray) -> np.ndarray:
        k = self.size
        return W.reshape(-1, k, self.channels, k).swapaxes(1, 2).reshape(-1, self.channels, k * k)

    def from_units(self, A: np.ndarray) -> np.ndarray:
        O, C, k = *A.shape[:2], self.size
        return A.reshape(O, C, k, k).swapaxes(1, 2).reshape(O, k * C * k)

    def resized(self, inputs: int, outputs: int) -> "Conv2D":
        return Conv2D(inputs, outputs, self.size, self.stride, self.padding, self.b is not None)

    def __repr__(self) -> str:
        sizes = f"{self.channels}, {self.kernels}, {self.size}, stride={self.stride}, padding={self.padding}"
        return f"Conv2D({sizes})" if self.b else f"Conv2D({sizes}, bias=False)"
