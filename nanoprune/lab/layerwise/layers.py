"""A network pruned layer by layer from the activations of given records."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nanoprune.backend import to_device, to_host
from nanoprune.errors import ArgumentError
from nanoprune.lab.layerwise.alps import alps
from nanoprune.lab.layerwise.inputs import gram, input_matrices
from nanoprune.lab.layerwise.sparsegpt import sparsegpt
from nanoprune.lab.layerwise.wanda import wanda
from nanoprune.lab.zoo import architecture, describe
from nanoprune.lab.zoo.build import layers_of
from nanoprune.nn import Layer, Network
from nanoprune.nn.registry import check_registered
from nanoprune.nn.sequential import leaves
from nanoprune.prune import Budget
from nanoprune.records import Records

Algorithm = Callable[[np.ndarray, np.ndarray, int], np.ndarray]  # (W (O, I), H (I, I), k) -> (O, I)

ALGORITHMS: dict[str, Algorithm] = {"alps": alps, "sparsegpt": sparsegpt, "wanda": wanda}


def check_prunable(net: Network, scheme: str, records: int) -> None:
    """ArgumentError unless every layer with weights has its inputs as a matrix, weights are pruned one by one and there
    are reference records."""
    if scheme != "unstructured":
        raise ArgumentError(f"scheme must be unstructured for layer-wise pruning, got {scheme}")
    if records < 1:
        raise ArgumentError(
            "reference must be at least 1 for layer-wise pruning, which takes activations from it, got 0"
        )
    for layer in _with_weights(net.body):
        check_registered(input_matrices, layer)


def supports(network: str) -> bool:
    """Whether all layers with weights of the network of a name have their inputs as a matrix."""
    body = layers_of(describe(network, architecture(network).input_shape, classes=10))
    try:
        for layer in _with_weights(body):
            check_registered(input_matrices, layer)
    except ArgumentError:
        return False
    return True


def prune_layers(algorithm: Algorithm, net: Network, budget: Budget, records: Records, index: np.ndarray) -> None:
    """Prune `net` in place to as many weights of each layer as the budget's projection of the dense weights has there.

    Layers are pruned in the order of the forward pass: the inputs of each are those of the network as it is pruned so
    far, for the records index (R, M). Biases and running statistics stay.
    """
    kept = to_host(budget.support(net.W))  # (R, n): its sums are the numbers of weights, whichever is kept
    places = dict(zip(net.weights, _slices(net), strict=True))
    for layer in _with_weights(net.body):
        H = gram(net, layer, records, index)  # (R, I, I)
        (weight,) = (parameter for parameter in layer.parameters() if parameter.prunable)
        k = kept[:, places[weight]].sum(axis=1)  # (R,)
        W = to_host(weight.value).astype(np.float64)  # (R, O, I)
        pruned = [algorithm(*of) for of in zip(W, H, k.tolist(), strict=True)]
        weight.value[...] = to_device(np.stack(pruned).astype(net.theta.dtype))


def _with_weights(body: Layer) -> list[Layer]:
    return [layer for layer in leaves(body) if any(parameter.prunable for parameter in layer.parameters())]


def _slices(net: Network) -> list[slice]:
    ends = np.cumsum([parameter.size for parameter in net.weights]).tolist()
    return [slice(end - parameter.size, end) for end, parameter in zip(ends, net.weights, strict=True)]
