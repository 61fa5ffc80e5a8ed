"""Learned positional encoding."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer, positive
from nanoprune.nn.parameter import Parameter
from nanoprune.nn.workspace import Workspace


class PositionalEncoding(Layer):
    r"""A learned vector for each position is added: $Y_{tn} = X_{tn} + P_t$ (as in BERT, Devlin et al. 2019, and ViT,
    Dosovitskiy et al. 2021). $dP_t = \sum_n dY_{tn}$, dX = dY.

    X (R, T, E, N), Y alike; P (R, T, E), not pruned. Without it the layers of a transformer do not see the order.
    """

    def __init__(self, positions: int, width: int) -> None:
        self.positions, self.width = positive("positions", positions), positive("width", width)
        self.P = Parameter("P", (positions, width), std=0.02, prunable=False)

    def parameters(self) -> list[Parameter]:
        return [self.P]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape != (self.positions, self.width):
            raise ArgumentError(f"{self!r} takes sequences ({self.positions}, {self.width}), got {shape}")
        return shape

    def forward(self, X: Any, ws: Workspace) -> Any:
        ws.save(self)
        return xp.add(X, self.P.value[..., None], out=ws.buffer(self, "Y", X.shape, X.dtype))  # (R, T, E, N)

    def weight_gradient(self, dY: Any, ws: Workspace) -> None:
        xp.sum(dY, axis=-1, out=self.P.grad)  # (R, T, E)

    def input_gradient(self, dY: Any, ws: Workspace) -> Any:
        return dY

    def __repr__(self) -> str:
        return f"PositionalEncoding({self.positions}, {self.width})"
