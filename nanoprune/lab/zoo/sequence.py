"""A network without a name: a list of records, one per layer, each checked against a table.

    [{"layer": "conv", "size": 3, "stride": 1, "padding": 1, "bias": true}, {"layer": "relu"}, {"layer": "flatten"},
     {"layer": "dense"}]

The records have no widths: those are a list of their own, as in every description, one for each layer with weights but
the last, whose width is the number of classes. What a layer reads follows from what comes before it.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.lab.kernels import convolution, depthwise_convolution, max_pooling
from nanoprune.lab.layers import AvgPool, BatchNorm, Dropout, GlobalAvgPool, Pointwise, ReLU6, Residual, Tanh
from nanoprune.nn import Dense, Flatten, Layer, ReLU, Sequential

MOST = 1000  # layers in all
DEEPEST = 4  # residual blocks inside of one another
LARGEST = 1000  # of a window, its stride and its padding

Shape = tuple[int, ...]
Records = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Setting:
    """A hyperparameter: what it must be, in words and as a test, and its value where a record does not have it."""

    words: str
    fits: Callable[[Any], bool]
    default: Any = None


def whole(least: int, default: Any = None) -> Setting:
    """An integer from `least` to LARGEST; a bool is none."""
    words = f"an integer from {least} to {LARGEST}"
    return Setting(words, lambda value: type(value) is int and least <= value <= LARGEST, default)


BIAS = Setting("true or false", lambda value: isinstance(value, bool), True)
RATE = Setting("a number in [0, 1)", lambda value: type(value) in (int, float) and 0 <= value < 1, 0.0)
BLOCK = Setting("a list of layers", lambda value: isinstance(value, list), [])
WINDOW = {"size": whole(1), "stride": whole(1, 1), "padding": whole(0, 0)}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A layer of the table. make(units, width, **settings): units are the channels or features that it reads, width the
    number that it puts out, None where it has no weights."""

    make: Callable[..., Layer]
    settings: Mapping[str, Setting] = dataclasses.field(default_factory=dict)
    weights: bool = False


def _conv(units: int, width: int, size: int, stride: int, padding: int, bias: bool) -> Layer:
    if size == 1 and padding == 0:
        return Pointwise(units, width, stride, bias)
    return convolution(units, width, size, stride, padding, bias)


def _depthwise(units: int, width: int, size: int, stride: int, padding: int, bias: bool) -> Layer:
    if width != units:
        raise ArgumentError(f"a depthwise layer on {units} channels has the width {width}; it keeps their number")
    return depthwise_convolution(units, size, stride, padding, bias)


def _plain(layer: Callable[[], Layer]) -> Kind:
    return Kind(lambda units, width: layer())


LAYERS = {
    "dense": Kind(Dense, weights=True),
    "conv": Kind(_conv, WINDOW | {"bias": BIAS}, weights=True),
    "depthwise": Kind(_depthwise, WINDOW | {"bias": BIAS}, weights=True),
    "batchnorm": Kind(lambda units, width: BatchNorm(units)),
    "relu": _plain(ReLU),
    "relu6": _plain(ReLU6),
    "tanh": _plain(Tanh),
    "maxpool": Kind(lambda units, width, **of: max_pooling(**of), WINDOW),
    "avgpool": Kind(lambda units, width, size: AvgPool(size), {"size": whole(1)}),
    "globalavgpool": _plain(GlobalAvgPool),
    "flatten": _plain(Flatten),
    "dropout": Kind(lambda units, width, rate: Dropout(rate), {"rate": RATE}),
}
RESIDUAL = {"body": BLOCK, "shortcut": BLOCK}  # y = body(x) + shortcut(x); an empty shortcut is the identity


def checked_records(records: Any) -> Records:
    """The records with every hyperparameter that a layer has, and nothing else.

    Raises ArgumentError on anything but a list of at most MOST layers of the table with hyperparameters in their range.
    """
    found = _checked(records, "sequence", 0)
    if not found or not count_weights(found):
        raise ArgumentError("sequence must have a layer with weights")
    if sum(1 for _ in flat(found)) > MOST:
        raise ArgumentError(f"sequence must have at most {MOST} layers")
    return found


def _checked(records: Any, where: str, depth: int) -> Records:
    if not isinstance(records, list) or len(records) > MOST or depth > DEEPEST:
        limits = f"at most {MOST} layers and {DEEPEST} levels"
        raise ArgumentError(f"{where} must be a list of {limits}, got {reprlib.repr(records)}")
    found = []
    for place, record in enumerate(records):
        what = f"{where}[{place}]"
        name = record.get("layer") if isinstance(record, dict) else None
        if not isinstance(name, str) or name not in (*LAYERS, "residual"):
            names = ", ".join((*LAYERS, "residual"))
            raise ArgumentError(f"{what} must be a record whose layer is one of {names}, got {reprlib.repr(record)}")
        settings = RESIDUAL if name == "residual" else LAYERS[name].settings
        if unknown := sorted(map(str, record.keys() - settings.keys() - {"layer"})):
            raise ArgumentError(f"{what}: {name} has no {reprlib.repr(unknown[0])}")
        made = {"layer": name}
        for key, setting in settings.items():
            value = record.get(key, setting.default)
            if not setting.fits(value):
                raise ArgumentError(f"{what}.{key} of {name} must be {setting.words}, got {reprlib.repr(value)}")
            made[key] = _checked(value, f"{what}.{key}", depth + 1) if setting is BLOCK else value
        found.append(made)
    return found


def flat(records: Records) -> Iterator[dict[str, Any]]:
    """The layers in the order of their parameters: the body of a residual block before its shortcut."""
    for record in records:
        if record["layer"] == "residual":
            yield from flat(record["body"])
            yield from flat(record["shortcut"])
        else:
            yield record


def count_weights(records: Records) -> int:
    """How many of the layers have weights."""
    return sum(LAYERS[record["layer"]].weights for record in flat(records))


def layers_of_records(records: Records, input_shape: Shape, classes: int, widths: list[int]) -> Sequential:
    """The layers, without memory for their parameters. records: as `checked_records` returns them; widths: one for each
    layer with weights but the last. Raises ArgumentError where a layer cannot take what comes before it."""
    return _sequence(records, input_shape, iter([*widths, classes]))


def _sequence(records: Records, shape: Shape, widths: Iterator[int]) -> Sequential:
    layers = []
    for record in records:
        layer = _layer(record, shape, widths)
        shape = layer.output_shape(shape)
        layers.append(layer)
    return Sequential(*layers)


def _layer(record: dict[str, Any], shape: Shape, widths: Iterator[int]) -> Layer:
    settings = {name: value for name, value in record.items() if name != "layer"}
    if record["layer"] == "residual":
        body = _sequence(settings["body"], shape, widths)
        return Residual(body, _sequence(settings["shortcut"], shape, widths) if settings["shortcut"] else None)
    kind = LAYERS[record["layer"]]
    return kind.make(shape[len(shape) // 2], next(widths) if kind.weights else None, **settings)
