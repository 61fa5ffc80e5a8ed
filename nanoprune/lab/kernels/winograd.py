"""Convolution with fewer multiplications: Winograd's minimal filtering over the row index of the image."""

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from nanoprune.backend import to_device, xp
from nanoprune.defend.place_norms import records_first
from nanoprune.defend.record_norms import lowered_records
from nanoprune.errors import ArgumentError
from nanoprune.nn.conv2d import Conv2D
from nanoprune.nn.workspace import Workspace

POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # evaluation points of the polynomials, in addition to infinity
TILE = 4  # m: output rows that are computed together
MANY = 3  # channels from which it is faster; benchmarks/winograd_channels.py


@functools.cache
def minimal_filter(m: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (t, m), G (t, k), B (t, t) with t = m + k - 1: m outputs of a filter with k taps for t products, not m k.

        y = A^T [(G w) * (B x)]    is    y[i] = sum_r w[r] x[i + r]    for w (k,), x (t,), y (m,); * is elementwise

    (Toom 1963; Winograd 1980, "F(m, k)"; Lavin & Gray 2016, arXiv 1509.09308). Why: the product of two polynomials with
    coefficients w (k,) and v (m,) has t coefficients, which its values at t points determine. With E_n the matrix that
    evaluates n coefficients at the points, they are E_t^-1 [(E_k w) * (E_m v)]: for a given w a linear map of v, whose
    transpose is the filter. To reduce rounding, each row of B is scaled to a largest entry of 1, and the row of G by
    the inverse. float64. Raises ArgumentError where m + k - 1 exceeds the number of points.
    """
    t = m + k - 1
    if not 2 <= t <= len(POINTS) + 1:
        raise ArgumentError(f"m + k must lie in 3..{len(POINTS) + 2}, got {m} + {k}")

    def evaluate(n: int) -> np.ndarray:
        powers = np.power.outer(np.array(POINTS[: t - 1]), np.arange(n))  # (t - 1, n): 1, p, p^2, ...
        return np.vstack([powers, np.eye(n)[-1]])  # (t, n); at infinity the value is the leading coefficient

    A, G, B = evaluate(m), evaluate(k), np.linalg.inv(evaluate(t)).T
    scale = np.abs(B).max(axis=1, keepdims=True)  # (t, 1)
    return A, G * scale, B / scale


class Tile(NamedTuple):
    """m output rows, the image rows that they need, and the taps (of t) of these rows.

    Rows outside of the image are zeros, so their taps are left out of the sums.
    """

    inputs: slice
    taps: slice
    outputs: slice


class WinogradConv2D(Conv2D):
    """`Conv2D` with stride 1, m output rows at a time by the minimal filter F(m, k) over the row index.

    The taps of this filter are matrices, the rows W_r (O, C*kw) of the kernels, and its inputs are image rows X_h. For
    each tile of m output rows, from the t = m + k - 1 image rows that it needs:

        Z = B X                      (t, C, W, N)        sums of whole rows
        L = lower(Z)                 (t, C*kw, OW*N)     once per kernel column, as in `Conv2D`
        M_s = (G W)_s L_s            (t, O, OW*N)        t matrix products where `Conv2D` takes m k
        Y = A^T M + b                (m, O, OW*N)        sums of whole rows

    and backward the transpose of each step, in the opposite order:

        dM = A dY,   d(G W)_s = dM_s L_s^T,   dW = G^T d(G W),   dL_s = (G W)_s^T dM_s,   dZ = fold(dL),   dX += B^T dZ.

    With m = 4, a kernel of 3 x 3 takes half of the multiplications, one of 5 x 5 two fifths. Raises ArgumentError where
    size is above 5.
    """

    def __init__(self, channels: int, kernels: int, size: int, padding: int = 0, bias: bool = True) -> None:
        super().__init__(channels, kernels, size, stride=1, padding=padding, bias=bias)
        if TILE + size - 1 > len(POINTS) + 1:
            raise ArgumentError(f"size must be at most {len(POINTS) + 2 - TILE} here, got {size}; use Conv2D")

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, H, N = X.shape[0], X.shape[1], X.shape[-1]
        OH, O, OW = self.output_shape(X.shape[1:4])
        A, G, _ = self._filter(X.dtype)
        GW = self._transformed(ws)  # (R, O, t, C*kw)
        M = ws.scratch("M", (R, len(G), O, OW * N), X.dtype)
        Y = ws.buffer(self, "Y", (R, OH, O, OW, N), X.dtype)
        for tile in self._tiles(H, OH):
            L = self._lowered(X, tile, OW, ws)  # (R, t, C*kw, OW*N)
            xp.matmul(GW.swapaxes(1, 2), L, out=M)
            rows = Y[:, tile.outputs]  # (R, m, O, OW, N)
            xp.matmul(A.T[: rows.shape[1]], _flat(M), out=_flat(rows))
            if self.b:
                rows += self.b.value[:, None, :, :, None]
        ws.save(self, X)
        return Y

    def weight_gradient(self, dY: Any, ws: Workspace, X: Any) -> None:
        R, OH, O, OW, N = dY.shape
        _, G, _ = self._filter(X.dtype)
        dGW = ws.scratch("dGW", (R, len(G), O, X.shape[2] * self.size), X.dtype)
        for i, tile in enumerate(self._tiles(X.shape[1], OH)):
            dM, L = self._tile_gradient(dY, tile, ws), self._lowered(X, tile, OW, ws)
            part = ws.scratch("dGW of a tile", dGW.shape, X.dtype) if i else dGW
            xp.matmul(dM, L.swapaxes(-1, -2), out=part)  # d(G W)_s = dM_s L_s^T
            if i:
                dGW += part
        xp.matmul(G.T, dGW.swapaxes(1, 2), out=self.W.grad.reshape(R, O, self.size, -1))  # dW = G^T d(G W)
        if self.b:
            self.b.grad[..., 0] = xp.sum(xp.sum(dY.reshape(R, OH, O, OW * N), axis=-1), axis=1)  # (R, O)

    def input_gradient(self, dY: Any, ws: Workspace, X: Any) -> Any:
        R, OH, _, OW, N = dY.shape
        _, _, B = self._filter(X.dtype)
        GW = self._transformed(ws)  # (R, O, t, C*kw); computing it twice is cheaper than keeping it
        dX = ws.gradient(self, X.shape, X.dtype)
        dX[...] = 0
        for tile in self._tiles(X.shape[1], OH):
            dM = self._tile_gradient(dY, tile, ws)
            dL = ws.scratch("L", (R, len(B), GW.shape[3], OW * N), X.dtype)
            xp.matmul(GW.transpose(0, 2, 3, 1), dM, out=dL)  # dL_s = (G W)_s^T dM_s
            dZ = self._folded(dL, X.shape, ws)  # (R, t, C, W, N)
            rows = _flat(dX[:, tile.inputs])  # (R, up to t, C*W*N)
            rows += xp.matmul(B[:, tile.taps].T, _flat(dZ), out=ws.scratch("rows", rows.shape, X.dtype))
        return dX

    def _tile_gradient(self, dY: Any, tile: Tile, ws: Workspace) -> Any:
        """dM = A dY of one tile, (R, t, O, OW*N)."""
        R, _, O, OW, N = dY.shape
        A, G, _ = self._filter(dY.dtype)
        dM, rows = ws.scratch("M", (R, len(G), O, OW * N), dY.dtype), dY[:, tile.outputs]  # (R, m, O, OW, N)
        xp.matmul(A[:, : rows.shape[1]], _flat(rows), out=_flat(dM))
        return dM

    def _lowered(self, X: Any, tile: Tile, OW: int, ws: Workspace) -> Any:
        """L = lower(B X) of one tile, (R, t, C*kw, OW*N)."""
        R, _, C, W, N = X.shape
        _, _, B = self._filter(X.dtype)
        Z = ws.scratch("Z", (R, len(B), C, W, N), X.dtype)
        L = ws.scratch("L", (R, len(B), C, self.size, OW, N), X.dtype)
        xp.matmul(B[:, tile.taps], _flat(X[:, tile.inputs]), out=_flat(Z))
        self.lower_columns(Z, out=L)
        return L.reshape(R, len(B), C * self.size, OW * N)

    def _folded(self, dL: Any, X_shape: tuple[int, ...], ws: Workspace) -> Any:
        """dZ = fold(dL) of one tile, (R, t, C, W, N)."""
        R, _, C, W, N = X_shape
        dZ = ws.scratch("Z", (R, dL.shape[1], C, W, N), dL.dtype)
        self.fold_columns(dL.reshape(R, dL.shape[1], C, self.size, -1, N), out=dZ)
        return dZ

    def _transformed(self, ws: Workspace) -> Any:
        """G W, (R, O, t, C*kw)."""
        W = self.W.value
        _, G, _ = self._filter(W.dtype)
        taps = W.reshape(*W.shape[:2], self.size, -1)  # (R, O, kh, C*kw)
        return xp.matmul(G, taps, out=ws.scratch("GW", (*W.shape[:2], len(G), taps.shape[3]), W.dtype))

    def _filter(self, dtype: Any) -> list:
        """A (t, m), G (t, k), B (t, t) on the device."""
        return [to_device(matrix.astype(dtype)) for matrix in minimal_filter(TILE, self.size)]

    def _tiles(self, H: int, OH: int) -> list[Tile]:
        """The tiles of m output rows of an image of H rows; the last one may have fewer."""
        tiles = []
        for start in range(0, OH, TILE):
            top = start - self.padding  # the image row of the first tap
            first, last = (min(max(row, 0), H) for row in (top, top + TILE + self.size - 1))
            taps = slice(first - top, last - top)
            tiles.append(Tile(slice(first, last), taps, slice(start, min(start + TILE, OH))))
        return tiles

    def __repr__(self) -> str:
        sizes = f"{self.channels}, {self.kernels}, {self.size}, padding={self.padding}"
        return f"WinogradConv2D({sizes})" if self.b else f"WinogradConv2D({sizes}, bias=False)"


def convolution(channels: int, kernels: int, size: int, stride: int = 1, padding: int = 0, bias: bool = True) -> Conv2D:
    """The faster implementation of a convolution: `WinogradConv2D` for 3 x 3 and 5 x 5 kernels over many channels.

    With few channels its sums cost more than the products that it saves. On a GPU it has not been measured.
    """
    if xp._module is np and stride == 1 and size in (3, 5) and channels >= MANY:
        return WinogradConv2D(channels, kernels, size, padding, bias)
    return Conv2D(channels, kernels, size, stride, padding, bias)


@lowered_records.register
def _(layer: WinogradConv2D, block: slice, ws: Workspace, X: Any) -> Any:
    """As for `Conv2D`, but computed from X, since no L is saved: (R, b, H + 2p, OW, kw*C) float64."""
    X = records_first(X[..., block], "X", ws)  # (R, b, H, W, C)
    R, b, H, W, C = X.shape
    p, (_, _, OW) = layer.padding, layer.output_shape((H, C, W))
    L = ws.scratch("L of records", (R, b, H + 2 * p, OW, layer.size, C), X.dtype)
    L[:, :, :p] = 0
    L[:, :, p + H :] = 0
    for j in range(layer.size):
        x, columns = layer.overlap(j, W, OW)
        L[:, :, p : p + H, : x.start, j] = 0
        L[:, :, p : p + H, x.stop :, j] = 0
        L[:, :, p : p + H, x, j] = X[:, :, :, columns]
    return L.reshape(R, b, H + 2 * p, OW, layer.size * C)


def _flat(A: Any) -> Any:
    """(R, n, ...) as (R, n, everything else): a view."""
    return A.reshape(*A.shape[:2], math.prod(A.shape[2:]))
