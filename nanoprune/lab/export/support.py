"""Which layers a target of exports can carry, from what is registered for each; the rest is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.lab.export import onnx_sequences as onnx_sequences  # registers the operations on sequences
from nanoprune.lab.export.c import emit
from nanoprune.lab.export.onnx import add_nodes
from nanoprune.lab.export.torch_code import code
from nanoprune.lab.export.unsupported import first_without
from nanoprune.lab.export.web import describe
from nanoprune.lab.models.layout import has_tensors, layout
from nanoprune.nn import Layer, Network

OPERATIONS = {"onnx": add_nodes, "c": emit, "web": describe}  # registered by operation
LAYERS = {"safetensors": (layout,), "torch-code": (layout, code)}  # registered by layer; layout, of those with tensors


def check_target(net: Network, target: str) -> None:
    """Raises ArgumentError where a layer of `net` cannot be exported to `target`: it names the layer, and the targets
    that carry the whole network."""
    layer = unsupported(net, target)
    if layer is not None:
        others = [name for name in (*OPERATIONS, *LAYERS) if unsupported(net, name) is None]
        remedy = f"--to {' or '.join(others)} can" if others else "nor can another target carry this network"
        name = type(layer).__name__ if layer.layers() else repr(layer)  # that of a container has all that is in it
        raise ArgumentError(f"{target} cannot carry the layer {name}; {remedy}")


def unsupported(net: Network, target: str) -> Layer | None:
    """The first layer of `net` that `target` cannot carry, or None."""
    if target in OPERATIONS:
        return first_without(net, OPERATIONS[target])
    return next((layer for layer in within(net.body) if not all(has(of, layer) for of in LAYERS[target])), None)


def within(layer: Layer) -> Iterator[Layer]:
    """The layer and all that are in it."""
    yield layer
    for part in layer.layers():
        yield from within(part)


def has(function: Any, layer: Layer) -> bool:
    """Whether the function is registered for the layer, or is `layout` and there is no tensor of the layer's own."""
    if function is layout and (layer.layers() or not has_tensors(layer)):
        return True
    found = function.dispatch(type(layer))
    return found is not function.dispatch(object) and not hasattr(found, "reason")
