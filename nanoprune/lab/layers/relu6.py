"""The rectifier clipped at 6."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.nn.formula import Formula
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class ReLU6(Layer):
    r"""$Y = \min(\max(X, 0), 6)$, elementwise (Sandler et al. 2018, section 3.4); dX = dY where 0 < X < 6 and 0
    elsewhere (the derivatives at 0 and 6 are taken as 0)."""

    def forward(self, X: Any, ws: Workspace) -> Any:
        Y = xp.clip(X, 0, 6, out=ws.buffer(self, "Y", X.shape, X.dtype))  # (R, ..., N)
        ws.save(self, Y)
        return Y

    def input_gradient(self, dY: Any, ws: Workspace, Y: Any) -> Any:
        dX = ws.gradient(self, dY.shape, dY.dtype)  # (R, ..., N)
        where_between(*(A.reshape(1, -1) for A in (dX, dY, Y)), zero=0, six=6)
        return dX


@Formula
def where_between(dX: Any, dY: Any, Y: Any, *, zero: Any, six: Any) -> None:
    xp.multiply(dY, (zero < Y) & (Y < six), out=dX)  # 0 < Y < 6 iff 0 < X < 6  # noqa: SIM300
