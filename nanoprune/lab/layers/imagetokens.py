"""From the pixels of an image to the tokens of a sequence."""

from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class ImageTokens(Layer):
    """(R, H, C, W, N) to (R, H*W, C, N): each pixel a token, row by row, none of them padding.

    After a convolution whose stride is its size, a pixel is a patch of the image (Dosovitskiy et al. 2021, arXiv
    2010.11929, equation 1).
    """

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3:
            raise ArgumentError(f"{self!r} takes images (H, C, W), got {shape}")
        return (shape[0] * shape[2], shape[1])

    def forward(self, X: Any, ws: Workspace) -> Any:
        R, H, C, W, N = X.shape
        Y = ws.buffer(self, "Y", (R, H, W, C, N), X.dtype)
        Y[...] = X.swapaxes(2, 3)
        ws.padding = None
        ws.save(self, X.shape)
        return Y.reshape(R, H * W, C, N)

    def input_gradient(self, dY: Any, ws: Workspace, X_shape: tuple[int, ...]) -> Any:
        R, H, C, W, N = X_shape
        dX = ws.gradient(self, X_shape, dY.dtype)
        dX[...] = dY.reshape(R, H, W, C, N).swapaxes(2, 3)
        return dX
