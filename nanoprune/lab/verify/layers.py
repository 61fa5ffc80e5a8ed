"""The layers of the certificate: gradients against central differences, and fast layers against loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nanoprune.attack.attack_network import attacker
from nanoprune.backend import to_device, to_host
from nanoprune.lab.kernels import BandedDepthwise, CompiledDepthwise, CompiledMaxPool, WinogradConv2D
from nanoprune.lab.layers import (
    GELU,
    Attention,
    AvgPool,
    BatchNorm,
    ColumnScaling,
    DepthwiseConv2D,
    Dropout,
    Embedding,
    GlobalAvgPool,
    GroupNorm,
    ImageTokens,
    LastToken,
    LayerNorm,
    Pointwise,
    PositionalEncoding,
    ReLU6,
    Residual,
    Standardise,
    Tanh,
    TokenDense,
    TokenMean,
    self_attention,
)
from nanoprune.lab.layers.batchnorm import EPS
from nanoprune.lab.verify import reference
from nanoprune.lab.verify.gradient import normal
from nanoprune.lab.zoo import lenet5
from nanoprune.nn import Branches, Conv2D, Dense, Flatten, Layer, MaxPool, Network, ReLU, Sequential, Workspace

R = 2  # replicas in every check
STRIDES = ((1, 0), (1, 2), (2, 0), (2, 1))  # (stride, padding)
WINOGRAD = ((3, 1), (5, 0))  # (size, padding)

Pair = tuple[Any, Any]  # ours and the oracle's


def rng() -> np.random.Generator:
    """The generator of each check, always with the same seed: the certificate is the same on every run."""
    return np.random.default_rng(20080)


def networks() -> Iterator[tuple[str, Layer, tuple[int, ...], int]]:
    """(name, layer, input shape, samples): every layer, and the networks of the zoo."""
    image = (7, 2, 6)
    yield "Dense", Dense(5, 4), (5,), 3
    for stride, padding in STRIDES:
        yield f"Conv2D stride {stride} padding {padding}", Conv2D(2, 3, 3, stride, padding), image, 3
    for size, padding in WINOGRAD:
        yield f"WinogradConv2D {size} x {size} padding {padding}", WinogradConv2D(2, 3, size, padding), image, 3
    for stride, padding in STRIDES:
        yield f"DepthwiseConv2D stride {stride} padding {padding}", DepthwiseConv2D(2, 3, stride, padding), image, 3
    for padding in (0, 1):
        yield f"BandedDepthwise padding {padding}", BandedDepthwise(2, 3, padding), image, 3
        yield f"CompiledDepthwise padding {padding}", CompiledDepthwise(2, 3, padding), image, 3
    yield "Pointwise", Pointwise(2, 3), image, 3
    yield "Pointwise stride 2", Pointwise(2, 3, stride=2, bias=False), image, 3
    yield "BatchNorm", BatchNorm(2), image, 3
    yield "BatchNorm of features", BatchNorm(5), (5,), 4
    yield "GroupNorm", GroupNorm(2, 4), (3, 4, 2), 3
    yield "MaxPool(2)", Sequential(MaxPool(2)), image, 3
    yield "CompiledMaxPool()", Sequential(CompiledMaxPool()), image, 3
    yield "MaxPool(3)", Sequential(MaxPool(3)), image, 3
    yield "MaxPool(3), overlapping", Sequential(MaxPool(3, stride=2, padding=1)), image, 3
    yield "AvgPool(3)", Sequential(AvgPool(3)), image, 3
    yield "GlobalAvgPool", Sequential(GlobalAvgPool()), image, 3
    yield "ColumnScaling", Sequential(ColumnScaling(5, 3)), (5,), 3
    yield "Standardise", Sequential(Standardise([0.5, -1.0], [0.3, 2.0])), image, 3
    yield "ReLU", Sequential(ReLU()), (5,), 3
    yield "ReLU6", Sequential(Pointwise(2, 3), BatchNorm(3), ReLU6()), image, 3
    yield "Tanh", Sequential(Tanh()), (5,), 3
    yield "Flatten", Sequential(Flatten()), image, 3
    yield "Dropout, same mask", Sequential(Dropout(0.4)), (20,), 3
    yield "Branches", Branches((2, Dense(2, 3)), (3, Sequential(Dense(3, 4), Tanh()))), (5,), 3
    yield "Residual", Residual(Sequential(Conv2D(2, 2, 3, padding=1), Tanh())), image, 3
    yield "Residual with a shortcut", Residual(Conv2D(2, 3, 3, 2, 1, bias=False), Pointwise(2, 3, 2)), image, 3
    sequence = (5, 4)
    yield "TokenDense", TokenDense(4, 3), sequence, 3
    yield "LayerNorm", LayerNorm(4), sequence, 3
    yield "LayerNorm of features", LayerNorm(4), (4,), 3
    yield "PositionalEncoding", PositionalEncoding(5, 4), sequence, 3
    yield "Attention", Sequential(Attention(2)), (5, 12), 3
    yield "Attention, causal", Sequential(Attention(2, causal=True)), (5, 12), 3
    yield "GELU", Sequential(GELU()), sequence, 3
    yield "TokenMean", Sequential(TokenMean()), sequence, 3
    yield "LastToken", Sequential(LastToken()), sequence, 3
    yield "ImageTokens", Sequential(ImageTokens()), image, 3
    yield "a block of a transformer", transformer_block(4), sequence, 3
    yield "Sequential", Sequential(Conv2D(2, 3, 3), MaxPool(2), ReLU(), Flatten(), Dense(12, 3)), image, 3
    yield "LeNet-5", lenet5((28, 1, 28), 10, [20, 50, 500]), (28, 1, 28), 2
    yield "the attack network", attacker(10).template, (20,), 3


def transformer_block(width: int, causal: bool = False) -> Layer:
    """Attention and a feed-forward part, each after a normalisation and beside a shortcut."""
    forward = Sequential(LayerNorm(width), TokenDense(width, 6), GELU(), TokenDense(6, width))
    return Sequential(
        Residual(Sequential(LayerNorm(width), self_attention(width, 2, causal=causal))), Residual(forward)
    )


def token_networks() -> Iterator[tuple[str, Layer, int, int, int]]:
    """(name, layer, length, samples, number of tokens): networks that read tokens, which have no input gradient."""
    yield "Embedding", Embedding(4, 3), 6, 3, 4
    for pool in (TokenMean(), LastToken()):
        for causal in (False, True):
            body = Sequential(
                Embedding(3, 4), PositionalEncoding(6, 4), transformer_block(4, causal), LayerNorm(4), pool
            )
            yield f"a transformer with padding, {pool!r}, {'' if causal else 'not '}causal", body, 6, 4, 3


def beside_loops() -> Iterator[tuple[str, Callable[[Any], Pair]]]:
    """(name, function from a dtype to ours and the oracle's) of each layer that is faster than its loops."""
    for stride, padding in STRIDES:
        layer = Conv2D(2, 3, 3, stride, padding)
        yield f"Conv2D stride {stride} padding {padding}", lambda d, layer=layer: convolution(layer, d)
    for size, padding in WINOGRAD:
        layer = WinogradConv2D(2, 3, size, padding)
        yield f"WinogradConv2D {size} x {size} padding {padding}", lambda d, layer=layer: convolution(layer, d)
    for stride, padding in STRIDES:
        layer = DepthwiseConv2D(2, 3, stride, padding)
        yield f"DepthwiseConv2D stride {stride} padding {padding}", lambda d, layer=layer: depthwise(layer, d)
    for padding in (0, 1):
        for kind in (BandedDepthwise, CompiledDepthwise):
            layer = kind(2, 3, padding)
            yield f"{kind.__name__} padding {padding}", lambda d, layer=layer: depthwise(layer, d)
    for stride in (1, 2):
        yield f"Pointwise stride {stride}", lambda d, s=stride: pointwise(d, s)
    yield "BatchNorm", lambda d: batch_norm(d)["output"]
    yield "BatchNorm, mean and unbiased variance", lambda d: batch_norm(d)["statistics"]
    yield "GroupNorm", group_norm
    yield "LayerNorm", layer_norm
    for causal in (False, True):
        for padded in (False, True):
            name = f"Attention{', causal' if causal else ''}{', with padding' if padded else ''}"
            yield name, lambda d, c=causal, p=padded: attention(d, c, p)
    yield "AvgPool(3)", average_pool


def pools() -> Iterator[tuple[str, MaxPool]]:
    """(name, layer) of the pooling layers whose outputs and gradients are compared with loops."""
    yield "MaxPool(2)", MaxPool(2)
    yield "CompiledMaxPool()", CompiledMaxPool()
    yield "MaxPool(3)", MaxPool(3)
    yield "MaxPool(3, stride=2, padding=1)", MaxPool(3, stride=2, padding=1)


def run(layer: Layer, X: np.ndarray) -> tuple[Network, np.ndarray, list[np.ndarray]]:
    """The layer as a network of normal parameters, its output for X, and its parameters."""
    net = Network(layer, X.shape[1:-1], R, X.dtype)
    net.theta[...] = normal(rng(), net.theta.shape)
    Y = to_host(net.forward(to_device(X), Workspace()))
    return net, Y, [to_host(p.value) for p in net.body.parameters()]


def images(dtype: Any, channels: int = 2) -> np.ndarray:
    return rng().standard_normal((R, 6, channels, 5, 3)).astype(dtype)


def convolution(layer: Conv2D, dtype: Any) -> Pair:
    X = images(dtype)
    _, Y, (W, b) = run(layer, X)
    return Y, reference.convolution(X, W, b, layer.size, layer.stride, layer.padding)


def depthwise(layer: DepthwiseConv2D, dtype: Any) -> Pair:
    X = images(dtype)
    _, Y, (W, b) = run(layer, X)
    return Y, reference.depthwise(X, W, b, layer.size, layer.stride, layer.padding)


def pointwise(dtype: Any, stride: int) -> Pair:
    X = images(dtype)
    _, Y, (W, b) = run(Pointwise(2, 3, stride), X)
    return Y, reference.convolution(X, W, b, 1, stride, 0)


def batch_norm(dtype: Any) -> dict[str, Pair]:
    X = images(dtype)
    net, Y, (gamma, beta) = run(BatchNorm(2), X)
    expected, statistics = reference.batch_norm(X, gamma, beta, EPS)
    return {"output": (Y, expected), "statistics": (to_host(net.batch_state), np.concatenate(statistics, axis=1))}


def group_norm(dtype: Any) -> Pair:
    X = images(dtype, channels=4)
    _, Y, (gamma, beta) = run(GroupNorm(2, 4), X)
    return Y, reference.group_norm(X, gamma, beta, 2, EPS)


def layer_norm(dtype: Any) -> Pair:
    X = images(dtype, channels=4)[:, :, :, 0]  # (R, T, E, N)
    _, Y, (gamma, beta) = run(LayerNorm(4), np.ascontiguousarray(X))
    return Y, reference.layer_norm(X, gamma, beta, EPS)


def attention(dtype: Any, causal: bool, padded: bool) -> Pair:
    X = rng().standard_normal((R, 5, 12, 3)).astype(dtype)
    padding = rng().random((R, 5, 3)) < 0.4
    padding[:, 0] = False  # each position sees another one, also in causal attention
    ws = Workspace()
    ws.padding = to_device(padding) if padded else None
    Y = to_host(Attention(2, causal).forward(to_device(X), ws))
    return Y, reference.attention(X, 2, causal, padding if padded else np.zeros_like(padding))


def average_pool(dtype: Any) -> Pair:
    X = images(dtype)
    return run(AvgPool(3), X)[1], reference.average_pool(X, 3)


def max_pool(layer: MaxPool) -> dict[str, Pair]:
    generator = rng()
    X = generator.integers(-3, 4, (R, 7, 2, 8, 3)).astype(np.float64)
    Y, first = reference.max_pool(X, layer.size, layer.stride, layer.padding)
    ws, dY, dX = Workspace(), generator.integers(-9, 10, Y.shape).astype(np.float64), np.zeros_like(X)
    for output, source in first.items():
        dX[source] += dY[output]
    ours = to_host(layer.forward(to_device(X), ws))
    return {"output": (ours, Y), "gradient": (to_host(layer.backward(to_device(dY), ws)), dX)}
