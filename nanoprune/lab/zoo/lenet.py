"""Two networks of LeCun et al. 1998, in the usual sizes of the pruning literature."""

from nanoprune.lab.kernels import convolution, max_pooling
from nanoprune.lab.zoo.mlp import mlp
from nanoprune.nn import Dense, Flatten, ReLU, Sequential


def lenet5(input_shape: tuple[int, ...], classes: int, widths: list[int]) -> Sequential:
    """LeNet-5 in Caffe's form: conv 5x5, pool 2, conv 5x5, pool 2, dense, dense.

    With widths [20, 50, 500] on 28x28 images and 10 classes it has 430,500 weights and 580 biases (Zhang et al. 2018).
    ReLU follows the pooling: the two commute, and it then computes a quarter as many values.
    """
    first, second, hidden = widths
    features = Sequential(
        convolution(input_shape[1], first, 5),
        max_pooling(2),
        ReLU(),
        convolution(first, second, 5),
        max_pooling(2),
        ReLU(),
        Flatten(),
    )
    inputs = features.output_shape(input_shape)[0]
    return Sequential(*features.parts, Dense(inputs, hidden), ReLU(), Dense(hidden, classes))


def lenet300(input_shape: tuple[int, ...], classes: int, widths: list[int]) -> Sequential:
    """LeNet-300-100: 784-300-100-10, 266,200 weights, with ReLU."""
    return mlp(input_shape, classes, widths)
