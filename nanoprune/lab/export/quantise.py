"""Int8 weights in a laboratory file, so that the quantised model can be audited before it is released."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from nanoprune.backend import to_device, to_host
from nanoprune.lab.export.packing import channel_scales, integers
from nanoprune.lab.models.model import Model
from nanoprune.nn import Network


def quantised_network(net: Network) -> Network:
    """A copy of a network whose weights are scale[o] times integers from -127 to 127, in each replica.

    Data-free, with one scale per output channel: its largest magnitude / 127. Scales have 17 significant bits, so that
    every product is exact in float32 and quantising twice changes nothing.
    """
    made = net.copy()
    for W, r in itertools.product(made.weights, range(made.replicas)):
        values = to_host(W.value)[r].astype(np.float64)
        scale = channel_scales(values)
        W.value[r] = to_device((integers(values, scale) * scale[:, None]).astype(np.float32))
    return made


def quantised_model(model: Model) -> Model:
    """The model with int8 weights, recorded in its last step; `attack` rounds the weights of its shadow models too."""
    steps = [*model.steps[:-1], model.steps[-1] | {"weights": "int8"}] if model.steps else []
    return dataclasses.replace(model, net=quantised_network(model.net), steps=steps)


def is_quantised(net: Network) -> bool:
    """Whether quantising the weights changes no bit of them."""
    return bool((to_host(quantised_network(net).W) == to_host(net.W)).all())
