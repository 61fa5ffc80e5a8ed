"""Dependencies: the input units of a layer that its output units depend on, by the layer's type."""

from __future__ import annotations

from functools import singledispatch

import numpy as np

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
from nanoprune.lab.shrink.constants import Shape, constants
from nanoprune.lab.shrink.units import Linear, foldable, weights_by_unit
from nanoprune.nn import Branches, Flatten, Layer, MaxPool, ReLU, Sequential
from nanoprune.nn.registry import refuse

UnitByUnit = (  # output unit i depends on input unit i alone
    ReLU
    | ReLU6
    | Tanh
    | GELU
    | Dropout
    | MaxPool
    | AvgPool
    | GlobalAvgPool
    | BatchNorm
    | ColumnScaling
    | Standardise
    | DepthwiseConv2D
    | PositionalEncoding
    | TokenMean
    | ImageTokens
)


@singledispatch
def dependencies(layer: Layer, needed: np.ndarray, c: np.ndarray, shape: Shape) -> np.ndarray:
    """The input units, at least one, that the output units `needed` (bool) are computed from. c: see `units`.

    Raises ArgumentError where the layer is not registered.
    """
    raise ArgumentError(f"{layer!r} has no dependencies; register them in nanoprune/lab/shrink/dependencies.py")


dependencies.register(Branches, refuse("cannot lose units: it splits them by their position"))
dependencies.register(GroupNorm, refuse("cannot lose units: its groups would change"))


@dependencies.register
def _(layer: Linear, needed: np.ndarray, c: np.ndarray, shape: Shape) -> np.ndarray:
    """The input units that are not constant and that a needed output unit reads; if none, the first unit."""
    A, _ = weights_by_unit(layer)
    read = (A[needed] != 0).any(axis=(0, 2)) & np.isnan(foldable(layer, c))  # (C,)
    read[0] |= not read.any()
    return read


@dependencies.register
def _(layer: UnitByUnit, needed: np.ndarray, c: np.ndarray, shape: Shape) -> np.ndarray:
    return needed


@dependencies.register
def _(layer: Flatten, needed: np.ndarray, c: np.ndarray, shape: Shape) -> np.ndarray:
    return needed.reshape(shape).any(axis=(0, 2)) if len(shape) > 1 else needed  # (C,)


@dependencies.register
def _(layer: Attention, needed: np.ndarray, c: np.ndarray, shape: Shape) -> np.ndarray:
    """The queries, keys and values of every head of which an output is needed."""
    return np.tile(whole_heads(layer, needed), 3)


def whole_heads(layer: Attention, needed: np.ndarray) -> np.ndarray:
    """The outputs of all heads of which an output is needed, and at least of one head."""
    heads = needed.reshape(layer.heads, -1).any(axis=1)
    heads[0] |= not heads.any()
    return np.repeat(heads, len(needed) // layer.heads)


@dependencies.register
def _(layer: Embedding, needed: np.ndarray, c: np.ndarray, shape: Shape) -> np.ndarray:
    return np.ones(len(c), bool)  # the positions of the sequence


@dependencies.register
def _(layer: LayerNorm | Residual, needed: np.ndarray, c: np.ndarray, shape: Shape) -> np.ndarray:
    return np.ones(len(c), bool)


@dependencies.register
def _(layer: Sequential, needed: np.ndarray, c: np.ndarray, shape: Shape) -> np.ndarray:
    return needed_before(layer, needed, states_before(layer, c, shape))[0]


def states_before(layer: Sequential, c: np.ndarray, shape: Shape) -> list[tuple[np.ndarray, Shape]]:
    """The constants and the shape before each layer."""
    states = []
    for part in layer.parts:
        states.append((c, shape))
        c, shape = constants(part, c, shape), part.output_shape(shape)
    return states


def needed_before(layer: Sequential, needed: np.ndarray, states: list[tuple[np.ndarray, Shape]]) -> list[np.ndarray]:
    """The units that are needed before each layer."""
    found = []
    for part, (c, shape) in zip(reversed(layer.parts), reversed(states), strict=True):
        needed = dependencies(part, needed, c, shape)
        found.append(needed)
    return found[::-1]
