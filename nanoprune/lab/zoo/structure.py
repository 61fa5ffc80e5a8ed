"""The layers of a network with the shapes of their inputs, and the multiply-accumulates of a sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import singledispatch

from nanoprune.errors import ArgumentError
from nanoprune.lab.layers import Attention, Embedding, Residual
from nanoprune.nn import Branches, Layer, Sequential

Shape = tuple[int, ...]


@singledispatch
def parts(layer: Layer, shape: Shape) -> list[tuple[Layer, Shape]]:
    """The parts of a container, each with the shape of its input, for an input of `shape`; none for other layers."""
    if layer.layers():
        raise ArgumentError(f"{layer!r} is a container without shapes; register it in nanoprune/lab/zoo/structure.py")
    return []


@parts.register
def _(layer: Sequential, shape: Shape) -> list[tuple[Layer, Shape]]:
    found = []
    for part in layer.parts:
        found.append((part, shape))
        shape = part.output_shape(shape)
    return found


@parts.register
def _(layer: Residual, shape: Shape) -> list[tuple[Layer, Shape]]:
    return [(part, shape) for part in layer.layers()]


@parts.register
def _(layer: Branches, shape: Shape) -> list[tuple[Layer, Shape]]:
    return [(part, (inputs,)) for inputs, part in layer.branches]


def leaves_with_shapes(layer: Layer, shape: Shape) -> Iterator[tuple[Layer, Shape]]:
    """The layers that are not containers, in the order of the forward pass, each with the shape of its input."""
    inside = parts(layer, shape)
    if not inside:
        yield layer, shape
    for part, of_part in inside:
        yield from leaves_with_shapes(part, of_part)


def macs(layer: Layer, shape: Shape) -> int:
    """Multiply-accumulates of one sample of `shape`: each weight once per output position, and the two products of
    attention, Q K^T and P V.

    Biases, normalisation, activations and pooling are not counted, as is usual; an embedding multiplies nothing.
    """
    return sum(macs_of_leaf(leaf, of_leaf) for leaf, of_leaf in leaves_with_shapes(layer, shape))


@singledispatch
def macs_of_leaf(layer: Layer, shape: Shape) -> int:
    """`macs` of a layer that is not a container."""
    output = layer.output_shape(shape)
    positions = math.prod(output) // output[len(output) // 2]  # all axes but that of the channels
    return positions * sum(p.size for p in layer.parameters() if p.prunable)


@macs_of_leaf.register
def _(layer: Embedding, shape: Shape) -> int:
    return 0


@macs_of_leaf.register
def _(layer: Attention, shape: Shape) -> int:
    T, C = layer.output_shape(shape)
    return 2 * T * T * C
