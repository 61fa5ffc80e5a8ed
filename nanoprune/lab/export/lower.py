"""Lowering of a network's layers to the steps of an export. Each layer type is registered here."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nanoprune import nn
from nanoprune.backend import to_host
from nanoprune.errors import ArgumentError
from nanoprune.lab import layers
from nanoprune.lab.export import steps
from nanoprune.lab.export.steps import Program

BATCHNORM_EPS = 1e-5


class Lowering:
    """A program being built, from replica 0 of a network.

    orders: for a value of flattened features, the index of each feature in nanoprune's order. nanoprune flattens images
    as (H, C, W); the steps here as (C, H, W). A dense layer permutes its weights instead, so that no data is moved at
    run time.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.orders: dict[int, np.ndarray] = {}
        self.tokens: int | None = None  # the value that holds the tokens, 0 being padding, where there are any

    def add(self, operation: steps.Operation, *inputs: int) -> int:
        return self.program.add(operation, *inputs)

    def ordered(self, values: np.ndarray, value: int) -> np.ndarray:
        """values (..., F), one per feature in nanoprune's order, permuted to the order of `value`."""
        return values[..., self.orders[value]] if value in self.orders else values

    def canonical(self, value: int) -> int:
        """`value` with its features in nanoprune's order, by an additional step where they are in another order."""
        if value not in self.orders:
            return value
        return self.add(steps.Gather(np.argsort(self.orders[value])), value)

    def padding(self) -> tuple[int, ...]:
        """The second input of the steps that leave padding out."""
        return () if self.tokens is None else (self.tokens,)


def lower_layers(body: nn.Layer, input_shape: tuple[int, ...]) -> Program:
    """The program of the layers, with BatchNorm as separate steps (`packing.program_of` folds them)."""
    H, *rest = input_shape
    shape = (rest[0], H, rest[1]) if rest else (H,)
    made = Lowering(Program(shape))
    made.canonical(lower_layer(body, made, 0))
    if not made.program.steps:
        raise ArgumentError("the network has no layer that computes anything; nothing can be exported")
    return made.program


def children(layer: Any) -> tuple[nn.Layer, ...]:
    """The layers of a Sequential, in their order."""
    return layer.parts


def host(of: Any) -> np.ndarray:
    """Replica 0 of a parameter or statistic, float64 on the host."""
    return to_host(of.value)[0].astype(np.float64)


def bias_of(layer: Any, outputs: int) -> np.ndarray:
    return host(layer.b)[:, 0] if layer.b is not None else np.zeros(outputs)


@functools.singledispatch
def lower_layer(layer: nn.Layer, made: Lowering, value: int) -> int:
    """Add the steps of `layer` on `value`; return the number of its output. Raises ArgumentError on an unknown type."""
    raise ArgumentError(f"{layer!r} has no export rule; register its type with nanoprune.lab.export.lower.lower_layer")


@lower_layer.register
def _(layer: nn.Sequential, made: Lowering, value: int) -> int:
    for child in children(layer):
        value = lower_layer(child, made, value)
    return value


@lower_layer.register
def _(layer: layers.Residual, made: Lowering, value: int) -> int:
    value = made.canonical(value)
    body = made.canonical(lower_layer(layer.body, made, value))
    shortcut = made.canonical(lower_layer(layer.shortcut, made, value)) if layer.shortcut else value
    return made.add(steps.Add(), body, shortcut)


@lower_layer.register
def _(layer: nn.Branches, made: Lowering, value: int) -> int:
    value, outputs, start = made.canonical(value), [], 0
    for inputs, branch in layer.branches:
        part = made.add(steps.Gather(np.arange(start, start + inputs)), value)
        outputs.append(made.canonical(lower_layer(branch, made, part)))
        start += inputs
    return made.add(steps.Concat(), *outputs)


@lower_layer.register
def _(layer: nn.Dense, made: Lowering, value: int) -> int:
    return made.add(steps.Linear(made.ordered(host(layer.W), value), host(layer.b)[:, 0]), value)


@lower_layer.register
def _(layer: nn.Conv2D, made: Lowering, value: int) -> int:
    k = layer.size
    W = host(layer.W).reshape(layer.kernels, k, layer.channels, k).swapaxes(1, 2)  # (O, C, kh, kw)
    return made.add(steps.Conv(W, bias_of(layer, layer.kernels), layer.stride, layer.padding), value)


@lower_layer.register
def _(layer: layers.Pointwise, made: Lowering, value: int) -> int:
    W = host(layer.W)[:, :, None, None]
    return made.add(steps.Conv(W, bias_of(layer, layer.kernels), layer.stride), value)


@lower_layer.register
def _(layer: layers.DepthwiseConv2D, made: Lowering, value: int) -> int:
    W = host(layer.W).reshape(layer.channels, 1, layer.size, layer.size)
    bias = bias_of(layer, layer.channels)
    return made.add(steps.Conv(W, bias, layer.stride, layer.padding, group=layer.channels), value)


