"""The 1x1 convolution."""

from typing import Any

from nanoprune.backend import product, xp
from nanoprune.errors import ArgumentError
from nanoprune.lab.shrink.units import Linear
from nanoprune.nn.channels import total
from nanoprune.nn.layer import Parameter, he, positive
from nanoprune.nn.records import blocks, pair_norms, records_first
from nanoprune.nn.workspace import Workspace


class Pointwise(Linear):
    """The affine map of every pixel's channels, of every s-th row and column: a 1x1 convolution with stride s.

    X (R, H, C, W, N), W (R, O, C), b (R, O, 1), Y (R, OH, O, OW, N) with OH = (H - 1) // s + 1. Each row of the image
    is one matrix of pixels and samples, (C, OW*N), and nothing is copied where s = 1:
        Y[y] = W X[s y, :, ::s] + b,    dX[s y, :, ::s] = W^T dY[y],
        dW = sum_y dY[y] X[s y, :, ::s]^T,    db = sum dY.
    """

    def __init__(self, channels: int, kernels: int, stride: int = 1, bias: bool = True) -> None:
        self.channels, self.kernels = positive("channels", channels), positive("kernels", kernels)
        self.stride = positive("stride", stride)
        self.W = Parameter("W", (kernels, channels), he(channels), prunable=True, window=(1, channels, 1))
        self.b = Parameter("b", (kernels, 1), std=0.0, prunable=False) if bias else None

    def parameters(self) -> list[Parameter]:
        return [self.W, self.b] if self.b else [self.W]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3 or shape[1] != self.channels:
            raise ArgumentError(f"{self!r} takes images (H, {self.channels}, W), got {shape}")
        return ((shape[0] - 1) // self.stride + 1, self.kernels, (shape[2] - 1) // self.stride + 1)

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, C, N, s = X.shape[0], self.channels, X.shape[-1], self.stride
        OH, O, OW = self.output_shape(X.shape[1:4])
        if s > 1:
            A = ws.buffer(self, "A", (R, OH, C, OW, N), X.dtype)
            A[...] = X[:, ::s, :, ::s]
        else:
            A = X
        A = A.reshape(R, OH, C, OW * N)
        Y = product(self.W.value[:, None], A, out=ws.buffer(self, "Y", (R, OH, O, OW * N), X.dtype))
        if self.b:
            Y += self.b.value[:, None]
        ws.save(self, A, X.shape)
        return Y.reshape(R, OH, O, OW, N)

    def backward(self, dY: Any, ws: Workspace, need_dX: bool = True, need_dW: bool = True) -> Any:
        A, X_shape = ws.saved(self)
        R, OH, O, OW, N = dY.shape
        D = dY.reshape(R, OH, O, OW * N)
        if need_dW and not ws.keeps(self, dY, A):
            self.weight_gradient(dY, ws, A)
        if not need_dX:
            return None
        dX = ws.gradient(self, X_shape, D.dtype)
        dA = dX.reshape(A.shape) if self.stride == 1 else ws.scratch("dA", A.shape, D.dtype)
        product(self.W.value.swapaxes(-1, -2)[:, None], D, out=dA)
        if self.stride == 1:
            return dX
        dA = dA.reshape(R, OH, self.channels, OW, N)
        dX[...] = 0
        dX[:, :: self.stride, :, :: self.stride] = dA
        return dX

    def weight_gradient(self, dY: Any, ws: Workspace, A: Any) -> None:
        D = dY.reshape(*dY.shape[:3], -1)  # (R, OH, O, OW*N)
        row = ws.scratch("dW of a row", self.W.grad.shape, D.dtype)
        for y in range(D.shape[1]):
            product(D[:, y], A[:, y].swapaxes(-1, -2), out=row)  # (R, O, C)
            if y:
                self.W.grad += row
            else:
                self.W.grad[...] = row
        if self.b:
            self.b.grad[...] = total(D)  # (R, O, 1)

    def record_norms(self, dY: Any, ws: Workspace, A: Any) -> Any:
        """Of dW_n = D^T A, with A and D a record's T pixels before and after."""
        R, OH, O, OW, N = dY.shape
        C, T = self.channels, OH * OW
        M = None if self.W.support is None else self.W.support[:, None]  # (R, 1, O, C)
        norms, A = xp.empty((R, N), dY.dtype), A.reshape(R, OH, C, OW, N)
        for block in blocks(N, R * (T * C + T * O + O * C)):
            X = records_first(A[..., block], "X", ws).reshape(R, -1, T, C)
            D = records_first(dY[..., block], "D", ws).reshape(R, -1, T, O)
            norms[:, block] = pair_norms([X], D, self.b is not None, M, ws)
        return norms

    def resized(self, inputs: int, outputs: int) -> "Pointwise":
        return Pointwise(inputs, outputs, self.stride, self.b is not None)

    def __repr__(self) -> str:
        bias = "" if self.b else ", bias=False"
        return f"Pointwise({self.channels}, {self.kernels}, stride={self.stride}{bias})"
