"""Mean over all of an image."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Elementwise
from nanoprune.nn.workspace import Workspace


class GlobalAvgPool(Elementwise):
    """From images to features, each the mean of its channel: X (R, H, C, W, N), Y (R, C, N) (Lin et al. 2014).

    Y[c] = 1 / (H W) sum_hw X[h, c, w];  dX[h, c, w] = dY[c] / (H W).
    """

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3:
            raise ArgumentError(f"{self!r} takes images (H, C, W), got {shape}")
        return (shape[1],)

    def constants(self, c: Any, shape: tuple[int, ...]) -> Any:
        return c

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, H, C, W, N = X.shape
        rows = xp.sum(X, axis=1, out=ws.scratch("rows", (R, C, W, N), X.dtype))
        Y = xp.sum(rows, axis=2, out=ws.buffer(self, "Y", (R, C, N), X.dtype))
        Y *= 1 / (H * W)
        ws.save(self, X.shape)
        return Y

    def backward(self, dY: Any, ws: Workspace) -> Any:
        (shape,) = ws.saved(self)
        dX = ws.gradient(self, shape, dY.dtype)
        dX[...] = (dY * (1 / (shape[1] * shape[3])))[:, None, :, None]  # (R, 1, C, 1, N)
        return dX
