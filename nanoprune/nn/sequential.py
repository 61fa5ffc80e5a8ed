"""A sequence of layers."""

from typing import Any

from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class Sequential(Layer):
    r"""$Y = f_n(\ldots f_2(f_1(X)))$; the chain rule runs the layers' backward passes in the opposite order."""

    def __init__(self, *layers: Layer) -> None:
        self.parts = layers

    def layers(self) -> list[Layer]:
        return list(self.parts)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for layer in self.parts:
            shape = layer.output_shape(shape)
        return shape

    def forward(self, X: Any, ws: Workspace) -> Any:
        for layer in self.parts:
            X = layer.forward(X, ws)
        return X

    def backward(self, dY: Any, ws: Workspace, need_dX: bool = True, need_dW: bool = True) -> Any:
        """dX, or None where it is not needed: then nothing before the first layer with parameters is computed."""
        first = next((i for i, layer in enumerate(self.parts) if layer.parameters()), len(self.parts))
        for i, layer in reversed(list(enumerate(self.parts))):
            if i < first and not need_dX:
                return None
            dY = layer.backward(dY, ws, need_dX or i > first, need_dW)
        return dY

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.parts))})"


def leaves(layer: Layer) -> list[Layer]:
    """The layers in `layer` that are not containers, in the order of the forward pass."""
    inside = layer.layers()
    return [leaf for part in inside for leaf in leaves(part)] if inside else [layer]
