"""The residual connection."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class Residual(Layer):
    r"""$Y = f(X) + g(X)$ with f the body and g the shortcut, the identity if none is given (He et al. 2016, equations 1
    and 2).

    X (R, ..., N); both outputs have one shape, that of Y. $dX = f'(X)^T dY + g'(X)^T dY$.
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        self.body, self.shortcut = body, shortcut

    def layers(self) -> list[Layer]:
        return [self.body, self.shortcut] if self.shortcut else [self.body]

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
        other = self._copy(dY, "dY", ws)  # the layers of the body reuse the memory of dY
        dX = self.body.backward(dY, ws, need_dX, need_dW)
        if self.shortcut:
            dF = self._copy(dX, "dF", ws) if need_dX else None
            dX, other = self.shortcut.backward(other, ws, need_dX, need_dW), dF
        return xp.add(dX, other, out=dX) if need_dX else None

    def _copy(self, A: Any, name: str, ws: Workspace) -> Any:
        """A copy of a gradient that the backward passes of the inner layers do not overwrite."""
        copy = ws.buffer(self, name, A.shape, A.dtype)
        copy[...] = A
        return copy

    def __repr__(self) -> str:
        return f"Residual({self.body!r}, {self.shortcut!r})" if self.shortcut else f"Residual({self.body!r})"
