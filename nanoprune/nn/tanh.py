"""The hyperbolic tangent."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.nn.layer import Elementwise
from nanoprune.nn.workspace import Workspace


class Tanh(Elementwise):
    """Y = tanh(X), elementwise; dX = (1 - Y^2) dY."""

    def forward(self, X: Any, ws: Workspace) -> Any:
        Y = xp.tanh(X, out=ws.buffer(self, "Y", X.shape, X.dtype))  # (R, ..., N)
        ws.save(self, Y)
        return Y

    def backward(self, dY: Any, ws: Workspace) -> Any:
        (Y,) = ws.saved(self)
        dX = xp.multiply(Y, Y, out=ws.gradient(self, Y.shape, Y.dtype))
        xp.subtract(1, dX, out=dX)
        dX *= dY
        return dX
