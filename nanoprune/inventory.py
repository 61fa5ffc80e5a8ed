"""What a network consists of: its layers one by one, with shapes, weights and multiply-accumulates."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.model import load_model
from nanoprune.nn import Layer, Network
from nanoprune.zoo import NETWORKS, architecture, describe, layers_of
from nanoprune.zoo.size import is_small

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """One layer. input, output: shapes of one sample, (H, C, W) or (F,). weights: what pruning may touch; parameters:
    those and biases, scales and shifts; macs: multiply-accumulates of one sample (`Layer.macs`).

    kept_weights, kept_macs: of a model, the weights that are not zero and what they cost, else None.
    """

    layer: str
    input: Shape
    output: Shape
    weights: int
    parameters: int
    macs: int
    kept_weights: int | None = None
    kept_macs: int | None = None


SUMS = ("weights", "parameters", "macs", "kept_weights", "kept_macs")


def inventory_of(
    network: str, side: int | None = None, width: float | None = None, classes: int | None = None
) -> dict[str, Any]:
    """The inventory of a network by name, or of the model file `network`, which says the rest itself.

    side: height and width of the images, or number of features; by default what the network was made for. classes: by
    default 1000 for large images, else 10. Raises ArgumentError on a name that is neither, and on options that do not
    fit, DataError on a damaged file.
    """
    if network in NETWORKS:
        usual = architecture(network).input_shape
        shape = usual if side is None else (side, usual[1], side) if len(usual) == 3 else (side,)
        if classes is None:
            classes = 10 if len(shape) == 1 or is_small(shape) else 1000
        return inventory(describe(network, shape, classes, width))
    if not os.path.isfile(network):
        raise ArgumentError(f"network must be one of {', '.join(NETWORKS)}, or a model file; got {network!r}")
    if not side is width is classes is None:
        raise ArgumentError(f"{network}: the model file says inputs, width and classes; leave the options out")
    net = load_model(network).net
    return inventory(net.description, net)


def inventory(description: dict[str, Any], net: Network | None = None) -> dict[str, Any]:
    """The description, the totals of `SUMS` (None where not known), and "layers", a record like `Row` each.

    net: a network of that description whose first replica is counted. Without it no memory for parameters is taken.
    """
    shape = tuple(description["input_shape"])
    body = net.body if net else layers_of(description)
    rows = [row(layer, of, net is not None) for layer, of in leaves(body, shape)]
    sums = {
        name: sum(getattr(r, name) for r in rows) if rows and getattr(rows[0], name) is not None else None
        for name in SUMS
    }
    return description | sums | {"layers": [dataclasses.asdict(r) for r in rows]}


def leaves(layer: Layer, shape: Shape) -> Iterator[tuple[Layer, Shape]]:
    """The layers that are not made of others, in the order of the forward pass, each with the shape of its input."""
    parts = layer.parts(shape)
    if not parts:
        yield layer, shape
    for part, of in parts:
        yield from leaves(part, of)


def row(layer: Layer, shape: Shape, count: bool) -> Row:
    """A layer that is not made of others, for inputs of `shape`; count: whether its weights are there to be counted."""
    parameters = layer.parameters()
    prunable = [p for p in parameters if p.prunable]
    weights, macs = sum(p.size for p in prunable), layer.macs(shape)
    kept = sum(int((p.value[0] != 0).sum()) for p in prunable) if count else None
    return Row(
        layer=repr(layer),
        input=shape,
        output=layer.output_shape(shape),
        weights=weights,
        parameters=sum(p.size for p in parameters),
        macs=macs,
        kept_weights=kept,
        kept_macs=kept * macs // weights if count and weights else kept,  # a weight is used equally often as any other
    )
