"""VGG16 (Simonyan & Zisserman 2015, configuration D) with batch normalisation."""

from collections.abc import Iterable

from nanoprune.lab.kernels import convolution, max_pooling
from nanoprune.lab.layers import BatchNorm
from nanoprune.lab.zoo.size import is_small, scaled
from nanoprune.nn import Dense, Flatten, ReLU, Sequential

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # (channels, convolutions) before each pooling


def vgg16(input_shape: tuple[int, ...], classes: int, widths: Iterable[int]) -> Sequential:
    """Thirteen 3x3 convolutions, each with BatchNorm and ReLU, pooled five times; then dense layers.

    224x224, 1000 classes: two hidden layers of 4096 units, 138,365,992 parameters, 8,448 of them BatchNorm's; without
    those, 138,357,544. 32x32: one hidden layer of 512 units, as is usual for CIFAR. The original's dropout between the
    dense layers is omitted, since dropout is a defence itself. ReLU follows the pooling: the two commute.
    """
    widths, layers, channels = iter(widths), [], input_shape[1]
    for _, count in BLOCKS:
        for i in range(count):
            kernels = next(widths)
            layers += [convolution(channels, kernels, 3, padding=1), BatchNorm(kernels)]
            layers += [max_pooling(2), ReLU()] if i == count - 1 else [ReLU()]
            channels = kernels
    layers.append(Flatten())
    (inputs,) = Sequential(*layers).output_shape(input_shape)
    for hidden in widths:
        layers += [Dense(inputs, hidden), ReLU()]
        inputs = hidden
    return Sequential(*layers, Dense(inputs, classes))


def vgg16_widths(input_shape: tuple[int, ...], multiplier: float) -> list[int]:
    """The widths of the convolutions and of the hidden dense layers, in order."""
    channels = [block for block, count in BLOCKS for _ in range(count)]
    hidden = [512] if is_small(input_shape) else [4096, 4096]
    return [scaled(width, multiplier) for width in channels + hidden]
