"""Int8 weights in a laboratory file, so that the quantised model can be audited before it is released."""

from __future__ import annotations

import dataclasses

import numpy as np

from nanoprune.backend import to_device, to_host
from nanoprune.lab.export.packing import channel_scales, integers
from nanoprune.lab.models.model import Model
from nanoprune.nn import Network


def quantised_network(net: Network) -> Network:
    """A copy of a network of one replica whose weights are scale[o] times integers from -127 to 127.

    Data-free, with one scale per output channel: its largest magnitude / 127. Scales have 17 significant bits, so that
    every product is exact in float32 and quantising twice changes nothing.
    """
    made = net.copy()
    for W in made.weights:
        values = to_host(W.value)[0].astype(np.float64)
        scale = channel_scales(values)
        W.value[0] = to_device((integers(values, scale) * scale[:, None]).astype(np.float32))
    return made


def quantised_model(model: Model) -> Model:
    """The model with int8 weights, recorded as its last step; `attack` repeats the other steps for its shadow models,
    whose weights stay float32.
    """
    steps = [*model.steps[:-1], model.steps[-1] | {"weights": "int8"}] if model.steps else []
    return dataclasses.replace(model, net=quantised_network(model.net), steps=steps)


def is_quantised(net: Network) -> bool:
    """Whether quantising the weights changes no bit of them."""
    return bool((to_host(quantised_network(net).W) == to_host(net.W)).all())
