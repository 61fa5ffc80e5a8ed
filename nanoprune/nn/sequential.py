"""One layer after another."""

from typing import Any

import numpy as np

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

    def constants(self, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        for layer in self.layers:
            c, shape = layer.constants(c, shape), layer.output_shape(shape)
        return c

    def needs(self, needed: np.ndarray, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return self._needs(needed, self._course(c, shape))[0]

    def narrowed(
        self, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[Layer, list[np.ndarray], np.ndarray]:
        course, layers, values = self._course(c, shape), [], []
        needs = [*self._needs(needed, course)[1:], needed]
        for layer, after, (c, shape) in zip(self.layers, needs, course, strict=True):
            layer, own, kept = layer.narrowed(kept, after, c, shape)
            layers.append(layer)
            values += own
        return Sequential(*layers), values, kept

    def _course(self, c: np.ndarray, shape: tuple[int, ...]) -> list[tuple[np.ndarray, tuple[int, ...]]]:
        """The constants and the shape before each layer."""
        course = []
        for layer in self.layers:
            course.append((c, shape))
            c, shape = layer.constants(c, shape), layer.output_shape(shape)
        return course

    def _needs(self, needed: np.ndarray, course: list[tuple[np.ndarray, tuple[int, ...]]]) -> list[np.ndarray]:
        """The units that are needed before each layer."""
        needs = []
        for layer, (c, shape) in zip(reversed(self.layers), reversed(course), strict=True):
            needed = layer.needs(needed, c, shape)
            needs.append(needed)
        return needs[::-1]

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"
