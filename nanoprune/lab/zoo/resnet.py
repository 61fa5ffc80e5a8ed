"""ResNet18 (He, Zhang, Ren & Sun 2016, table 1)."""

from collections.abc import Iterable

from nanoprune.lab.kernels import convolution
from nanoprune.lab.layers import BatchNorm, GlobalAvgPool, Pointwise, Residual
from nanoprune.lab.zoo.size import is_small, scaled
from nanoprune.nn import Dense, MaxPool, ReLU, Sequential
from nanoprune.nn.layer import Layer

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # (channels, stride of the first of two blocks)


def resnet18(input_shape: tuple[int, ...], classes: int, widths: Iterable[int]) -> Sequential:
    """A stem, eight blocks of two 3x3 convolutions with a shortcut, global average pooling, a dense layer.

    224x224, 1000 classes: 11,689,512 parameters; the stem is a 7x7 convolution and a 3x3 pooling, both of stride 2.
    32x32: the stem is a 3x3 convolution of stride 1 without pooling. Convolutions have no bias, since
    BatchNorm has a shift. In the stem ReLU follows the pooling: the two commute.
    """
    widths = iter(widths)
    channels = next(widths)
    if is_small(input_shape):
        layers = [convolution(input_shape[1], channels, 3, padding=1, bias=False), BatchNorm(channels), ReLU()]
    else:
        stem = convolution(input_shape[1], channels, 7, stride=2, padding=3, bias=False)
        layers = [stem, BatchNorm(channels), MaxPool(3, stride=2, padding=1), ReLU()]
    for _, first in STAGES:
        for stride in (first, 1):
            kernels = [next(widths) for _ in range(3 if stride > 1 else 2)]
            layers += block(channels, kernels, stride)
            channels = kernels[1]
    return Sequential(*layers, GlobalAvgPool(), Dense(channels, classes))


def resnet18_widths(input_shape: tuple[int, ...], multiplier: float) -> list[int]:
    """The widths of the stem, of each block's two convolutions and of its shortcut if it has one, in order."""
    widths = [STAGES[0][0], *(stage for stage, stride in STAGES for _ in range(5 if stride > 1 else 4))]
    return [scaled(width, multiplier) for width in widths]


def block(channels: int, kernels: list[int], stride: int) -> list[Layer]:
    """relu(f(X) + g(X)) with f two convolutions, and g a 1x1 convolution where the stride changes the shape."""
    inner, outer, *beside = kernels
    body = Sequential(
        convolution(channels, inner, 3, stride, padding=1, bias=False),
        BatchNorm(inner),
        ReLU(),
        convolution(inner, outer, 3, padding=1, bias=False),
        BatchNorm(outer),
    )
    shortcut = [Sequential(Pointwise(channels, width, stride, bias=False), BatchNorm(width)) for width in beside]
    return [Residual(body, *shortcut), ReLU()]
