"""What a network costs to keep and to run, layer by layer, and what pruning left of that."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from nanoprune.nn import Layer, Network, Parameter
from nanoprune.prune.budget import Budget

COSTS = ("parameters", "macs", "bytes")


def costs(net: Network, budget: Budget | None = None, r: int = 0) -> dict[str, Any]:
    """Replica r of a network as plain data: {"layers": [one record a layer with weights], and the sums}.

    layer, shape     the name and the shape (O, I) of the weights
    asked            the keep ratio of `budget`; None where it has none for this layer (the sum has that of all)
    kept             the share of the weights that is not zero
    parameters       weights and the biases beside them           [all of them, those that are not pruned]
    macs             multiplications and additions for a sample   [one a weight and position of the output, ...]
    bytes            of float32 parameters                        [..., and one bit a weight for the support, if pruned]
    """
    ratios = budget.keep[r] if budget else []
    asked = ratios if len(ratios) == len(net.weights) else [None] * len(net.weights)
    uses = {id(W): (where, biases) for W, where, biases in weights_of(net.body, net.input_shape)}
    layers = []
    for name, W, ratio in zip(net.names, net.weights, asked, strict=True):
        n, left = W.size, int((W.value[r] != 0).sum())
        where, biases = uses[id(W)]
        support = 0 if left == n else -(-n // 8)
        layers.append(
            {
                "layer": name,
                "shape": list(W.shape),
                "asked": ratio,
                "kept": left / n,
                "parameters": [n + biases, left + biases],
                "macs": [n * where, left * where],
                "bytes": [4 * (n + biases), 4 * (left + biases) + support],
            }
        )
    sizes = [grouping.size for grouping in budget.groupings] if budget else []
    together = {
        "asked": sum(ratio * n for ratio, n in zip(ratios, sizes, strict=True)) / net.weight_count if budget else None,
        "kept": int(net.nonzero()[r]) / net.weight_count,
    }
    return {"layers": layers} | together | {cost: [sum(of[cost][i] for of in layers) for i in (0, 1)] for cost in COSTS}


def weights_of(layer: Layer, shape: tuple[int, ...]) -> Iterator[tuple[Parameter, int, int]]:
    """(weights, positions of the output at which each of them is used once a sample, biases beside them), by layer."""
    for part, of in layer.parts(shape):
        yield from weights_of(part, of)
    if not layer.parts(shape):
        biases = sum(p.size for p in layer.parameters() if not p.prunable)
        for W in layer.parameters():
            if W.prunable:
                yield W, math.prod(layer.output_shape(shape)) // W.shape[0], biases
