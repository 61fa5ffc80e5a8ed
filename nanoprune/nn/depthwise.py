"""A convolution of each channel by itself."""

from collections.abc import Iterator
from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer, Parameter, he, positive
from nanoprune.nn.workspace import Workspace


class DepthwiseConv2D(Layer):
    """Cross-correlation of channel c with its own k x k kernel W[c], stride s, p rows and columns of zeros around.

    X (R, H, C, W, N), W (R, C, k*k), b (R, C, 1), Y (R, OH, C, OW, N) with OH = (H + 2p - k) // s + 1. With P the input
    in its frame of zeros, P[h + p, c, x + p, n] = X[h, c, x, n], and one shifted view of it for each tap (i, j),
        T_ij[y, c, x, n] = P[s y + i, c, s x + j, n],
    forward and backward are k*k scaled additions of these views:
        Y = sum_ij W[c, i, j] T_ij + b,    dW[c, i, j] = sum_yxn dY T_ij,    dT_ij += W[c, i, j] dY,    db = sum dY.
    """

    def __init__(self, channels: int, size: int, stride: int = 1, padding: int = 0, bias: bool = True) -> None:
        self.channels = positive("channels", channels)
        self.size, self.stride = positive("size", size), positive("stride", stride)
        if not isinstance(padding, int) or padding < 0:
            raise ArgumentError(f"padding must be an integer of at least 0, got {padding!r}")
        self.padding = padding
        self.W = Parameter("W", (channels, size**2), std=he(size**2), prunable=True)
        self.b = Parameter("b", (channels, 1), std=0.0, prunable=False) if bias else None

    def parameters(self) -> list[Parameter]:
        return [self.W, self.b] if self.b else [self.W]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        room = min(shape[0], shape[-1]) + 2 * self.padding
        if len(shape) != 3 or shape[1] != self.channels or room < self.size:
            raise ArgumentError(
                f"{self!r} takes images (H, {self.channels}, W) of at least {self.size - 2 * self.padding} rows and "
                f"columns, got {shape}"
            )
        OH, OW = ((length + 2 * self.padding - self.size) // self.stride + 1 for length in (shape[0], shape[2]))
        return (OH, self.channels, OW)

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, H, C, W, N = X.shape
        p, shape = self.padding, (R, *self.output_shape((H, C, W)), N)
        P = ws.buffer(self, "P", (R, H + 2 * p, C, W + 2 * p, N), X.dtype)
        P[:, :p] = 0
        P[:, p + H :] = 0
        P[:, :, :, :p] = 0
        P[:, :, :, p + W :] = 0
        P[:, p : p + H, :, p : p + W] = X
        Y = ws.buffer(self, "Y", shape, X.dtype)
        term = ws.buffer(self, "term", shape, X.dtype)
        Y[...] = self.b.value[:, None, :, :, None] if self.b else 0
        for tap, T in self._taps(P, shape):
            Y += xp.multiply(T, self._weight(tap), out=term)
        ws.save(self, P, X.shape)
        return Y

    def backward(self, dY: Any, ws: Workspace, need_dX: bool = True, need_dW: bool = True) -> Any:
        P, X_shape = ws.saved(self)
        H, W, p = X_shape[1], X_shape[3], self.padding
        term = ws.buffer(self, "term", dY.shape, dY.dtype)
        if need_dW:
            for tap, T in self._taps(P, dY.shape):
                self.W.grad[..., tap] = self._over_channels(xp.multiply(dY, T, out=term))
            if self.b:
                self.b.grad[..., 0] = self._over_channels(dY)
        if not need_dX:
            return None
        dP = ws.buffer(self, "dP", P.shape, dY.dtype)
        dP[...] = 0
        for tap, dT in self._taps(dP, dY.shape):
            dT += xp.multiply(dY, self._weight(tap), out=term)
        return dP[:, p : p + H, :, p : p + W]

    def _taps(self, P: Any, shape: tuple[int, ...]) -> Iterator[tuple[int, Any]]:
        """(k i + j, T_ij) for each tap: a view of P with the shape of the output, (R, OH, C, OW, N)."""
        k, s, OH, OW = self.size, self.stride, shape[1], shape[3]
        for i in range(k):
            for j in range(k):
                yield k * i + j, P[:, i : i + s * (OH - 1) + 1 : s, :, j : j + s * (OW - 1) + 1 : s]

    def _weight(self, tap: int) -> Any:
        """(R, 1, C, 1, 1)."""
        return self.W.value[:, None, :, tap, None, None]

    def _over_channels(self, A: Any) -> Any:
        """The sum over each channel of A (R, OH, C, OW, N), (R, C)."""
        return xp.sum(xp.sum(A.reshape(*A.shape[:3], -1), axis=-1), axis=1)

    def __repr__(self) -> str:
        bias = "" if self.b else ", bias=False"
        return f"DepthwiseConv2D({self.channels}, {self.size}, stride={self.stride}, padding={self.padding}{bias})"
