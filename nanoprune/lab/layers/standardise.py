"""Standardisation of images: each channel to mean 0 and variance 1, with given constants."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nanoprune.backend import to_device, xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import Layer
from nanoprune.nn.workspace import Workspace


class Standardise(Layer):
    r"""$Y_c = (X_c - \mu_c)/\sigma_c$, $dX_c = dY_c/\sigma_c$, with given constants `mean` and `std`, C numbers each.

    X (R, H, C, W, N). With it a network that was trained on standardised images takes images in [0, 1]. The constants
    cannot be folded into the first convolution, whose zero padding stands for mean pixels, not for black ones.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        if not mean or len(mean) != len(std) or not all(math.isfinite(m) for m in mean):
            raise ArgumentError(f"mean must be finite numbers, as many as std, got {list(mean)} and {list(std)}")
        if not all(math.isfinite(s) and s > 0 for s in std):
            raise ArgumentError(f"std must be positive and finite, got {list(std)}")
        self.mean, self.std = tuple(mean), tuple(std)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3 or shape[1] != len(self.mean):
            raise ArgumentError(f"{self!r} takes images (H, {len(self.mean)}, W), got {shape}")
        return shape

    def forward(self, X: Any, ws: Workspace) -> Any:
        Y = xp.subtract(X, column(self.mean, X.dtype), out=ws.buffer(self, "Y", X.shape, X.dtype))
        Y /= column(self.std, X.dtype)
        ws.save(self)
        return Y

    def input_gradient(self, dY: Any, ws: Workspace) -> Any:
        return xp.divide(dY, column(self.std, dY.dtype), out=ws.gradient(self, dY.shape, dY.dtype))

    def __repr__(self) -> str:
        return f"Standardise({list(self.mean)}, {list(self.std)})"


def column(values: tuple[float, ...], dtype: Any) -> Any:
    """(C,) numbers as (C, 1, 1), beside (R, H, C, W, N)."""
    return to_device(np.array(values, dtype)[:, None, None])
