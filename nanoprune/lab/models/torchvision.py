"""Weights that were trained elsewhere: safetensors files, of torchvision's networks by name, as models of ours.

The same network in another layout, see `layout`. The outputs are the same up to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import Dataset
from nanoprune.lab.models.by_shapes import BY_SHAPES, by_shapes
from nanoprune.lab.models.imported import imported
from nanoprune.lab.models.layout import Tensor, named, plain_names
from nanoprune.lab.models.model import Model
from nanoprune.lab.models.state_dict import StateDict, network_from, open_state_dict
from nanoprune.lab.zoo import NETWORKS, describe
from nanoprune.lab.zoo.mobilenet import STAGES
from nanoprune.lab.zoo.size import LARGEST
from nanoprune.lab.zoo.vgg import BLOCKS
from nanoprune.nn import Layer


def names_of(body: Layer, description: dict[str, Any]) -> list[str]:
    """The names of the layers with parameters: torchvision's where the network is one of its, else plain ones."""
    own = NAMES.get(description["network"])
    return own(description["input_shape"][0]) if own else plain_names(body)


def tensors(body: Layer, description: dict[str, Any]) -> Iterator[Tensor]:
    """Every tensor of a network by its name in a safetensors file, see `Tensor`."""
    return named(body, tuple(description["input_shape"]), names_of(body, description))


def import_model(
    path: str | os.PathLike,
    network: str,
    side: int | None = None,
    width: float | None = None,
    standardise: list[list[float]] | None = None,
    dataset: Dataset | None = None,
    training: dict[str, Any] | None = None,
) -> Model:
    """The model in the safetensors file `path`: torchvision's vgg16_bn, mobilenet_v2 or resnet18, an MLP or a LeNet-5.

    side: height and width of its images; by default 224, of lenet-5 what its weights say, and mlp takes features.
    width: the multiplier, by default what the shapes say. standardise: mean and standard deviation of each channel of
    images in [0, 1], where it was trained on standardised ones; the model then takes images in [0, 1]. dataset: what it
    was trained on, the official training set, where that is known; training: how, see `imported`.

    Raises DataError, naming the file and the tensors, on whatever does not fit the network; ArgumentError on another
    network, a mean or standard deviation that images in [0, 1] cannot have, and where the package safetensors is
    missing.
    """
    if network not in READ:
        raise ArgumentError(f"network must be one of {', '.join(READ)}, got {network!r}")
    if standardise is not None:
        check_standardise(*standardise)
    with open_state_dict(path) as state:
        try:
            if network in NAMES:
                description, names = by_names(state, network, side or 224, width, standardise)
            else:
                description, names = by_shapes(state, network, side, standardise)
            net = network_from(state, description, names, "name another --network")
        except ArgumentError as error:  # sizes that no network has
            raise DataError(f"{state.shown}: {error}") from error
    return imported(net, path, dataset, training)


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


def by_names(
    state: StateDict, network: str, side: int, width: float | None, standardise: list[list[float]] | None
) -> tuple[dict[str, Any], list[str]]:
    """The description of a network with torchvision's names, and these names. Its sizes are those of the weights."""
    names = NAMES[network](side)
    shapes = [state.shapes.get(f"{name}.weight", ()) for name in names]
    shape, (classes, *_) = (side, 3, side), shapes[-1] or state.shapes.get(f"{names[-1]}.bias") or (1,)
    widths = [of[0] for of in shapes[:-1] if len(of) > 1]
    size: Any = width
    if width is None:
        sizing = NETWORKS[network].size
        usual = sizing.widths(shape, 1.0)
        multiplier = widths[0] / usual[0] if widths else 1.0
        alike = 0 < multiplier <= LARGEST and sizing.widths(shape, multiplier) == widths
        size = widths if len(widths) == len(usual) and not alike else multiplier if alike else 1.0
    return describe(network, shape, classes, size, standardise), names


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
READ = (*NAMES, *BY_SHAPES)  # the networks that `import_model` reads
