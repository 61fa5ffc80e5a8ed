"""Constant folding: the output units of a layer that are constant over samples and positions, by the layer's type.

A unit whose weights are all zero is constant: its value depends on its bias only. See `units` for c.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from nanoprune.backend import to_device, to_host
from nanoprune.errors import ArgumentError
from nanoprune.lab.layers import (
    GELU,
    Attention,
    AvgPool,
    BatchNorm,
    ColumnScaling,
    DepthwiseConv2D,
    Dropout,
    Embedding,
    GlobalAvgPool,
    GroupNorm,
    ImageTokens,
    LayerNorm,
    PositionalEncoding,
    ReLU6,
    Residual,
    Standardise,
    Tanh,
    TokenMean,
)
from nanoprune.lab.layers.batchnorm import EPS
from nanoprune.lab.shrink.units import (
    Linear,
    contribution,
    features,
    foldable,
    host_values,
    unit_count,
    weights_by_unit,
)
from nanoprune.nn import Branches, Flatten, Layer, MaxPool, ReLU, Sequential, Workspace
from nanoprune.nn.registry import refuse

Shape = tuple[int, ...]


@singledispatch
def constants(layer: Layer, c: np.ndarray, shape: Shape) -> np.ndarray:
    """c for the output units, for inputs of `shape`. Raises ArgumentError where the layer is not registered."""
    raise ArgumentError(f"{layer!r} has no constant folding; register it in nanoprune/lab/shrink/constants.py")


constants.register(Branches, refuse("cannot lose units: it splits them by their position"))
constants.register(GroupNorm, refuse("cannot lose units: its groups would change"))


@constants.register
def _(layer: Linear, c: np.ndarray, shape: Shape) -> np.ndarray:
    """An output unit is constant where all units that it reads are constant: b + sum A c."""
    (A, b), c = weights_by_unit(layer), foldable(layer, c)
    varies = (A[:, np.isnan(c)] != 0).any(axis=(1, 2))  # (O,)
    return np.where(varies, np.nan, b + contribution(A, c, ~np.isnan(c)))


@constants.register
def _(layer: DepthwiseConv2D, c: np.ndarray, shape: Shape) -> np.ndarray:
    W, *b = host_values(layer)
    b = b[0][:, 0] if b else np.zeros(len(W), W.dtype)
    c = np.where(c == 0, c, np.nan) if layer.padding else c  # windows at the border contain zeros of the padding
    reads = (W != 0).any(axis=1)  # (C,)
    return b + np.where(reads, W.sum(axis=1) * c, 0.0)


@constants.register
def _(layer: BatchNorm, c: np.ndarray, shape: Shape) -> np.ndarray:
    gamma, beta, mean, var = (values[:, 0].astype(np.float64) for values in host_values(layer))  # (C,) each
    return gamma * (c - mean) / np.sqrt(var + EPS) + beta


@constants.register
def _(layer: ColumnScaling, c: np.ndarray, shape: Shape) -> np.ndarray:
    """Columns that were constant among the members, and categories that none of them had, are 0."""
    mean, std = (values[:, 0].astype(np.float64) for values in host_values(layer))  # (F,) each
    return np.where(std > 0, (c - mean) / np.where(std > 0, std, 1), 0.0)


@constants.register
def _(layer: Standardise, c: np.ndarray, shape: Shape) -> np.ndarray:
    return (c - np.array(layer.mean)) / np.array(layer.std)


@constants.register
def _(layer: ReLU | ReLU6 | Tanh | GELU | Dropout, c: np.ndarray, shape: Shape) -> np.ndarray:
    """An elementwise function in evaluation mode, applied to the constants."""
    return to_host(layer.forward(to_device(c[None, :, None]), Workspace(training=False)))[0, :, 0].copy()


@constants.register
def _(layer: MaxPool | AvgPool | GlobalAvgPool | ImageTokens, c: np.ndarray, shape: Shape) -> np.ndarray:
    return c  # the maximum or mean of a constant; every window has at least one pixel of the image


@constants.register
def _(layer: Flatten, c: np.ndarray, shape: Shape) -> np.ndarray:
    return features(c, shape)


@constants.register
def _(layer: TokenMean, c: np.ndarray, shape: Shape) -> np.ndarray:
    return np.where(c == 0, c, np.nan)  # of a record that is all padding it is 0, of the others c


@constants.register
def _(layer: Attention, c: np.ndarray, shape: Shape) -> np.ndarray:
    """A mean of values that are all c: attention weights sum to 1."""
    return c[2 * len(c) // 3 :].copy()


@constants.register
def _(layer: Embedding, c: np.ndarray, shape: Shape) -> np.ndarray:
    (W,) = host_values(layer)  # (width, tokens)
    return np.where((W[:, :1] == W).all(axis=1), W[:, 0].astype(np.float64), np.nan)


@constants.register
def _(layer: LayerNorm | PositionalEncoding, c: np.ndarray, shape: Shape) -> np.ndarray:
    """All units count as varying: they depend on all channels, or on the position."""
    return np.full(len(c), np.nan)


@constants.register
def _(layer: Residual, c: np.ndarray, shape: Shape) -> np.ndarray:
    """All units count as varying: the units at both ends of a block are kept."""
    return np.full(unit_count(layer.output_shape(shape)), np.nan)


@constants.register
def _(layer: Sequential, c: np.ndarray, shape: Shape) -> np.ndarray:
    for part in layer.parts:
        c, shape = constants(part, c, shape), part.output_shape(shape)
    return c
