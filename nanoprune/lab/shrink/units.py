"""The units of a layer: channels of an image or of a sequence, or features. All arrays are on the host, of one replica.

c (units,) float64 holds the value of each input unit that is constant over samples and positions, NaN for the others.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from nanoprune.backend import to_host
from nanoprune.lab.layers import Pointwise, TokenDense
from nanoprune.nn import Conv2D, Dense, Layer

Linear = Dense | Conv2D | Pointwise | TokenDense  # sums over all input units and window positions, plus a bias


def unit_count(shape: tuple[int, ...]) -> int:
    """The units of a sample of `shape`: channels of an image (H, C, W) or a sequence (T, C), features of (F,)."""
    return shape[len(shape) // 2]


def host_values(layer: Layer) -> list[np.ndarray]:
    """The values of the parameters, then of the running statistics, of the first replica."""
    return [to_host(of.value)[0] for of in (*layer.parameters(), *layer.statistics())]


def weights_by_unit(layer: Linear) -> tuple[np.ndarray, np.ndarray]:
    """A (O, C, k), the weights by output unit, input unit and window position, and the biases b (O,), 0 if none."""
    W, *b = host_values(layer)
    A = by_unit(layer, W)
    return A, b[0][:, 0] if b else np.zeros(len(A), A.dtype)


@singledispatch
def by_unit(layer: Linear, W: np.ndarray) -> np.ndarray:
    """W (O, ...) as A (O, C, k)."""
    return W.reshape(*W.shape, 1)


@by_unit.register
def _(layer: Conv2D, W: np.ndarray) -> np.ndarray:
    k = layer.size
    return W.reshape(-1, k, layer.channels, k).swapaxes(1, 2).reshape(-1, layer.channels, k * k)


@singledispatch
def from_units(layer: Linear, A: np.ndarray) -> np.ndarray:
    """The inverse of `by_unit`."""
    return A[..., 0]


@from_units.register
def _(layer: Conv2D, A: np.ndarray) -> np.ndarray:
    O, C, k = *A.shape[:2], layer.size
    return A.reshape(O, C, k, k).swapaxes(1, 2).reshape(O, k * C * k)


def foldable(layer: Linear, c: np.ndarray) -> np.ndarray:
    """The constants of c that can be folded into the layer's bias, NaN for the others. 0 always can be. Others cannot
    with zero padding, since windows at the border contain less of them, nor without a bias."""
    return np.where(c == 0, c, np.nan) if getattr(layer, "padding", 0) or not layer.b else c


def contribution(A: np.ndarray, c: np.ndarray, of: np.ndarray) -> np.ndarray:
    """The contribution of the constant input units among `of` (bool) to each output unit, float64 (O,)."""
    of = of & ~np.isnan(c)
    return A[:, of].sum(axis=2, dtype=np.float64) @ c[of]


def features(units: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A value for each channel (C,) as one for each feature (H*C*W,) of the flattened image."""
    return np.broadcast_to(units[:, None], shape).reshape(-1) if len(shape) > 1 else units
