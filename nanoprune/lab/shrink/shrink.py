"""Structured-pruning propagation: from pruned filters or channels to a smaller dense network with equal outputs."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from nanoprune.backend import to_device
from nanoprune.errors import ArgumentError
from nanoprune.lab.shrink.narrowed import narrowed
from nanoprune.lab.shrink.units import unit_count
from nanoprune.lab.zoo import layers_of, with_widths
from nanoprune.nn import Layer, Network
from nanoprune.nn.sequential import leaves


def shrink(net: Network) -> Network:
    """The network without unnecessary units; its outputs are the same up to rounding.

    Two kinds of units (channels or features) are removed. No weight reads the first kind: its channel was pruned in the
    next layer. All weights of the second kind are zero: its filter was pruned, so its value is constant, a function of
    its bias. That constant is folded into the bias of the next layer (which may make units there constant in turn).
    Biases are not pruned, so the constant is rarely 0. It cannot be folded where the next layer has no bias, or is a
    convolution with zero padding, whose windows at the border contain less of it: unless it is 0, such a unit is kept.
    The units at both ends of a `Residual` are kept too, since shortcuts couple them. Every layer keeps at least one
    unit; all inputs and outputs of the network are kept.

    Rules are registered by the layer's type: `constants`, from the first layer to the last; `dependencies`, from the
    last to the first; `narrowed`. The result has a description, with new widths, where `net` has one. Raises
    ArgumentError where a layer cannot lose units, and where replicas shrink to different sizes.
    """
    parts = [_narrowed(net.copy(slice(r, r + 1))) for r in range(net.replicas)]
    body, _ = parts[0]
    sizes = [[p.shape[0] for p in part.parameters() if p.prunable] for part, _ in parts]
    for r, own in enumerate(sizes):
        if own != sizes[0]:
            raise ArgumentError(
                f"replica {r} shrinks to layers of {own} units, replica 0 to {sizes[0]}; shrink each alone"
            )
    small = Network(body, net.input_shape, net.replicas, net.theta.dtype, _description(net, body))
    places = [place for layer in leaves(small.body) for place in (*layer.parameters(), *layer.statistics())]
    for r, (_, values) in enumerate(parts):
        for place, value in zip(places, values, strict=True):
            place.value[r] = to_device(value.astype(net.theta.dtype))
    return small


def _narrowed(net: Network) -> tuple[Layer, list[np.ndarray]]:
    """The layers of one replica without unnecessary units, and their values (see `narrowed`)."""
    inputs = unit_count(net.input_shape)
    varying, all_inputs = np.full(inputs, np.nan), np.ones(inputs, bool)
    outputs = np.ones(net.output_shape[0], bool)
    body, values, _ = narrowed(net.body, all_inputs, outputs, varying, net.input_shape)
    return copy.deepcopy(body), values


def _description(net: Network, body: Layer) -> dict[str, Any] | None:
    """The description of `net` with the new widths of its hidden layers."""
    if net.description is None:
        return None
    description = with_widths(net.description, [p.shape[0] for p in body.parameters() if p.prunable][:-1])
    if repr(layers_of(description)) != repr(body):
        raise ArgumentError(
            f"network {description['network']} cannot have the remaining widths: a block without a shortcut ends as "
            "wide as it begins; prune a little more or less"
        )
    return description
