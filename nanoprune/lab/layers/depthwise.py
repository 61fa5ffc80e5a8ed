"""The depthwise convolution: one kernel per channel."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.lab.layers.channels import flat, inner, row_blocks, total
from nanoprune.nn.layer import Layer, he, positive, windows_along
from nanoprune.nn.parameter import Parameter
from nanoprune.nn.workspace import Workspace


class DepthwiseConv2D(Layer):
    r"""Cross-correlation of channel c with its own k x k kernel W[c], stride s, p rows and columns of zeros around.

    X (R, H, C, W, N), W (R, C, k*k), b (R, C, 1), Y (R, OH, C, OW, N) with $OH = \lfloor (H + 2p - k)/s \rfloor + 1$.
    With P the input in a frame of zeros, $P[h + p, c, x + p, n] = X[h, c, x, n]$, and one shifted view of it for each
    kernel entry (i, j), $T_{ij}[y, c, x, n] = P[s y + i, c, s x + j, n]$,
    $$Y = \sum_{ij} W_{c,ij} T_{ij} + b, \quad dW_{c,ij} = \sum_{yxn} dY\, T_{ij}, \quad
      dT_{ij} \mathrel{+}= W_{c,ij}\, dY, \quad db = \sum dY.$$
    """

    def __init__(self, channels: int, size: int, stride: int = 1, padding: int = 0, bias: bool = True) -> None:
        self.channels = positive("channels", channels)
        self.size, self.stride = positive("size", size), positive("stride", stride)
        if not isinstance(padding, int) or padding < 0:
            raise ArgumentError(f"padding must be an integer of at least 0, got {padding!r}")
        self.padding = padding
        self.W = Parameter("W", (channels, size**2), he(size**2), prunable=True, window=(size, 1, size), depthwise=True)
        self.b = Parameter("b", (channels, 1), std=0.0, prunable=False) if bias else None

    def parameters(self) -> list[Parameter]:
        return [self.W, self.b] if self.b else [self.W]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3 or shape[1] != self.channels or min(shape[0], shape[2]) + 2 * self.padding < self.size:
            least = self.size - 2 * self.padding
            raise ArgumentError(
                f"{self!r} takes images (H, {self.channels}, W) of at least {least} rows and columns, got {shape}"
            )
        OH, OW = (windows_along(length, self.size, self.stride, self.padding) for length in (shape[0], shape[2]))
        return (OH, self.channels, OW)

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, H, C, W, N = X.shape
        p = self.padding
        P = ws.buffer(self, "P", (R, H + 2 * p, C, W + 2 * p, N), X.dtype)
        Y = ws.buffer(self, "Y", (R, *self.output_shape((H, C, W)), N), X.dtype)
        frame(X, p, out=P)
        self.correlate(P, self.W.value, Y, ws)  # sum_ij W_c,ij T_ij
        if self.b:
            Y += self.b.value[:, None, :, :, None]  # + b
        ws.save(self, P, X.shape)
        return Y

    def correlate(self, P: Any, W: Any, Y: Any, ws: Workspace) -> None:
        """Y = sum_ij W[c, ij] T_ij, with W (R, C, k*k)."""
        for rows in row_blocks(Y.shape):
            out = Y[:, rows]
            term = ws.scratch("term", out.shape, Y.dtype)
            for ij in range(self.size**2):
                T, weight = self.view(P, ij, rows, Y.shape), W[:, None, :, ij, None, None]  # (R, 1, C, 1, 1)
                if ij:
                    out += xp.multiply(T, weight, out=term)
                else:
                    xp.multiply(T, weight, out=out)

    def weight_gradient(self, dY: Any, ws: Workspace, P: Any, X_shape: tuple[int, ...]) -> None:
        self.W.grad[...] = 0
        for rows in row_blocks(dY.shape):
            for ij in range(self.size**2):  # dW_c,ij = sum dY T_ij
                self.W.grad[..., ij : ij + 1] += inner(flat(dY[:, rows]), flat(self.view(P, ij, rows, dY.shape)))
        if self.b:
            self.b.grad[...] = total(flat(dY))  # (R, C, 1)

    def input_gradient(self, dY: Any, ws: Workspace, P: Any, X_shape: tuple[int, ...]) -> Any:
        H, W, p = X_shape[1], X_shape[3], self.padding
        dP = ws.gradient(self, P.shape, dY.dtype)
        dP[...] = 0
        for rows in row_blocks(dY.shape):
            term = ws.scratch("term", dY[:, rows].shape, dY.dtype)
            for ij in range(self.size**2):  # dT_ij += W_c,ij dY
                dT = self.view(dP, ij, rows, dY.shape)
                dT += xp.multiply(dY[:, rows], self.W.value[:, None, :, ij, None, None], out=term)
        return dP[:, p : p + H, :, p : p + W]

    def view(self, A: Any, ij: int, rows: slice, shape: tuple[int, ...]) -> Any:
        """The given rows y of T_ij, a view of A = P or dP, (R, rows, C, OW, N); ij stands for k i + j."""
        (i, j), s = divmod(ij, self.size), self.stride
        columns = slice(j, j + s * (shape[3] - 1) + 1, s)
        return A[:, s * rows.start + i : s * (rows.stop - 1) + i + 1 : s, :, columns]

    def __repr__(self) -> str:
        bias = "" if self.b else ", bias=False"
        return f"DepthwiseConv2D({self.channels}, {self.size}, stride={self.stride}, padding={self.padding}{bias})"


def frame(X: Any, p: int, out: Any) -> None:
    """out = X (R, H, C, W, N) with p rows and columns of zeros around."""
    H, W = X.shape[1], X.shape[3]
    out[:, :p] = 0
    out[:, p + H :] = 0
    out[:, :, :, :p] = 0
    out[:, :, :, p + W :] = 0
    out[:, p : p + H, :, p : p + W] = X
