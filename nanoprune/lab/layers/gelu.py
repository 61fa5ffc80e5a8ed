"""The Gaussian error linear unit."""

import math
from typing import Any

from nanoprune.backend import xp
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace

SCALE, CUBE = math.sqrt(2 / math.pi), 0.044715
FAR = 1e6  # where 1 - h^2 is 0; the product with u' must not overflow there


class GELU(Layer):
    r"""$Y = X \Phi(X)$ with the normal distribution function in the form of Hendrycks & Gimpel (2016, arXiv 1606.08415,
    section 2), elementwise; it is PyTorch's approximate="tanh":
    $$Y = \tfrac12 X (1 + h), \quad h = \tanh u, \quad u = \sqrt{2/\pi}\,(X + 0.044715\, X^3),$$
    $$dX = \bigl(\tfrac12 (1 + h) + \tfrac12 X (1 - h^2)\, u'\bigr)\, dY, \quad
      u' = \sqrt{2/\pi}\,(1 + 3 \cdot 0.044715\, X^2).$$
    """

    def forward(self, X: Any, ws: Workspace) -> Any:
        h = xp.multiply(X, X, out=ws.buffer(self, "h", X.shape, X.dtype))  # (R, ..., N)
        h *= SCALE * CUBE
        h += SCALE
        h *= X  # u
        xp.tanh(h, out=h)
        Y = xp.add(h, 1, out=ws.buffer(self, "Y", X.shape, X.dtype))
        Y *= 0.5
        Y *= X
        ws.save(self, X, h)
        return Y

    def input_gradient(self, dY: Any, ws: Workspace, X: Any, h: Any) -> Any:
        dX = xp.clip(X, -FAR, FAR, out=ws.gradient(self, X.shape, X.dtype))
        rest = xp.multiply(dX, dX, out=ws.scratch("rest", h.shape, h.dtype))
        rest *= 3 * SCALE * CUBE
        rest += SCALE  # u'
        dX *= rest
        xp.multiply(h, h, out=rest)
        xp.subtract(1, rest, out=rest)  # 1 - h^2
        dX *= rest
        dX += h
        dX += 1
        dX *= 0.5
        dX *= dY
        return dX
