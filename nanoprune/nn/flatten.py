"""From images to features."""

import math
from typing import Any

from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class Flatten(Layer):
    """(R, H, C, W, N) to (R, H*C*W, N): with the samples last, a view of the same memory."""

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (math.prod(shape),)

    def forward(self, X: Any, ws: Workspace) -> Any:
        ws.save(self, X.shape)
        return X.reshape(X.shape[0], -1, X.shape[-1])

    def input_gradient(self, dY: Any, ws: Workspace, X_shape: tuple[int, ...]) -> Any:
        return dY.reshape(X_shape)
