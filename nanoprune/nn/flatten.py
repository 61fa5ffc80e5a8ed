"""From images to features."""

import math
from typing import Any

import numpy as np

from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class Flatten(Layer):
    """(R, H, C, W, N) to (R, H*C*W, N): with the samples last, a view of the same memory."""

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (math.prod(shape),)

    def constants(self, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return self._features(c, shape)

    def needs(self, needed: np.ndarray, c: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return needed.reshape(shape).any(axis=(0, 2)) if len(shape) > 1 else needed  # (C,)

    def narrowed(
        self, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: tuple[int, ...]
    ) -> tuple[Layer, list[np.ndarray], np.ndarray]:
        return self, [], self._features(kept, shape)

    def _features(self, units: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """What is known of each channel (C,) as what is known of each feature (H*C*W,)."""
        return np.broadcast_to(units[:, None], shape).reshape(-1) if len(shape) > 1 else units

    def forward(self, X: Any, ws: Workspace) -> Any:
        ws.save(self, X.shape)
        return X.reshape(X.shape[0], -1, X.shape[-1])

    def backward(self, dY: Any, ws: Workspace) -> Any:
        (shape,) = ws.saved(self)
        return dY.reshape(shape)
