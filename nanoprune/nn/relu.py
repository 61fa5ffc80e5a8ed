"""The rectified linear unit."""

import math
from typing import Any

from nanoprune.backend import xp
from nanoprune.nn.formula import Formula
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class ReLU(Layer):
    r"""$Y = \max(X, 0)$, elementwise; dX = dY where X > 0 and 0 elsewhere (the derivative at 0 is taken as 0)."""

    def forward(self, X: Any, ws: Workspace) -> Any:
        Y = xp.clip(X, 0, math.inf, out=ws.buffer(self, "Y", X.shape, X.dtype))  # (R, ..., N)
        ws.save(self, Y)
        return Y

    def input_gradient(self, dY: Any, ws: Workspace, Y: Any) -> Any:
        dX = ws.gradient(self, dY.shape, dY.dtype)  # (R, ..., N)
        where_positive(*(A.reshape(1, -1) for A in (dX, dY, Y)), zero=0)
        return dX


@Formula
def where_positive(dX: Any, dY: Any, Y: Any, *, zero: Any) -> None:
    xp.multiply(dY, Y > zero, out=dX)  # Y > 0 iff X > 0  # noqa: SIM300
