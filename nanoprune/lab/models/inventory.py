"""The layers of a network one by one, with shapes, weights and multiply-accumulates."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.lab.models.model import Model, load_model
from nanoprune.lab.zoo import NETWORKS, architecture, describe, layers_of
from nanoprune.lab.zoo.count import counts
from nanoprune.lab.zoo.size import is_small
from nanoprune.nn import Network

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
    model = load_model(network)
    return inventory(model.net.description, model.net) | {"model": history(model)}


def history(model: Model) -> dict[str, Any]:
    """What a model file says of its data and of how it was made: the fields of a `Model` but the network."""
    return {field.name: getattr(model, field.name) for field in dataclasses.fields(model) if field.name != "net"}


def inventory(description: dict[str, Any], net: Network | None = None) -> dict[str, Any]:
    """The description, the totals of `SUMS` (None where not known), and "layers", a record like `Count` each.

    net: a network of that description whose first replica is counted. Without it no memory for parameters is taken.
    """
    shape = tuple(description["input_shape"])
    body = net.body if net else layers_of(description)
    rows = counts(body, shape, 0 if net else None)
    sums = {
        name: sum(getattr(r, name) for r in rows) if rows and getattr(rows[0], name) is not None else None
        for name in SUMS
    }
    return description | sums | {"layers": [dataclasses.asdict(r) for r in rows]}
