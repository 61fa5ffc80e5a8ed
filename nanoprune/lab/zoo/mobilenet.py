"""MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov & Chen 2018, table 2)."""

from collections.abc import Iterable

from nanoprune.lab.kernels import depthwise_convolution
from nanoprune.lab.layers import BatchNorm, GlobalAvgPool, Pointwise, ReLU6, Residual
from nanoprune.lab.zoo.size import is_small
from nanoprune.nn import Conv2D, Dense, Sequential
from nanoprune.nn.layer import Layer

STAGES = (  # (expansion, channels, blocks, stride of the first block, the same for small images)
    (1, 16, 1, 1, 1),
    (6, 24, 2, 2, 1),
    (6, 32, 3, 2, 2),
    (6, 64, 4, 2, 2),
    (6, 96, 3, 1, 1),
    (6, 160, 3, 2, 2),
    (6, 320, 1, 1, 1),
)


def mobilenetv2(input_shape: tuple[int, ...], classes: int, widths: Iterable[int]) -> Sequential:
    """A 3x3 convolution, 17 inverted residual blocks, a 1x1 convolution to 1280 channels, pooling, a dense layer.

    224x224, 1000 classes: 3,504,872 parameters. 32x32: the first convolution and the second stage have stride 1. The
    1280 channels are never narrowed, as in the authors' code. Dropout before the last layer is omitted.
    """
    widths, small = iter(widths), is_small(input_shape)
    channels = next(widths)
    layers = convolution(Conv2D(input_shape[1], channels, 3, 1 if small else 2, padding=1, bias=False), channels)
    for expansion, _, count, large_stride, small_stride in STAGES:
        for i in range(count):
            stride = (small_stride if small else large_stride) if i == 0 else 1
            kernels = [next(widths) for _ in range(3 if expansion > 1 else 2)]
            layers.append(block(channels, kernels, stride))
            channels = kernels[-1]
    last = next(widths)
    layers += convolution(Pointwise(channels, last, bias=False), last)
    return Sequential(*layers, GlobalAvgPool(), Dense(last, classes))


def mobilenetv2_widths(input_shape: tuple[int, ...], multiplier: float) -> list[int]:
    """The widths of the first convolution, of each block's convolutions, and of the last one, in order."""
    channels = divisible(32 * multiplier)
    widths = [channels]
    for expansion, stage, count, *_ in STAGES:
        for _ in range(count):
            hidden = [expansion * channels] * (2 if expansion > 1 else 1)
            channels = divisible(stage * multiplier)
            widths += [*hidden, channels]
    return [*widths, divisible(1280 * max(1.0, multiplier))]


def block(channels: int, kernels: list[int], stride: int) -> Layer:
    """Expand by 1x1, filter each channel by 3x3, project by 1x1 without ReLU; a shortcut where the shapes allow it."""
    *expanded, filtered, projected = kernels
    layers = [part for width in expanded for part in convolution(Pointwise(channels, width, bias=False), width)]
    layers += convolution(depthwise_convolution(filtered, 3, stride, padding=1, bias=False), filtered)
    layers += [Pointwise(filtered, projected, bias=False), BatchNorm(projected)]
    body = Sequential(*layers)
    return Residual(body) if stride == 1 and channels == projected else body


def convolution(layer: Layer, kernels: int) -> list[Layer]:
    return [layer, BatchNorm(kernels), ReLU6()]


def divisible(width: float, by: int = 8) -> int:
    """The nearest multiple of 8, at least 8, and not less than 0.9 of the width (the authors' `_make_divisible`)."""
    rounded = max(by, int(width + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * width else rounded
