"""Fully connected classifiers."""

from nanoprune.nn import Dense, Flatten, ReLU, Sequential


def mlp(input_shape: tuple[int, ...], classes: int, widths: list[int]) -> Sequential:
    """Dense layers with ReLU between them: inputs - widths[0] - ... - widths[-1] - classes. Images are flattened."""
    layers = [Flatten()] if len(input_shape) > 1 else []
    inputs = Flatten().output_shape(input_shape)[0]
    for width in widths:
        layers += [Dense(inputs, width), ReLU()]
        inputs = width
    return Sequential(*layers, Dense(inputs, classes))
