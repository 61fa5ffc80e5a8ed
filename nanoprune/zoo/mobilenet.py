"""MobileNetV2 (Sandler, Howard, Zhu, Zhmoginov & Chen 2018, table 2)."""

from nanoprune.nn import (
    BatchNorm,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    GlobalAvgPool,
    Pointwise,
    ReLU6,
    Residual,
    Sequential,
)
from nanoprune.nn.layer import Layer
from nanoprune.zoo.size import is_small

STAGES = (  # (expansion, channels, blocks, stride of the first block, the same for small images)
    (1, 16, 1, 1, 1),
    (6, 24, 2, 2, 1),
    (6, 32, 3, 2, 2),
    (6, 64, 4, 2, 2),
    (6, 96, 3, 1, 1),
    (6, 160, 3, 2, 2),
    (6, 320, 1, 1, 1),
)


def mobilenetv2(input_shape: tuple[int, ...], classes: int, width: float) -> Sequential:
    """A 3x3 convolution, 17 inverted residual blocks, a 1x1 convolution to 1280 channels, their means, a dense layer.

    224x224, 1000 classes: 3,504,872 parameters. 32x32: the first convolution and the second stage have stride 1. The
    1280 channels are not narrowed, only widened, as in the authors' code. Dropout before the last layer is left out.
    """
    small = is_small(input_shape)
    channels = divisible(32 * width)
    layers = convolution(Conv2D(input_shape[1], channels, 3, 1 if small else 2, padding=1, bias=False), channels)
    for expansion, stage, count, large_stride, small_stride in STAGES:
        for i in range(count):
            stride = (small_stride if small else large_stride) if i == 0 else 1
            layers.append(block(channels, divisible(stage * width), expansion, stride))
            channels = divisible(stage * width)
    last = divisible(1280 * max(1.0, width))
    layers += convolution(Pointwise(channels, last, bias=False), last)
    return Sequential(*layers, GlobalAvgPool(), Dense(last, classes))


def block(channels: int, kernels: int, expansion: int, stride: int) -> Layer:
    """Expand by 1x1, filter each channel by 3x3, project by 1x1 without rectifier; a shortcut where shapes allow."""
    hidden = expansion * channels
    layers = convolution(Pointwise(channels, hidden, bias=False), hidden) if expansion > 1 else []
    layers += convolution(DepthwiseConv2D(hidden, 3, stride, padding=1, bias=False), hidden)
    layers += [Pointwise(hidden, kernels, bias=False), BatchNorm(kernels)]
    body = Sequential(*layers)
    return Residual(body) if stride == 1 and channels == kernels else body


def convolution(layer: Layer, kernels: int) -> list[Layer]:
    return [layer, BatchNorm(kernels), ReLU6()]


def divisible(width: float, by: int = 8) -> int:
    """The nearest multiple of 8, at least 8, and not less than 0.9 of the width (the authors' `_make_divisible`)."""
    rounded = max(by, int(width + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * width else rounded
