"""Parameters and multiply-accumulates of each layer, dense and pruned."""

from __future__ import annotations

import dataclasses

from nanoprune.lab.zoo.structure import Shape, leaves_with_shapes, macs
from nanoprune.nn import Layer


@dataclasses.dataclass(frozen=True)
class Count:
    """One layer. input, output: shapes of one sample, (H, C, W) or (F,). weights: the prunable ones; parameters: all,
    including biases, scales and shifts; macs: multiply-accumulates of one sample (`macs`).

    kept_weights, kept_macs: the nonzero weights and their multiply-accumulates; None where no network is given.
    """

    layer: str
    input: Shape
    output: Shape
    weights: int
    parameters: int
    macs: int
    kept_weights: int | None = None
    kept_macs: int | None = None


def counts(body: Layer, shape: Shape, r: int | None = None) -> list[Count]:
    """Counts of the `leaves` of a network for inputs of `shape`; with r given, also what replica r keeps."""
    return [_count(layer, of, r) for layer, of in leaves_with_shapes(body, shape)]


def _count(layer: Layer, shape: Shape, r: int | None) -> Count:
    parameters = layer.parameters()
    prunable = [p for p in parameters if p.prunable]
    weights, products = sum(p.size for p in prunable), macs(layer, shape)
    kept = None if r is None else sum(int((p.value[r] != 0).sum()) for p in prunable)
    return Count(
        layer=repr(layer),
        input=shape,
        output=layer.output_shape(shape),
        weights=weights,
        parameters=sum(p.size for p in parameters),
        macs=products,
        kept_weights=kept,
        kept_macs=kept * products // weights if kept and weights else kept,  # each weight is used equally often
    )
