"""Weights that were trained elsewhere: safetensors files with torchvision's names, as models of ours.

The same network in another layout: kernels are (O, kh*C*kw) here and (O, C, kh, kw) in PyTorch, images are flattened
from (H, C, W) here and from (C, H, W) in PyTorch. The outputs are the same up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import singledispatch
from typing import Any

import numpy as np

from nanoprune.backend import to_device
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import Dataset
from nanoprune.lab.layers import BatchNorm, ColumnScaling, DepthwiseConv2D, GroupNorm, Pointwise
from nanoprune.lab.models.model import Model
from nanoprune.lab.storage.bounded import first_line
from nanoprune.lab.storage.files import file_sha256, open_regular
from nanoprune.lab.storage.text import printable, printable_list
from nanoprune.lab.zoo import build, describe, layers_of
from nanoprune.lab.zoo.mobilenet import STAGES
from nanoprune.lab.zoo.structure import Shape, leaves_with_shapes
from nanoprune.lab.zoo.vgg import BLOCKS
from nanoprune.nn import Conv2D, Dense, Flatten, Layer, Network
from nanoprune.nn.registry import refuse

Tensor = tuple[str, Shape, Any, Callable]  # name and shape there, our Parameter or Statistic, from their layout to ours
UNKNOWN = "unknown"  # the data set of a model that came without one
COUNTER = ".num_batches_tracked"  # PyTorch counts its batches; nothing that we compute depends on it


def import_model(
    path: str | os.PathLike,
    network: str,
    side: int = 224,
    width: float = 1.0,
    standardise: list[list[float]] | None = None,
    dataset: Dataset | None = None,
) -> Model:
    """The model in the safetensors file `path`: torchvision's vgg16_bn, mobilenet_v2 or resnet18.

    side: height and width of its images. standardise: mean and standard deviation of each channel of images in [0, 1],
    where it was trained on standardised ones; the model then takes images in [0, 1]. dataset: the data set whose
    official training set it was trained on; without it the model cannot be pruned, since its members are not known.

    Raises DataError, naming the file and the tensor, on whatever does not fit the network; ArgumentError on a network
    without torchvision's names, a mean or standard deviation that images in [0, 1] cannot have, and where the package
    safetensors is missing.
    """
    if network not in NAMES:
        raise ArgumentError(f"network must be one of {', '.join(NAMES)}, got {network!r}")
    if standardise is not None:
        check_standardise(*standardise)
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise ArgumentError(
            "import needs the package safetensors; install the extra: pip install 'nanoprune[import]'"
        ) from None
    try:
        open_regular(path).close()
        with safe_open(path, framework="numpy") as file:
            net = read_network(file, path, network, side, width, standardise)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{printable(path, 400)}: cannot be read as safetensors ({first_line(error)}); save the state dict as such"
        ) from error
    return imported(net, path, dataset)


def imported(net: Network, path: str | os.PathLike, dataset: Dataset | None) -> Model:
    """The model of a network that was read from `path`; on `dataset`'s official training set, if that is given."""
    step = {"step": "import", "file": os.path.basename(path), "sha256": file_sha256(path)}
    if dataset is None:
        return Model(net, UNKNOWN, "", None, 0, 0, 0, [step])
    if net.input_shape != dataset.x.shape[1:] or net.output_shape != (dataset.classes,):
        raise ArgumentError(f"the network maps {net.input_shape} to {net.output_shape}: not made for {dataset.name}")
    return Model(net, dataset.name, dataset.sha256, None, 0, len(dataset.y) - dataset.train, 0, [step])


