"""The dense layer of each position of a sequence."""

from typing import Any

from nanoprune.backend import product, xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer, positive
from nanoprune.nn.parameter import Parameter
from nanoprune.nn.workspace import Workspace


class TokenDense(Layer):
    r"""The same affine map of the channels of every position t and sample, $Y_t = W X_t + b$.

    X (R, T, in, N), W (R, out, in), b (R, out, 1), Y (R, T, out, N). From $dY = \partial L/\partial Y$:
    $$dW = \sum_t dY_t X_t^T, \quad db = \sum_{tn} dY_{tn}, \quad dX_t = W^T dY_t.$$

    heads: where the outputs are the queries, keys and values of so many heads, one after the other (`Attention`), which
    the scheme head prunes as a whole. Initial weights have the variance 1/in, which keeps the scale where no rectifier
    follows.
    """

    def __init__(self, inputs: int, outputs: int, heads: int = 0) -> None:
        self.inputs, self.outputs, self.heads = positive("inputs", inputs), positive("outputs", outputs), heads
        if heads and outputs % (3 * positive("heads", heads)):
            raise ArgumentError(f"outputs must be a multiple of {3 * heads} for {heads} heads, got {outputs}")
        of_heads = (3, heads, outputs // (3 * heads), inputs) if heads else None
        self.W = Parameter("W", (outputs, inputs), std=inputs**-0.5, prunable=True, heads=of_heads)
        self.b = Parameter("b", (outputs, 1), std=0.0, prunable=False)

    def parameters(self) -> list[Parameter]:
        return [self.W, self.b]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 2 or shape[1] != self.inputs:
            raise ArgumentError(f"{self!r} takes sequences (T, {self.inputs}), got {shape}")
        return (shape[0], self.outputs)

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, T, _, N = X.shape
        Y = ws.buffer(self, "Y", (R, T, self.outputs, N), X.dtype)
        product(self.W.value[:, None], X, out=Y)  # W X_t                       (R, T, out, N)
        Y += self.b.value[:, None]  # + b                                       (R, 1, out, 1)
        ws.save(self, X)
        return Y

    def weight_gradient(self, dY: Any, ws: Workspace, X: Any) -> None:
        of_position = ws.scratch("dW of positions", (*X.shape[:2], self.outputs, self.inputs), X.dtype)
        product(dY, X.swapaxes(-1, -2), out=of_position)  # dY_t X_t^T          (R, T, out, in)
        xp.sum(of_position, axis=1, out=self.W.grad)
        self.b.grad[..., 0] = xp.sum(xp.sum(dY, axis=-1), axis=1)  # db         (R, out)

    def input_gradient(self, dY: Any, ws: Workspace, X: Any) -> Any:
        dX = ws.gradient(self, X.shape, X.dtype)
        return product(self.W.value.swapaxes(-1, -2)[:, None], dY, out=dX)  # W^T dY_t  (R, T, in, N)

    def __repr__(self) -> str:
        return f"TokenDense({self.inputs}, {self.outputs}{f', heads={self.heads}' if self.heads else ''})"
