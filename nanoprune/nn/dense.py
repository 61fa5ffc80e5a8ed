"""The fully connected layer."""

from typing import Any

from nanoprune.backend import product, xp
from nanoprune.errors import ArgumentError
from nanoprune.lab.shrink.units import Linear
from nanoprune.nn.layer import Parameter, he, positive
from nanoprune.nn.workspace import Workspace


class Dense(Linear):
    """Affine map of every sample, Y = W X + b.

    X (R, in, N), W (R, out, in), b (R, out, 1), Y (R, out, N). From dY = dL/dY:
    dW = dY X^T,  db = sum_n dY,  dX = W^T dY.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        self.inputs, self.outputs = positive("inputs", inputs), positive("outputs", outputs)
        self.W = Parameter("W", (outputs, inputs), std=he(inputs), prunable=True)
        self.b = Parameter("b", (outputs, 1), std=0.0, prunable=False)

    def parameters(self) -> list[Parameter]:
        return [self.W, self.b]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape != (self.inputs,):
            raise ArgumentError(f"{self!r} takes inputs of shape ({self.inputs},), got {shape}")
        return (self.outputs,)

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, _, N = X.shape
        Y = product(self.W.value, X, out=ws.buffer(self, "Y", (R, self.outputs, N), X.dtype))  # (R, out, N)
        Y += self.b.value
        ws.save(self, X)
        return Y

    def backward(self, dY: Any, ws: Workspace, need_dX: bool = True, need_dW: bool = True) -> Any:
        (X,) = ws.saved(self)
        if need_dW and not ws.keeps(self, dY, X):
            self.weight_gradient(dY, ws, X)
        if need_dX:
            dX = ws.gradient(self, X.shape, X.dtype)
            return product(self.W.value.swapaxes(-1, -2), dY, out=dX)  # (R, in, N)
        return None

    def weight_gradient(self, dY: Any, ws: Workspace, X: Any) -> None:
        product(dY, X.swapaxes(-1, -2), out=self.W.grad)  # (R, out, in)
        xp.sum(dY, axis=-1, keepdims=True, out=self.b.grad)  # (R, out, 1)

    def record_norms(self, dY: Any, ws: Workspace, X: Any) -> Any:
        """dW_n = dy_n x_n^T has rank one: |dW_n|^2 = |dy_n|^2 |x_n|^2, and on a support M it is (dy_n^2)^T M x_n^2."""
        x2, dy2 = X * X, dY * dY  # (R, in, N), (R, out, N)
        if self.W.support is None:
            return xp.sum(dy2, axis=1) * (xp.sum(x2, axis=1) + 1)  # + 1 for b
        of_unit = product(self.W.support, x2, out=xp.empty_like(dy2))  # (R, out, N)
        of_unit += 1
        of_unit *= dy2
        return xp.sum(of_unit, axis=1)

    def resized(self, inputs: int, outputs: int) -> "Dense":
        return Dense(inputs, outputs)

    def __repr__(self) -> str:
        return f"Dense({self.inputs}, {self.outputs})"