def check_standardise(mean: list[float], std: list[float]) -> None:
    """ArgumentError unless images in [0, 1] can have such means, and such standard deviations divide them usefully.

    Values of images in [0, 255] would leave every input within a fiftieth of the same number. A standard deviation of 1
    stands for no scaling.
    """
    if any(value > 1 for value in (*mean, *std)):
        scaled = [",".join(f"{value / 255:.4g}" for value in values) for values in (mean, std)]
        raise ArgumentError(
            f"mean and std are of images in [0, 1], got {max(*mean, *std):g}; those of images in [0, 255] are to be "
            f"divided by 255: --mean {scaled[0]} --std {scaled[1]}"
        )
    if not all(0 <= value <= 1 for value in mean) or not all(0 < value <= 1 for value in std):
        raise ArgumentError(f"mean must lie in [0, 1] and std in (0, 1], got {mean} and {std}")


def read_network(
    file: Any,
    path: str | os.PathLike,
    network: str,
    side: int,
    width: float,
    standardise: list[list[float]] | None,
) -> Network:
    """The network in an open safetensors file; every name and shape is checked before memory is taken."""
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118, it is no dict
    shapes = {name: shape for name, shape in shapes.items() if not name.endswith(COUNTER)}
    last = f"{NAMES[network](side)[-1]}.weight"
    classes = (shapes.get(last) or (1,))[0]
    description = describe(network, (side, 3, side), classes, width, standardise)
    expected = {name: shape for name, shape, *_ in tensors(layers_of(description), description)}
    for name, shape in expected.items():
        if shapes.get(name) != shape:
            found = f"has shape {printable(shapes[name])}" if name in shapes else "is missing"
            raise DataError(f"{printable(path, 400)}: {name} {found}, {network} of width {width:g} needs {shape}")
    foreign = sorted(shapes.keys() - expected.keys())
    if foreign:
        raise DataError(f"{printable(path, 400)}: {network} has no {printable_list(foreign)}; name another --network")
    net = build(description)
    for name, _, target, convert in tensors(net.body, description):
        target.value[0] = to_device(convert(values(file, path, name)))
    return net


def values(file: Any, path: str | os.PathLike, name: str) -> np.ndarray:
    """The tensor in float32. Raises DataError where it is not real or not finite, or holds a negative variance."""
    try:
        tensor = file.get_tensor(name)
    except (TypeError, AttributeError, ValueError) as error:  # bfloat16, for example
        what = f"{printable(path, 400)}: {name} has a type that NumPy does not have"
        raise DataError(f"{what} ({first_line(error)}); save it as float32") from error
    if tensor.dtype.kind == "V":  # a package that is installed has taught NumPy the type
        what = f"{printable(path, 400)}: {name} has a type that NumPy does not have"
        raise DataError(f"{what} ({tensor.dtype}); save it as float32")
    if tensor.dtype.kind != "f":
        raise DataError(f"{printable(path, 400)}: {name} is {tensor.dtype}, expected float32")
    if not np.isfinite(tensor).all() or (name.endswith("running_var") and tensor.min() < 0):
        raise DataError(f"{printable(path, 400)}: {name} holds NaN, infinity or a negative variance")
    return tensor.astype(np.float32)


def tensors(body: Layer, description: dict[str, Any]) -> Iterator[Tensor]:
    """(name, shape there, our Parameter or Statistic, from their layout to ours) of every tensor of the network."""
    image = tuple(description["input_shape"])
    names = iter(NAMES[description["network"]](image[0]))
    flattened: Shape | None = None  # the images that the next dense layer sees flattened
    for layer, shape in leaves_with_shapes(body, image):
        if isinstance(layer, Flatten):
            flattened = shape
        if layer.parameters():
            prefix = next(names)
            for name, theirs, target, convert in layout(layer, flattened):
                yield f"{prefix}.{name}", theirs, target, convert
            flattened = None


@singledispatch
def layout(layer: Layer, flattened: Shape | None = None) -> list[Tensor]:
    """(name, shape there, ours, conversion) of one layer's tensors. flattened: the images (H, C, W) that a dense layer
    sees flattened, if any. Raises ArgumentError where the layer is not registered."""
    raise ArgumentError(f"{layer!r} has no tensors there; register them in nanoprune/lab/models/torchvision.py")


