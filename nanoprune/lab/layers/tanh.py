"""The hyperbolic tangent."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class Tanh(Layer):
    r"""$Y = \tanh X$, elementwise; $dX = (1 - Y^2)\, dY$."""

    def forward(self, X: Any, ws: Workspace) -> Any:
        Y = xp.tanh(X, out=ws.buffer(self, "Y", X.shape, X.dtype))  # (R, ..., N)
        ws.save(self, Y)
        return Y

    def input_gradient(self, dY: Any, ws: Workspace, Y: Any) -> Any:
        dX = xp.multiply(Y, Y, out=ws.gradient(self, Y.shape, Y.dtype))  # Y^2    (R, ..., N)
        xp.subtract(1, dX, out=dX)  # 1 - Y^2
        dX *= dY
        return dX
