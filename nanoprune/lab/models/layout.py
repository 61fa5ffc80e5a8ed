"""The tensors of a layer in PyTorch's layout, and how each becomes an array of ours, by the type of the layer.

Kernels are (O, kh*C*kw) here and (O, C, kh, kw) in PyTorch; images are flattened from (H, C, W) here and from (C, H, W)
there, so that what reads a flattened image has its features in another order. The outputs are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import singledispatch
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.layers import (
    BatchNorm,
    ColumnScaling,
    DepthwiseConv2D,
    Embedding,
    GroupNorm,
    LayerNorm,
    Pointwise,
    PositionalEncoding,
    TokenDense,
)
from nanoprune.lab.zoo.structure import Shape, leaves_with_shapes
from nanoprune.nn import Conv2D, Dense, Flatten, Layer
from nanoprune.nn.registry import refuse
from nanoprune.nn.sequential import leaves

Tensor = tuple[str, Shape, Any, Callable]  # name and shape there, our Parameter or Statistic, from their layout to ours


def has_tensors(layer: Layer) -> bool:
    """Whether the layer has parameters or statistics."""
    return bool(layer.parameters() or layer.statistics())


def placed(body: Layer, shape: Shape) -> Iterator[tuple[Layer, Shape | None]]:
    """The layers with tensors, in the order of the forward pass, each with the images (H, C, W) that it sees
    flattened, if any: those between a Flatten and the next dense layer, which is the last of them."""
    flattened: Shape | None = None
    for layer, of in leaves_with_shapes(body, shape):
        if isinstance(layer, Flatten) and len(of) == 3:
            flattened = of
        if has_tensors(layer):
            yield layer, flattened
        if isinstance(layer, Dense):
            flattened = None


@singledispatch
def layout(layer: Layer, flattened: Shape | None = None) -> list[Tensor]:
    """(name, shape there, ours, conversion) of one layer's tensors. flattened: the images (H, C, W) that the layer sees
    flattened, if any. Raises ArgumentError where the layer is not registered."""
    raise ArgumentError(f"{layer!r} has no tensors there; register them in nanoprune/lab/models/layout.py")


for unread in (GroupNorm, Embedding, LayerNorm, PositionalEncoding, TokenDense):
    layout.register(unread, refuse("is in none of torchvision's networks that are read"))


@layout.register
def _(layer: BatchNorm, flattened: Shape | None = None) -> list[Tensor]:
    ours = {"weight": layer.gamma, "bias": layer.beta, "running_mean": layer.mean, "running_var": layer.var}

    def convert(a: np.ndarray) -> np.ndarray:
        return column(a if flattened is None else reordered(a, flattened))

    return [(name, (layer.channels,), target, convert) for name, target in ours.items()]


@layout.register
def _(layer: ColumnScaling, flattened: Shape | None = None) -> list[Tensor]:
    return [(of.name, (layer.columns,), of, column) for of in layer.statistics()]


@layout.register
def _(layer: Conv2D, flattened: Shape | None = None) -> list[Tensor]:
    shape = layer.W.shape  # (O, kh*C*kw)
    theirs = (layer.kernels, layer.channels, layer.size, layer.size)
    return with_bias(layer, ("weight", theirs, layer.W, lambda a: a.transpose(0, 2, 1, 3).reshape(shape)))


@layout.register
def _(layer: DepthwiseConv2D, flattened: Shape | None = None) -> list[Tensor]:
    theirs, shape = (layer.channels, 1, layer.size, layer.size), layer.W.shape
    return with_bias(layer, ("weight", theirs, layer.W, lambda a: a.reshape(shape)))


@layout.register
def _(layer: Pointwise, flattened: Shape | None = None) -> list[Tensor]:
    theirs, shape = (layer.kernels, layer.channels, 1, 1), layer.W.shape
    return with_bias(layer, ("weight", theirs, layer.W, lambda a: a.reshape(shape)))


@layout.register
def _(layer: Dense, flattened: Shape | None = None) -> list[Tensor]:
    shape = layer.W.shape
    if flattened is None:
        return with_bias(layer, ("weight", shape, layer.W, lambda a: a))
    return with_bias(layer, ("weight", shape, layer.W, lambda a: reordered(a, flattened)))


def with_bias(layer: Layer, weight: Tensor) -> list[Tensor]:
    """The weight, and the bias where the layer has one."""
    return [weight, ("bias", layer.b.shape[:1], layer.b, column)] if layer.b else [weight]


def column(a: np.ndarray) -> np.ndarray:
    """(C,) as (C, 1)."""
    return a[:, None]


def reordered(a: np.ndarray, flattened: Shape) -> np.ndarray:
    """(..., C*H*W), flattened images as PyTorch flattens them, in our order (..., H*C*W)."""
    H, C, W = flattened
    return a.reshape(*a.shape[:-1], C, H, W).swapaxes(-3, -2).reshape(a.shape)


def named(body: Layer, shape: Shape, names: Iterable[str]) -> Iterator[Tensor]:
    """Every tensor of a network for inputs of `shape`. names: of the layers with tensors, in their order."""
    for (layer, flattened), prefix in zip(placed(body, shape), names, strict=True):
        for name, theirs, target, convert in layout(layer, flattened):
            yield f"{prefix}.{name}", theirs, target, convert


def plain_names(body: Layer) -> list[str]:
    """columns1, conv1, conv2, ..., norm1, ..., dense1, ...: the layers with tensors, in their order."""
    counts: dict[str, int] = {}
    names = []
    for layer in filter(has_tensors, leaves(body)):
        kind = kind_of(layer)
        counts[kind] = counts.get(kind, 0) + 1
        names.append(f"{kind}{counts[kind]}")
    return names


def kind_of(layer: Layer) -> str:
    """What a layer with tensors is called, before a number."""
    if not layer.parameters():
        return "columns"
    first = layer.parameters()[0]
    return "conv" if first.window else "dense" if first.prunable else "norm"
