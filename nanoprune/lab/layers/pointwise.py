"""The 1x1 convolution."""

from typing import Any

from nanoprune.backend import product
from nanoprune.errors import ArgumentError
from nanoprune.lab.layers.channels import total
from nanoprune.nn.layer import Layer, he, positive
from nanoprune.nn.parameter import Parameter
from nanoprune.nn.workspace import Workspace


class Pointwise(Layer):
    r"""A 1x1 convolution with stride s: an affine map of each pixel's channels, in every s-th row and column.

    X (R, H, C, W, N), W (R, O, C), b (R, O, 1), Y (R, OH, O, OW, N) with $OH = \lfloor (H - 1)/s \rfloor + 1$. Row y
    of the output reads one matrix of pixels and samples, $A_y = X[s y, :, ::s]$ (C, OW*N), not copied where s = 1:
    $$Y_y = W A_y + b, \quad dA_y = W^T dY_y, \quad dW = \sum_y dY_y A_y^T, \quad db = \sum_y dY_y.$$
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
        R, N, s = X.shape[0], X.shape[-1], self.stride
        OH, O, OW = self.output_shape(X.shape[1:4])
        A = X
        if s > 1:
            A = ws.buffer(self, "A", (R, OH, self.channels, OW, N), X.dtype)
            A[...] = X[:, ::s, :, ::s]
        A = A.reshape(R, OH, self.channels, OW * N)
        Y = product(self.W.value[:, None], A, out=ws.buffer(self, "Y", (R, OH, O, OW * N), X.dtype))  # W A_y
        if self.b:
            Y += self.b.value[:, None]  # + b
        ws.save(self, A, X.shape)
        return Y.reshape(R, OH, O, OW, N)

    def weight_gradient(self, dY: Any, ws: Workspace, A: Any, X_shape: tuple[int, ...]) -> None:
        D = dY.reshape(*dY.shape[:3], -1)  # (R, OH, O, OW*N)
        row = ws.scratch("dW of a row", self.W.grad.shape, D.dtype)
        for y in range(D.shape[1]):
            product(D[:, y], A[:, y].swapaxes(-1, -2), out=row)  # dY_y A_y^T  (R, O, C)
            if y:
                self.W.grad += row
            else:
                self.W.grad[...] = row
        if self.b:
            self.b.grad[...] = total(D)  # (R, O, 1)

    def input_gradient(self, dY: Any, ws: Workspace, A: Any, X_shape: tuple[int, ...]) -> Any:
        R, OH, O, OW, N = dY.shape
        dX = ws.gradient(self, X_shape, dY.dtype)
        dA = dX.reshape(A.shape) if self.stride == 1 else ws.scratch("dA", A.shape, dY.dtype)
        product(self.W.value.swapaxes(-1, -2)[:, None], dY.reshape(R, OH, O, OW * N), out=dA)  # W^T dY_y
        if self.stride > 1:
            dX[...] = 0
            dX[:, :: self.stride, :, :: self.stride] = dA.reshape(R, OH, self.channels, OW, N)
        return dX

    def __repr__(self) -> str:
        bias = "" if self.b else ", bias=False"
        return f"Pointwise({self.channels}, {self.kernels}, stride={self.stride}{bias})"
