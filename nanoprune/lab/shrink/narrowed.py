"""The layer that remains when units are removed, by the layer's type."""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.kernels import BandedDepthwise, WinogradConv2D, convolution
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
    Pointwise,
    PositionalEncoding,
    ReLU6,
    Residual,
    Standardise,
    Tanh,
    TokenDense,
    TokenMean,
)
from nanoprune.lab.shrink.constants import Shape
from nanoprune.lab.shrink.dependencies import needed_before, states_before
from nanoprune.lab.shrink.units import (
    Linear,
    contribution,
    features,
    foldable,
    from_units,
    host_values,
    weights_by_unit,
)
from nanoprune.nn import Branches, Conv2D, Dense, Flatten, Layer, MaxPool, ReLU, Sequential
from nanoprune.nn.registry import refuse

Narrowed = tuple[Layer, list[np.ndarray], np.ndarray]


@singledispatch
def narrowed(layer: Layer, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: Shape) -> Narrowed:
    """The layer for the input units `kept`, its values, and the remaining output units, (units,) bool.

    Values: of the parameters and then of the running statistics of each of its leaves, in order. `kept` has at least
    the units that `dependencies` returned; at least the output units `needed` remain. A removed input unit is constant
    and its contribution is folded, or no unit reads it. c: see `units`.
    Raises ArgumentError where the layer is not registered.
    """
    raise ArgumentError(f"{layer!r} cannot lose units; register it in nanoprune/lab/shrink/narrowed.py")


narrowed.register(Branches, refuse("cannot lose units: it splits them by their position"))
narrowed.register(GroupNorm, refuse("cannot lose units: its groups would change"))


@narrowed.register
def _(layer: Linear, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: Shape) -> Narrowed:
    """The contribution of the removed units goes into the biases."""
    A, b = weights_by_unit(layer)
    values = [from_units(layer, A[needed][:, kept])]
    if layer.b:
        values.append((b + contribution(A, foldable(layer, c), ~kept))[needed][:, None])
    return resized(layer, int(kept.sum()), int(needed.sum())), values, needed


@narrowed.register
def _(layer: DepthwiseConv2D, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: Shape) -> Narrowed:
    return resized(layer, int(kept.sum()), int(kept.sum())), [values[kept] for values in host_values(layer)], kept


@narrowed.register
def _(layer: BatchNorm, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: Shape) -> Narrowed:
    return BatchNorm(int(kept.sum())), [values[kept] for values in host_values(layer)], kept


@narrowed.register
def _(layer: ColumnScaling, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: Shape) -> Narrowed:
    numbers = int(kept[: layer.numbers].sum())
    return ColumnScaling(int(kept.sum()), numbers), [values[kept] for values in host_values(layer)], kept


@narrowed.register
def _(layer: Standardise, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: Shape) -> Narrowed:
    of = np.flatnonzero(kept)
    return Standardise([layer.mean[i] for i in of], [layer.std[i] for i in of]), [], kept


@narrowed.register
def _(
    layer: ReLU | ReLU6 | Tanh | GELU | Dropout | MaxPool | AvgPool | GlobalAvgPool | TokenMean | ImageTokens,
    kept: np.ndarray,
    needed: np.ndarray,
    c: np.ndarray,
    shape: Shape,
) -> Narrowed:
    return layer, [], kept


@narrowed.register
def _(layer: Flatten, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: Shape) -> Narrowed:
    return layer, [], features(kept, shape)


@narrowed.register
def _(layer: Attention, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: Shape) -> Narrowed:
    """Whole heads are removed. A layer without weights before it may leave more of them than are needed."""
    of_heads = kept.reshape(3, layer.heads, -1).any(axis=(0, 2))
    if not (kept.reshape(3, layer.heads, -1) == of_heads[:, None]).all():
        raise ArgumentError(f"{layer!r} loses whole heads only; put a TokenDense before it")
    return Attention(int(of_heads.sum()), layer.causal), [], np.repeat(of_heads, len(needed) // layer.heads)


@narrowed.register
def _(layer: Embedding, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: Shape) -> Narrowed:
    return Embedding(layer.tokens, int(needed.sum())), [host_values(layer)[0][needed]], needed


@narrowed.register
def _(layer: PositionalEncoding, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: Shape) -> Narrowed:
    return PositionalEncoding(layer.positions, int(kept.sum())), [host_values(layer)[0][:, kept]], kept


@narrowed.register
def _(layer: LayerNorm, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: Shape) -> Narrowed:
    return layer, host_values(layer), kept  # `dependencies` are all units


@narrowed.register
def _(layer: Residual, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: Shape) -> Narrowed:
    """Shortcuts couple the units of many blocks, so the units at both ends are kept; only inner units are removed."""
    whole, varying = np.ones(len(needed), bool), np.full(len(c), np.nan)
    layers, values = [], []
    for part in layer.layers():
        part, own, _ = narrowed(part, kept, whole, varying, shape)
        layers.append(part)
        values += own
    return Residual(*layers), values, whole


@narrowed.register
def _(layer: Sequential, kept: np.ndarray, needed: np.ndarray, c: np.ndarray, shape: Shape) -> Narrowed:
    states, layers, values = states_before(layer, c, shape), [], []
    wanted = [*needed_before(layer, needed, states)[1:], needed]
    for part, after, (c, shape) in zip(layer.parts, wanted, states, strict=True):
        part, own, kept = narrowed(part, kept, after, c, shape)
        layers.append(part)
        values += own
    return Sequential(*layers), values, kept


@singledispatch
def resized(layer: Layer, inputs: int, outputs: int) -> Layer:
    """The same kind of layer for other numbers of units."""
    raise ArgumentError(f"{layer!r} cannot be resized; register it in nanoprune/lab/shrink/narrowed.py")


@resized.register
def _(layer: Dense, inputs: int, outputs: int) -> Dense:
    return Dense(inputs, outputs)


@resized.register
def _(layer: Conv2D, inputs: int, outputs: int) -> Conv2D:
    return Conv2D(inputs, outputs, layer.size, layer.stride, layer.padding, layer.b is not None)


@resized.register
def _(layer: WinogradConv2D, inputs: int, outputs: int) -> Conv2D:
    return convolution(inputs, outputs, layer.size, 1, layer.padding, layer.b is not None)


@resized.register
def _(layer: Pointwise, inputs: int, outputs: int) -> Pointwise:
    return Pointwise(inputs, outputs, layer.stride, layer.b is not None)


@resized.register
def _(layer: DepthwiseConv2D, inputs: int, outputs: int) -> DepthwiseConv2D:
    return DepthwiseConv2D(inputs, layer.size, layer.stride, layer.padding, layer.b is not None)


@resized.register
def _(layer: BandedDepthwise, inputs: int, outputs: int) -> BandedDepthwise:
    return type(layer)(inputs, layer.size, layer.padding, layer.b is not None)


@resized.register
def _(layer: TokenDense, inputs: int, outputs: int) -> TokenDense:
    return TokenDense(inputs, outputs, layer.heads * outputs // layer.outputs)  # heads keep their size
