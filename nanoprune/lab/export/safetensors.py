"""safetensors: the weights with PyTorch's names and layout; `import` reads exactly the bits that were written.

vgg16, mobilenetv2 and resnet18 have torchvision's names. Other networks have plain ones: conv1, conv2, ...,
dense1, dense2, ..., as tables and options call them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from nanoprune.backend import to_device, to_host
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import Dataset
from nanoprune.lab.export.lower import children
from nanoprune.lab.layers import ColumnScaling
from nanoprune.lab.models import torchvision
from nanoprune.lab.storage.bounded import first_line
from nanoprune.lab.zoo import build, describe, size_of
from nanoprune.nn import Flatten, Layer, Network, Sequential

MISSING = "safetensors needs its package; install the extra: pip install 'nanoprune[import]'"
Tensor = tuple[
    str, tuple[int, ...], Any, Any
]  # name, shape in the file, our Parameter or Statistic, conversion from their layout to ours


def tensors(body: Layer, description: dict[str, Any]) -> Iterator[Tensor]:
    """Every tensor of the network, by its name in the file; see `Tensor`."""
    if description["network"] in torchvision.NAMES:
        yield from torchvision.tensors(body, description)
        return
    image, counts = tuple(description["input_shape"]), {}
    for name, layer, flattened in named_layers(body, image, counts):
        for part, theirs, target, convert in torchvision.layout(layer, flattened):
            yield f"{name}.{part}", theirs, target, convert


def named_layers(body: Layer, shape: Any, counts: dict[str, int]) -> Iterator[tuple[str, Layer, Any]]:
    """(name, layer, shape of the images that are flattened before it or None) of the layers with parameters.

    Raises ArgumentError where the network is not a plain sequence of layers.
    """
    if not isinstance(body, Sequential):
        raise ArgumentError(f"{body!r} is not a sequence; only sequences and torchvision's networks have tensor names")
    flattened = None
    for layer in children(body):
        if isinstance(layer, Sequential):
            yield from named_layers(layer, shape, counts)
        elif layer.parameters() or layer.statistics():
            kind = kind_of(layer)
            counts[kind] = counts.get(kind, 0) + 1
            yield f"{kind}{counts[kind]}", layer, flattened
            flattened = None
        elif isinstance(layer, Flatten) and len(shape) == 3:
            flattened = shape
        shape = layer.output_shape(shape)


def kind_of(layer: Layer) -> str:
    """How the layer's tensors are called, before a number."""
    if isinstance(layer, ColumnScaling):
        return "columns"
    return "conv" if layer.parameters()[0].window else "dense"


def state_dict(net: Network) -> dict[str, np.ndarray]:
    """The weights of replica 0 by name, float32 in PyTorch's layout.

    The layout is the inverse of the conversion in `import`, found by converting an array of indices: one table has the
    rules.
    """
    found = {}
    for name, theirs, target, convert in tensors(net.body, net.description):
        ours = to_host(target.value)[0].ravel()
        places = convert(np.arange(ours.size).reshape(theirs)).ravel()  # ours[i] is theirs.flat[places[i]]
        tensor = np.empty(ours.size, np.float32)
        tensor[places] = ours
        found[name] = tensor.reshape(theirs)
    return found


def to_safetensors(net: Network, about: dict[str, Any]) -> bytes:
    """The file's bytes; the metadata is `about`. Raises ArgumentError where the package safetensors is missing."""
    try:
        from safetensors.numpy import save
    except ImportError:
        raise ArgumentError(MISSING) from None
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()}
    return save(state_dict(net), metadata={"format": "pt"} | text)


def read_safetensors(path: str | os.PathLike) -> Network:
    """The network of a file that `to_safetensors` wrote: architecture from its metadata, every shape checked.

    Raises DataError, naming the file, where it is damaged, or does not contain its architecture.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise ArgumentError(MISSING) from None
    try:
        with safe_open(path, framework="numpy") as file:
            return _network(file, path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read as safetensors ({first_line(error)}); export it again") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # ArgumentError is a ValueError
        raise DataError(f"{path}: has no architecture ({first_line(error)}); give --network") from error


def import_exported(path: str | os.PathLike, dataset: Dataset | None = None) -> torchvision.Model:
    """The model of a file that `to_safetensors` wrote. dataset, and errors, as in `torchvision.import_model`."""
    return torchvision.imported(read_safetensors(path), path, dataset)


def _network(file: Any, path: str | os.PathLike) -> Network:
    read = json.loads((file.metadata() or {})["architecture"])
    shape, classes = tuple(read["input_shape"]), read["classes"]
    if not all(type(n) is int and 0 < n <= 1_000_000 for n in (*shape, classes)):
        raise DataError(f"{path}: sizes {shape} and {classes} classes, expected integers from 1 to 1,000,000")
    description = describe(
        read["network"], shape, classes, size_of(read), read.get("standardise"), numbers=read.get("numbers")
    )
    there = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118, it is no dict
    layout = build(description, replicas=0)  # no memory for parameters yet
    expected = {name: theirs for name, theirs, *_ in tensors(layout.body, description)}
    for name in [*expected, *there]:
        if there.get(name) != expected.get(name):
            raise DataError(
                f"{path}: {name} has shape {there.get(name)}, expected {expected.get(name)}; export it again"
            )
    net = build(description)
    for name, _, target, convert in tensors(net.body, description):
        target.value[0] = to_device(convert(torchvision.values(file, path, name)))
    return net


def check_bitwise(data: bytes, net: Network) -> None:
    """Raises DataError where the bytes do not hold the weights of replica 0 of `net`, bit for bit."""
    from safetensors.numpy import load

    stored = load(data)
    for name, _, target, convert in tensors(net.body, net.description):
        if convert(stored[name]).tobytes() != to_host(target.value)[0].astype(np.float32).tobytes():
            raise DataError(f"the exported {name} differs from the network's; nothing was written")
