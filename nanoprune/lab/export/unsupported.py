"""Layers whose operations are not registered with a function of the exports."""

from __future__ import annotations

from collections.abc import Callable

from nanoprune.errors import ArgumentError
from nanoprune.lab.export import steps
from nanoprune.lab.export.lower import Lowering, lower_layer
from nanoprune.lab.zoo.structure import Shape, leaves_with_shapes
from nanoprune.nn import Layer, Network


def check_operations(net: Network, function: Callable, what: str) -> None:
    """Raises ArgumentError, naming the layer, where `function` is not registered for an operation of `net`."""
    layer = first_without(net, function)
    if layer is not None:
        raise ArgumentError(f"{what} has no form of the layer {layer!r}; the command predict computes every network")


def first_without(net: Network, function: Callable) -> Layer | None:
    """The first layer one of whose operations is not registered with `function`, or None."""
    unknown = function.dispatch(object)
    for layer, shape in leaves_with_shapes(net.body, net.input_shape):
        if any(function.dispatch(type(of)) is unknown for of in operations(layer, shape)):
            return layer
    return None


def operations(layer: Layer, shape: Shape) -> list[steps.Operation]:
    """The operations that a layer becomes alone, for inputs of `shape`. Raises ArgumentError as `lower_layer` does."""
    made = Lowering(steps.Program((shape[1], shape[0], shape[2]) if len(shape) == 3 else shape))
    lower_layer(layer, made, 0)
    return [step.operation for step in made.program.steps]
