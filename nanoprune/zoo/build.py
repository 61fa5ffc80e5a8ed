"""From a name or a description (plain data, as models are stored) to a network."""

from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.nn import Layer, Network, Parameter
from nanoprune.zoo.lenet import lenet5, lenet300
from nanoprune.zoo.mlp import mlp

NETWORKS = {  # name: (its layers, the widths of its hidden layers by default)
    "mlp": (mlp, [512, 256, 128]),
    "lenet-300-100": (lenet300, [300, 100]),
    "lenet-5": (lenet5, [20, 50, 500]),
}


def describe(name: str, input_shape: tuple[int, ...], classes: int, widths: list[int] | None = None) -> dict[str, Any]:
    """The description of network `name` for inputs (F,) or (H, C, W); `build` makes the network from it.

    Raises ArgumentError on an unknown name, on widths that do not fit it, and on inputs that it cannot take.
    """
    if name not in NETWORKS:
        raise ArgumentError(f"network must be one of {', '.join(NETWORKS)}, got {name!r}")
    default = NETWORKS[name][1]
    widths = list(default if widths is None else widths)
    if name != "mlp" and len(widths) != len(default):
        raise ArgumentError(f"widths of {name} must be {len(default)} numbers like {default}, got {widths}")
    if name == "lenet-5" and len(input_shape) != 3:
        raise ArgumentError(f"network lenet-5 takes images (H, C, W), got inputs of shape {input_shape}; try mlp")
    return {"network": name, "input_shape": list(input_shape), "classes": classes, "widths": widths}


def build(description: dict[str, Any], replicas: int = 1, dtype: str = "float32") -> Network:
    """The network of a description, all parameters zero; `Network.initialise` draws them."""
    body = _body(description)
    return Network(body, tuple(description["input_shape"]), replicas, dtype, description)


def narrowed(description: dict[str, Any], weights: int) -> dict[str, Any]:
    """The same architecture with no hidden layer wider than h, for the largest h that needs at most `weights` weights.

    The dense network of the pruned one's size: layers that are narrow anyway keep their width, so that none becomes
    a needless bottleneck.
    """
    low, high = 1, max(description["widths"])
    while low < high:  # the largest h with count(h) <= weights; count grows with h
        h = (low + high + 1) // 2
        low, high = (h, high) if _weight_count(_capped(description, h)) <= weights else (low, h - 1)
    return _capped(description, low)


def _capped(description: dict[str, Any], h: int) -> dict[str, Any]:
    return description | {"widths": [min(width, h) for width in description["widths"]]}


def _body(description: dict[str, Any]) -> Layer:
    layers = NETWORKS[description["network"]][0]
    return layers(tuple(description["input_shape"]), description["classes"], description["widths"])


def _weight_count(description: dict[str, Any]) -> int:
    parameters: list[Parameter] = _body(description).parameters()
    return sum(p.size for p in parameters if p.prunable)
