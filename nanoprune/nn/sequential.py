"""One layer after another."""

from typing import Any

from nanoprune.nn.layer import Layer, Parameter, Statistic
from nanoprune.nn.workspace import Workspace


class Sequential(Layer):
    """Y = f_n(... f_2(f_1(X))); the chain rule runs the layers' backward passes in the opposite order."""

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def parameters(self) -> list[Parameter]:
        return [parameter for layer in self.layers for parameter in layer.parameters()]

    def statistics(self) -> list[Statistic]:
        return [statistic for layer in self.layers for statistic in layer.statistics()]

    def parts(self, shape: tuple[int, ...]) -> list[tuple[Layer, tuple[int, ...]]]:
        found = []
        for layer in self.layers:
            found.append((layer, shape))
            shape = layer.output_shape(shape)
        return found

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        for layer in self.layers:
            shape = layer.output_shape(shape)
        return shape

    def forward(self, X: Any, ws: Workspace) -> Any:
        for layer in self.layers:
            X = layer.forward(X, ws)
        return X

    def backward(self, dY: Any, ws: Workspace, need_dX: bool = True, need_dW: bool = True) -> Any:
        """dX, or None where it is not needed: then nothing below the first layer with parameters is computed."""
        first = next((i for i, layer in enumerate(self.layers) if layer.parameters()), len(self.layers))
        for i, layer in reversed(list(enumerate(self.layers))):
            if i < first and not need_dX:
                return None
            if layer.parameters():
                dY = layer.backward(dY, ws, need_dX=need_dX or i > first, need_dW=need_dW)
            else:
                dY = layer.backward(dY, ws)
        return dY

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"