layout.register(GroupNorm, refuse("is in none of torchvision's networks that are read"))


@layout.register
def _(layer: BatchNorm, flattened: Shape | None = None) -> list[Tensor]:
    ours = {"weight": layer.gamma, "bias": layer.beta, "running_mean": layer.mean, "running_var": layer.var}
    return [(name, (layer.channels,), target, column) for name, target in ours.items()]


@layout.register
def _(layer: ColumnScaling, flattened: Shape | None = None) -> list[Tensor]:
    return [(of.name, (layer.columns,), of, column) for of in layer.statistics()]


@layout.register
def _(layer: Conv2D, flattened: Shape | None = None) -> list[Tensor]:
    shape = layer.W.shape  # (O, kh*C*kw)
    theirs = (layer.kernels, layer.channels, layer.size, layer.size)
    return with_bias(layer, ("weight", theirs, layer.W, lambda a: a.transpose(0, 2, 1, 3).reshape(shape)))


@layout.register
def _(layer: DepthwiseConv2D, flattened: Shape | None = None) -> list[Tensor]:
    theirs, shape = (layer.channels, 1, layer.size, layer.size), layer.W.shape
    return with_bias(layer, ("weight", theirs, layer.W, lambda a: a.reshape(shape)))


@layout.register
def _(layer: Pointwise, flattened: Shape | None = None) -> list[Tensor]:
    theirs, shape = (layer.kernels, layer.channels, 1, 1), layer.W.shape
    return with_bias(layer, ("weight", theirs, layer.W, lambda a: a.reshape(shape)))


@layout.register
def _(layer: Dense, flattened: Shape | None = None) -> list[Tensor]:
    shape = layer.W.shape
    if flattened is None:
        return with_bias(layer, ("weight", shape, layer.W, lambda a: a))
    H, C, width = flattened
    return with_bias(
        layer, ("weight", shape, layer.W, lambda a: a.reshape(-1, C, H, width).swapaxes(1, 2).reshape(shape))
    )


def with_bias(layer: Layer, weight: Tensor) -> list[Tensor]:
    """The weight, and the bias where the layer has one."""
    return [weight, ("bias", layer.b.shape[:1], layer.b, column)] if layer.b else [weight]


def column(a: np.ndarray) -> np.ndarray:
    """(C,) as (C, 1)."""
    return a[:, None]


def vgg16_names(side: int) -> list[str]:
    """torchvision's names of the layers that have parameters, in the order of the forward pass."""
    names, place = [], 0
    for _, count in BLOCKS:
        for _ in range(count):
            names += [f"features.{place}", f"features.{place + 1}"]
            place += 3  # convolution, BatchNorm, ReLU
        place += 1  # MaxPool
    return [*names, *(f"classifier.{i}" for i in ((0, 3) if side < 64 else (0, 3, 6)))]  # ReLU and Dropout between


def resnet18_names(side: int) -> list[str]:
    names = ["conv1", "bn1"]
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            parts = ["conv1", "bn1", "conv2", "bn2"]
            parts += ["downsample.0", "downsample.1"] if stage > 1 and block == 0 else []
            names += [f"layer{stage}.{block}.{part}" for part in parts]
    return [*names, "fc"]


def mobilenetv2_names(side: int) -> list[str]:
    names, place = ["features.0.0", "features.0.1"], 1
    for expansion, _, count, *_ in STAGES:
        for _ in range(count):
            parts = ["0.0", "0.1", "1.0", "1.1", "2", "3"] if expansion > 1 else ["0.0", "0.1", "1", "2"]
            names += [f"features.{place}.conv.{part}" for part in parts]
            place += 1
    return [*names, f"features.{place}.0", f"features.{place}.1", "classifier.1"]


NAMES = {"vgg16": vgg16_names, "mobilenetv2": mobilenetv2_names, "resnet18": resnet18_names}
