"""Builds a network from its name, or from its description: plain data that model files store."""

import dataclasses
import reprlib
from collections.abc import Callable
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.lab.layers import ColumnScaling, Dropout, Standardise
from nanoprune.lab.zoo.lenet import lenet5, lenet300
from nanoprune.lab.zoo.mlp import mlp
from nanoprune.lab.zoo.mobilenet import mobilenetv2, mobilenetv2_widths
from nanoprune.lab.zoo.resnet import resnet18, resnet18_widths
from nanoprune.lab.zoo.sequence import checked_records, count_weights, layers_of_records
from nanoprune.lab.zoo.size import Multiplier, Widths
from nanoprune.lab.zoo.transformer import TEXT, VIT, TransformerSize, transformer_text, vit
from nanoprune.lab.zoo.vgg import vgg16, vgg16_widths
from nanoprune.nn import Dense, Layer, Network, Sequential
from nanoprune.nn.layer import positive


@dataclasses.dataclass(frozen=True)
class Architecture:
    """layers(input_shape, classes, widths) builds the layers; size: the possible sizes; input_shape: the default.

    tokens: where the inputs are tokens, the default of their number, which `layers` takes last.
    """

    layers: Callable[..., Sequential]
    size: Widths | Multiplier
    input_shape: tuple[int, ...]
    tokens: int | None = None


NETWORKS = {
    "mlp": Architecture(mlp, Widths(512, 256, 128, free=True), (446,)),
    "lenet-300-100": Architecture(lenet300, Widths(300, 100), (784,)),
    "lenet-5": Architecture(lenet5, Widths(20, 50, 500), (28, 1, 28)),
    "vgg16": Architecture(vgg16, Multiplier(vgg16_widths), (224, 3, 224)),
    "mobilenetv2": Architecture(mobilenetv2, Multiplier(mobilenetv2_widths), (224, 3, 224)),
    "resnet18": Architecture(resnet18, Multiplier(resnet18_widths), (224, 3, 224)),
    "transformer-text": Architecture(transformer_text, TransformerSize(*TEXT), (32,), tokens=1024),
    "vit": Architecture(vit, TransformerSize(*VIT), (32, 3, 32)),
}

SEQUENTIAL = "sequential"  # the name in the description of a network that is a list of layers, and has no other name

Size = list[int] | tuple[int, ...] | float  # widths of the hidden layers, or a width multiplier


def architecture(name: str) -> Architecture:
    """Raises ArgumentError on an unknown name."""
    if name not in NETWORKS:
        raise ArgumentError(f"network must be one of {', '.join(NETWORKS)}, got {reprlib.repr(name)}")
    return NETWORKS[name]


def architecture_of(description: dict[str, Any]) -> Architecture:
    """The architecture in a description: a named one, or its own list of layers. Raises ArgumentError as `describe`."""
    if description["network"] != SEQUENTIAL:
        return architecture(description["network"])
    records = checked_records(description.get("sequence"))
    shape = tuple(description["input_shape"])
    widths = Widths(*[1] * (count_weights(records) - 1))
    return Architecture(lambda *of: layers_of_records(records, *of), widths, shape)


def describe(
    name: str,
    input_shape: tuple[int, ...],
    classes: int,
    size: Size | None = None,
    standardise: list[list[float]] | None = None,
    dropout: float = 0.0,
    numbers: int | None = None,
    sequence: list[dict[str, Any]] | None = None,
    tokens: int | None = None,
) -> dict[str, Any]:
    """The description of network `name` for inputs (F,) or (H, C, W); `build` makes the network from it.

    size: the widths of the hidden layers; for vgg16, mobilenetv2 and resnet18 the width multiplier, or the widths of
    all layers with weights but the last (shortcuts and depthwise convolutions included), in their order. standardise:
    mean and standard deviation of each channel, where the network is to see standardised images. dropout: the rate of
    the layers that `with_dropout` inserts. numbers: of the columns of a table, how many are to be standardised, the
    first ones (`ColumnScaling`); None where the inputs are not a table. sequence: where the name is SEQUENTIAL, its
    layers (`lab.zoo.sequence`). tokens: where the inputs are tokens, how many there are.

    Raises ArgumentError on an unknown name, on a size that does not fit it, on inputs that it cannot take, on unknown
    layers, and on a rate outside [0, 1).
    """
    found = architecture_of({"network": name, "input_shape": list(input_shape), "sequence": sequence})
    if len(found.input_shape) == 3 and len(input_shape) != 3:
        raise ArgumentError(
            f"network {name} takes images (H, C, W), got inputs of shape {reprlib.repr(input_shape)}; try mlp"
        )
    if found.tokens is None and tokens is not None:
        raise ArgumentError(f"network {name} takes numbers in [0, 1], got tokens; try transformer-text")
    if found.tokens and len(input_shape) != 1:
        raise ArgumentError(f"network {name} takes sequences of tokens (T,), got inputs of shape {input_shape}")
    size = found.size.checked(name, input_shape, size)
    description = {"network": name, "input_shape": list(input_shape), "classes": classes}
    description["widths" if isinstance(size, list) else "width"] = size
    description |= {"tokens": positive("tokens", tokens or found.tokens)} if found.tokens else {}
    description |= {"sequence": checked_records(sequence)} if name == SEQUENTIAL else {}
    description |= {} if standardise is None else {"standardise": standardise}
    if numbers is not None:
        description["numbers"] = ColumnScaling(*input_shape, numbers).numbers
    return description | ({"dropout": dropout} if Dropout(dropout).rate else {})


