"""The rectified linear unit."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class ReLU(Layer):
    r"""$Y = \max(X, 0)$, elementwise; dX = dY where X > 0 and 0 elsewhere (the derivative at 0 is taken as 0)."""

    def forward(self, X: Any, ws: Workspace) -> Any:
        Y = xp.maximum(X, 0, out=ws.buffer(self, "Y", X.shape, X.dtype))  # (R, ..., N)
        ws.save(self, Y)
        return Y

    def input_gradient(self, dY: Any, ws: Workspace, Y: Any) -> Any:
        positive = xp.greater(Y, 0, out=ws.scratch("positive", Y.shape, bool))  # (R, ..., N); Y > 0 iff X > 0
        return xp.multiply(dY, positive, out=ws.gradient(self, dY.shape, dY.dtype))
