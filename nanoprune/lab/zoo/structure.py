"""The layers of a network with the shapes of their inputs, and the multiply-accumulates of a sample."""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch

from nanoprune.errors import ArgumentError
from nanoprune.lab.layers import Residual
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
    """Multiply-accumulates of one sample of `shape`: each weight once per output position.

    Biases, normalisation, activations and pooling are not counted, as is usual.
    """
    total = 0
    for leaf, of_leaf in leaves_with_shapes(layer, shape):
        output = leaf.output_shape(of_leaf)
        positions = output[0] * output[2] if len(output) == 3 else 1
        total += positions * sum(p.size for p in leaf.parameters() if p.prunable)
    return total
