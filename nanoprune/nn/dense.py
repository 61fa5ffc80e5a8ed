"""The fully connected layer."""

from typing import Any

from nanoprune.backend import product, xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer, he, positive
from nanoprune.nn.parameter import Parameter
from nanoprune.nn.workspace import Workspace


class Dense(Layer):
    r"""Affine map of every sample, $Y = W X + b$.

    X (R, in, N), W (R, out, in), b (R, out, 1), Y (R, out, N). From $dY = \partial L/\partial Y$:
    $$dW = dY X^T, \quad db = \sum_n dY_n, \quad dX = W^T dY.$$
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
        Y = ws.buffer(self, "Y", (R, self.outputs, N), X.dtype)
        product(self.W.value, X, out=Y)  # W X                 (R, out, N)
        Y += self.b.value  # + b                               (R, out, 1)
        ws.save(self, X)
        return Y

    def weight_gradient(self, dY: Any, ws: Workspace, X: Any) -> None:
        product(dY, X.swapaxes(-1, -2), out=self.W.grad)  # dW = dY X^T        (R, out, in)
        xp.sum(dY, axis=-1, keepdims=True, out=self.b.grad)  # db = sum_n dY_n (R, out, 1)

    def input_gradient(self, dY: Any, ws: Workspace, X: Any) -> Any:
        dX = ws.gradient(self, X.shape, X.dtype)
        return product(self.W.value.swapaxes(-1, -2), dY, out=dX)  # dX = W^T dY  (R, in, N)

    def __repr__(self) -> str:
        return f"Dense({self.inputs}, {self.outputs})"
