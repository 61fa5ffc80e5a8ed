"""Global average pooling."""

from typing import Any

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class GlobalAvgPool(Layer):
    r"""From images to features, each the mean of its channel: X (R, H, C, W, N), Y (R, C, N) (Lin et al. 2014).
    $$Y_c = \tfrac{1}{HW} \sum_{hw} X_{hcw}, \quad dX_{hcw} = \tfrac{1}{HW}\, dY_c.$$
    """

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3:
            raise ArgumentError(f"{self!r} takes images (H, C, W), got {shape}")
        return (shape[1],)

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, H, C, W, N = X.shape
        rows = xp.sum(X, axis=1, out=ws.scratch("rows", (R, C, W, N), X.dtype))
        Y = xp.sum(rows, axis=2, out=ws.buffer(self, "Y", (R, C, N), X.dtype))
        Y *= 1 / (H * W)
        ws.save(self, X.shape)
        return Y

    def input_gradient(self, dY: Any, ws: Workspace, X_shape: tuple[int, ...]) -> Any:
        dX = ws.gradient(self, X_shape, dY.dtype)
        dX[...] = (dY * (1 / (X_shape[1] * X_shape[3])))[:, None, :, None]  # (R, 1, C, 1, N)
        return dX
