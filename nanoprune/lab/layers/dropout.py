"""Dropout."""

from typing import Any

import numpy as np

from nanoprune.backend import to_device, xp
from nanoprune.errors import ArgumentError, WorkspaceError
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class Dropout(Layer):
    """In training each activation is 0 with probability `rate`, else divided by 1 - rate; in evaluation, the identity.

    Inverted dropout (Srivastava et al. 2014). Each replica draws its mask from its own generator, `ws.generators[r]`,
    on the host, so that a replica draws the same masks in a fleet and alone.
    """

    def __init__(self, rate: float) -> None:
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0.0 <= rate < 1.0:
            raise ArgumentError(f"rate must lie in [0, 1), got {rate!r}")
        self.rate = rate

    def forward(self, X: Any, ws: Workspace) -> Any:
        if not ws.training:
            ws.save(self, None)
            return X
        if ws.generators is None or len(ws.generators) != len(X):
            raise WorkspaceError(f"{self!r}: training needs a workspace with {len(X)} generators, one per replica")
        uniform = np.stack([g.random(X.shape[1:], dtype=np.float32) for g in ws.generators])  # (R, ..., N)
        scale = to_device(((uniform >= self.rate) / (1.0 - self.rate)).astype(X.dtype))  # 0 or 1 / (1 - rate)
        ws.save(self, scale)
        return xp.multiply(X, scale, out=ws.buffer(self, "Y", X.shape, X.dtype))

    def input_gradient(self, dY: Any, ws: Workspace, scale: Any) -> Any:
        return dY if scale is None else xp.multiply(dY, scale, out=ws.gradient(self, dY.shape, dY.dtype))

    def __repr__(self) -> str:
        return f"Dropout({self.rate})"