@lower_layer.register
def _(layer: layers.BatchNorm, made: Lowering, value: int) -> int:
    gamma, beta, mean, var = (host(of)[:, 0] for of in (layer.gamma, layer.beta, layer.mean, layer.var))
    scale = gamma / np.sqrt(var + BATCHNORM_EPS)
    shift = beta - mean * scale
    of = (scale, shift, np.stack([gamma, beta, mean, var]))
    out = made.add(steps.Affine(*(made.ordered(values, value) for values in of)), value)
    return _same_order(made, value, out)


@lower_layer.register
def _(layer: layers.GroupNorm, made: Lowering, value: int) -> int:
    gamma, beta = host(layer.gamma)[:, 0], host(layer.beta)[:, 0]
    return made.add(steps.GroupNorm(layer.groups, gamma, beta), made.canonical(value))


@lower_layer.register
def _(layer: layers.ColumnScaling, made: Lowering, value: int) -> int:
    """A missing number has no NaN there: whoever encodes a record writes the mean, which becomes 0 here as well."""
    scale = to_host(layer.inverse())[0, :, 0].astype(np.float64)
    return made.add(steps.Affine(scale, -host(layer.mean)[:, 0] * scale), value)


@lower_layer.register
def _(layer: layers.Standardise, made: Lowering, value: int) -> int:
    mean, std = np.array(layer.mean, np.float64), np.array(layer.std, np.float64)
    return made.add(steps.Affine(1 / std, -mean / std), value)


@lower_layer.register
def _(layer: layers.Dropout, made: Lowering, value: int) -> int:
    return value  # the identity in evaluation


@lower_layer.register
def _(layer: nn.ReLU, made: Lowering, value: int) -> int:
    return _same_order(made, value, made.add(steps.Activation("relu"), value))


@lower_layer.register
def _(layer: layers.ReLU6, made: Lowering, value: int) -> int:
    return _same_order(made, value, made.add(steps.Activation("relu6"), value))


@lower_layer.register
def _(layer: layers.Tanh, made: Lowering, value: int) -> int:
    return _same_order(made, value, made.add(steps.Activation("tanh"), value))


@lower_layer.register
def _(layer: nn.MaxPool, made: Lowering, value: int) -> int:
    return made.add(steps.MaxPool(layer.size, layer.stride, layer.padding), value)


@lower_layer.register
def _(layer: layers.AvgPool, made: Lowering, value: int) -> int:
    return made.add(steps.AvgPool(layer.size), value)


@lower_layer.register
def _(layer: layers.GlobalAvgPool, made: Lowering, value: int) -> int:
    return made.add(steps.GlobalAvgPool(), value)


@lower_layer.register
def _(layer: nn.Flatten, made: Lowering, value: int) -> int:
    shape = made.program.shape(value)
    if len(shape) == 1:
        return value
    C, H, W = shape
    out = made.add(steps.Flatten(), value)
    made.orders[out] = np.arange(C * H * W).reshape(H, C, W).swapaxes(0, 1).ravel()  # ours (c, h, w) -> theirs
    return out


@lower_layer.register
def _(layer: layers.Embedding, made: Lowering, value: int) -> int:
    made.tokens = value
    return made.add(steps.Embed(host(layer.W)), value)


@lower_layer.register
def _(layer: layers.PositionalEncoding, made: Lowering, value: int) -> int:
    return made.add(steps.Positions(host(layer.P)), value)


@lower_layer.register
def _(layer: layers.TokenDense, made: Lowering, value: int) -> int:
    return made.add(steps.TokenLinear(host(layer.W), host(layer.b)[:, 0]), value)


@lower_layer.register
def _(layer: layers.LayerNorm, made: Lowering, value: int) -> int:
    return made.add(steps.LayerNorm(host(layer.gamma)[:, 0], host(layer.beta)[:, 0]), made.canonical(value))


@lower_layer.register
def _(layer: layers.GELU, made: Lowering, value: int) -> int:
    return _same_order(made, value, made.add(steps.GELU(), value))


@lower_layer.register
def _(layer: layers.Attention, made: Lowering, value: int) -> int:
    return made.add(steps.Attention(layer.heads, layer.causal), value, *made.padding())


@lower_layer.register
def _(layer: layers.TokenMean, made: Lowering, value: int) -> int:
    return made.add(steps.TokenPool(isinstance(layer, layers.LastToken)), value, *made.padding())


@lower_layer.register
def _(layer: layers.ImageTokens, made: Lowering, value: int) -> int:
    made.tokens = None
    return made.add(steps.ImageTokens(), value)


def _same_order(made: Lowering, value: int, out: int) -> int:
    if value in made.orders:
        made.orders[out] = made.orders[value]
    return out
