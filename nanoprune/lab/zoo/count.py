"""Parameters and multiply-accumulates of each layer, dense and pruned."""

from __future__ import annotations

import dataclasses

from nanoprune.lab.layers import AvgPool, DepthwiseConv2D, Pointwise
from nanoprune.lab.zoo.keep_ratios import layer_names
from nanoprune.lab.zoo.structure import Shape, leaves_with_shapes, macs
from nanoprune.nn import Layer, MaxPool


@dataclasses.dataclass(frozen=True)
class Count:
    """One layer. name: what --keep-file calls it, where it has weights. kind: in short words, such as "3x3/2" for a
    convolution with stride 2. input, output: shapes of one sample, (H, C, W) or (F,). weights: what pruning may touch;
    parameters: those and biases, scales and shifts; macs: multiply-accumulates of one sample (`macs`).

    kept_weights, kept_macs: the nonzero weights and their multiply-accumulates; None where no network is given.
    """

    layer: str
    name: str | None
    kind: str
    input: Shape
    output: Shape
    weights: int
    parameters: int
    macs: int
    kept_weights: int | None = None
    kept_macs: int | None = None


def counts(body: Layer, shape: Shape, r: int | None = None) -> list[Count]:
    """Counts of the `leaves` of a network for inputs of `shape`; with r given, also what replica r keeps."""
    found, names = list(leaves_with_shapes(body, shape)), layer_names(body)
    left = iter(names)
    named = [next(left) if any(p.prunable for p in layer.parameters()) else None for layer, _ in found]
    return [_count(layer, of, name, r) for (layer, of), name in zip(found, named, strict=True)]


def kind_of(layer: Layer) -> str:
    """A layer in short words: of a window its size and stride, else its type."""
    short = {"BatchNorm": "norm", "GroupNorm": "norm", "Dense": "", "GlobalAvgPool": "mean", "Standardise": "scale"}
    short |= {"LayerNorm": "norm", "TokenDense": "each", "PositionalEncoding": "positions", "TokenMean": "mean"}
    window = getattr(layer, "size", None if not isinstance(layer, Pointwise) else 1)
    if window is None:
        return short.get(type(layer).__name__, type(layer).__name__.lower())
    stride = getattr(layer, "stride", window)  # of a mean, which moves by its size
    what = "maxpool " if isinstance(layer, MaxPool) else "avgpool " if isinstance(layer, AvgPool) else ""
    what += f"{window}x{window}" + (f"/{stride}" if stride > 1 else "")
    return f"{what} depthwise" if isinstance(layer, DepthwiseConv2D) else what


def _count(layer: Layer, shape: Shape, name: str | None, r: int | None) -> Count:
    parameters = layer.parameters()
    prunable = [p for p in parameters if p.prunable]
    weights, products = sum(p.size for p in prunable), macs(layer, shape)
    kept = None if r is None else sum(int((p.value[r] != 0).sum()) for p in prunable)
    return Count(
        layer=repr(layer),
        name=name,
        kind=kind_of(layer),
        input=shape,
        output=layer.output_shape(shape),
        weights=weights,
        parameters=sum(p.size for p in parameters),
        macs=products,
        kept_weights=kept,
        kept_macs=kept * products // weights if kept and weights else kept,  # each weight is used equally often
    )