def checked(read: dict[str, Any]) -> dict[str, Any]:
    """The description that a file holds, rebuilt by `describe` from the fields that it knows.

    Raises ArgumentError as `describe` does, and on sizes that are not integers from 1 to 1,000,000; KeyError and other
    errors of `bounded.DAMAGE` where a field is missing or of another type.
    """
    size = size_of(read)
    numbers = [*read["input_shape"], *(size if isinstance(size, tuple) else ()), read["classes"]]
    numbers += [read["tokens"]] if "tokens" in read else []
    if not all(type(n) is int and 0 < n <= 1_000_000 for n in numbers):
        raise ArgumentError(f"the network's sizes are {reprlib.repr(numbers)}, expected integers from 1 to 1,000,000")
    kept = {name: read.get(name) for name in ("standardise", "numbers", "sequence", "tokens")}
    shape = tuple(read["input_shape"])
    return describe(read["network"], shape, read["classes"], size, dropout=read.get("dropout", 0.0), **kept)


def recognised(description: dict[str, Any]) -> dict[str, Any]:
    """The description by the name of a network of NETWORKS where that has the very same layers, else as it is."""
    layers = repr(layers_of(description))
    for name in NETWORKS:
        try:
            named = describe(
                name,
                tuple(description["input_shape"]),
                description["classes"],
                description["widths"],
                description.get("standardise"),
            )
            if repr(layers_of(named)) == layers:
                return named
        except ArgumentError:  # it has not so many widths, or takes other inputs
            continue
    return description


def size_of(description: dict[str, Any]) -> tuple[int, ...] | float:
    """The size in a description: the widths, or the width multiplier."""
    size = description["widths"] if "widths" in description else description["width"]
    return tuple(size) if isinstance(size, list) else size


def widths_of(description: dict[str, Any]) -> list[int]:
    """The widths of all layers with weights but the last, in order, also where the size is a multiplier."""
    found = architecture_of(description)
    return found.size.widths(tuple(description["input_shape"]), size_of(description))


def with_widths(description: dict[str, Any], widths: list[int]) -> dict[str, Any]:
    """The same architecture with other widths (see `widths_of`)."""
    return {name: value for name, value in description.items() if name != "width"} | {"widths": widths}


def layers_of(description: dict[str, Any]) -> Layer:
    """The layers of a description, without memory for their parameters."""
    layers = architecture_of(description).layers
    sizes = (tuple(description["input_shape"]), description["classes"], widths_of(description))
    body = layers(*sizes, description["tokens"]) if "tokens" in description else layers(*sizes)
    if description.get("dropout"):
        body = with_dropout(body, description["dropout"])
    if description.get("standardise") is not None:
        body = Sequential(Standardise(*description["standardise"]), body)
    if description.get("numbers") is not None:
        body = Sequential(ColumnScaling(*description["input_shape"], description["numbers"]), body)
    return body


def with_dropout(body: Sequential, rate: float) -> Sequential:
    """The layers with Dropout before every dense layer except one that reads the input."""
    layers: list[Layer] = []
    for layer in body.parts:
        if isinstance(layer, Dense) and any(before.parameters() for before in layers):
            layers.append(Dropout(rate))
        layers.append(layer)
    return Sequential(*layers)


def mixes_records(name: str) -> bool:
    """Whether network `name` has layers with batch statistics, which mix the records: DP-SGD cannot train it."""
    return bool(layers_of(describe(name, architecture(name).input_shape, classes=10)).statistics())


def build(description: dict[str, Any], replicas: int = 1, dtype: str = "float32") -> Network:
    """The network of a description, all parameters zero; `Network.initialise` draws them."""
    return Network(layers_of(description), tuple(description["input_shape"]), replicas, dtype, description)


def narrowed(description: dict[str, Any], weights: int) -> dict[str, Any]:
    """The same architecture in the largest size with at most `weights` weights; the smallest size if none has so few.

    It is the dense control of a pruned network's size. No hidden layer is wider than some h; in networks with a
    multiplier all layers are scaled by the same factor, in thousandths, without mobilenetv2's rounding to multiples
    of 8.
    """
    sizing, widths = architecture_of(description).size, widths_of(description)
    low, high = 1, sizing.steps(widths)

    def at(h: int) -> dict[str, Any]:
        return with_widths(description, sizing.at(widths, h))

    while low < high:  # bisection: the number of weights grows with h
        h = (low + high + 1) // 2
        low, high = (h, high) if weight_count(at(h)) <= weights else (low, h - 1)
    return at(low)


def weight_count(description: dict[str, Any]) -> int:
    """The number of prunable weights of one replica."""
    return sum(p.size for p in layers_of(description).parameters() if p.prunable)
