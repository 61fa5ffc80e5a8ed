"""A layer beside a shortcut."""

from typing import Any

import numpy as np

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.lab.shrink.units import unit_count
from nanoprune.nn.layer import Layer, Parameter, Statistic
from nanoprune.nn.workspace import Workspace


class Residual(Layer):
    """Y = f(X) + g(X) with f the body and g the shortcut, the identity if none is given (He et al. 2016, eq. 1 and 2).

    X (R, ..., N); both outputs have one shape, Y's. dX = f'(X)^T dY + g'(X)^T dY.
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        self.body, self.shortcut = body, shortcut

    def parameters(self) -> list[Parameter]:
        return [parameter for layer in self._layers() for parameter in layer.parameters()]

    def statistics(self) -> list[Statistic]:
        return [statistic for layer in self._layers() for statistic in layer.statistics()]

    def parts(self, shape: tuple[int, ...]) -> list[tuple[Layer, tuple[int, ...]]]:
        return [(layer, shape) for layer in self._layers()]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        body = self.body.output_shape(shape)
        shortcut = self.shortcut.output_shape(shape) if self.shortcut else shape
        if body != shortcut:
            raise ArgumentError(f"{self!r} takes inputs whose body and shortcut fit, got {shape}: {body}, {shortcut}")
        return body

    def forward(self, X: Any, ws: Workspace) -> Any:
        F = self.body.forward(X, ws)
        G = self.shortcut.forward(X, ws) if self.shortcut else X
        ws.save(self)
        return xp.add(F, G, out=ws.buffer(self, "Y", F.shape, F.dtype))

    def backward(self, dY: Any, ws: Workspace, need_dX: bool = True, need_dW: bool = True) -> Any:
        ws.saved(self)
        kept = self._kept(dY, "dY", ws)  # the layers of the body reuse its memory
        dX = self._backward(self.body, dY, ws, need_dX, need_dW)
        if self.shortcut:
            dF = self._kept(dX, "dF", ws) if need_dX else None
            dX, kept = self._backward(self.shortcut, kept, ws, need_dX, need_dW), dF
        return xp.add(dX, kept, out=dX) if need_dX else None

    def _kept(self, A: Any, name: str, ws: Workspace) -> Any:
        """A copy of a gradient that lasts through the backward passes of the layers inside."""
        copy = ws.buffer(self, name, A.shape, A.dtype)
        copy[...] = A
        return copy

    def _backward(self, layer: Layer, dY: Any, ws: Workspace, need_dX: bool, need_dW: bool) -> Any:
        if not layer.parameters():
            return layer.backward(dY, ws)
        return layer.backward(dY, ws, need_dX=need_dX, need_dW=need_dW)

    # A unit of a sum goes only where all that is added to it and all that read it let it go. Shortcuts tie the units of
    # many blocks together, so they stay, at both ends of each block, and only the units inside of the body go.

    def constants(self, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(unit_count(self.output_shape(shape)), np.nan)

    def needs(self, needed: np.ndarray, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return np.ones(len(c), bool)

    def narrowed(
        self, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[Layer, list[np.ndarray], np.ndarray]:
        whole, varying = np.ones(len(needed), bool), np.full(len(c), np.nan)
        layers, values = [], []
        for layer in self._layers():
            layer, own, _ = layer.narrowed(kept, whole, varying, shape)
            layers.append(layer)
            values += own
        return Residual(*layers), values, whole

    def _layers(self) -> list[Layer]:
        return [self.body, self.shortcut] if self.shortcut else [self.body]

    def __repr__(self) -> str:
        return f"Residual({self.body!r}, {self.shortcut!r})" if self.shortcut else f"Residual({self.body!r})"
