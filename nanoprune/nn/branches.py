"""Parallel layers, each on its own part of the features."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class Branches(Layer):
    r"""$Y = [f_1(X_1); f_2(X_2); \ldots]$ with $X = [X_1; X_2; \ldots]$ split along the feature axis.

    branches: pairs (number of input features, layer on them). X (R, sum of inputs, N), Y (R, sum of outputs, N).
    """

    def __init__(self, *branches: tuple[int, Layer]) -> None:
        self.branches = branches

    def layers(self) -> list[Layer]:
        return [layer for _, layer in self.branches]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        expected = (sum(inputs for inputs, _ in self.branches),)
        if shape != expected:
            raise ArgumentError(f"{self!r} takes inputs of shape {expected}, got {shape}")
        return (sum(layer.output_shape((inputs,))[0] for inputs, layer in self.branches),)

    def forward(self, X: Any, ws: Workspace) -> Any:
        outputs, start = [], 0
        for inputs, layer in self.branches:
            outputs.append(layer.forward(X[:, start : start + inputs], ws))  # (R, outputs, N)
            start += inputs
        ws.save(self, [Y.shape[1] for Y in outputs])
        return xp.concatenate(outputs, axis=1)

    def backward(self, dY: Any, ws: Workspace, need_dX: bool = True, need_dW: bool = True) -> Any:
        (outputs,) = ws.saved(self)
        dY, dX, start = dY.copy(), [], 0  # each branch reuses the memory of dY and of the last one's dX
        for (_, layer), size in zip(self.branches, outputs, strict=True):
            dX_branch = layer.backward(dY[:, start : start + size], ws, need_dX, need_dW)
            dX.append(dX_branch.copy() if need_dX else None)
            start += size
        return xp.concatenate(dX, axis=1) if need_dX else None

    def __repr__(self) -> str:
        return f"Branches({', '.join(repr(layer) for _, layer in self.branches)})"
