"""The rectifier clipped at 6."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class ReLU6(Layer):
    r"""$Y = \min(\max(X, 0), 6)$, elementwise (Sandler et al. 2018, section 3.4); dX = dY where 0 < X < 6 and 0
    elsewhere (the derivatives at 0 and 6 are taken as 0)."""

    def forward(self, X: Any, ws: Workspace) -> Any:
        Y = xp.maximum(X, 0, out=ws.buffer(self, "Y", X.shape, X.dtype))  # (R, ..., N)
        xp.minimum(Y, 6, out=Y)
        ws.save(self, Y)
        return Y

    def input_gradient(self, dY: Any, ws: Workspace, Y: Any) -> Any:
        inside = xp.greater(Y, 0, out=ws.scratch("inside", Y.shape, bool))  # (R, ..., N); 0 < Y < 6 iff 0 < X < 6
        below = xp.less(Y, 6, out=ws.scratch("below", Y.shape, bool))  # (R, ..., N)
        xp.logical_and(inside, below, out=inside)
        return xp.multiply(dY, inside, out=ws.gradient(self, dY.shape, dY.dtype))
