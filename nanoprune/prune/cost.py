"""What a network costs to keep and to run, layer by layer, and what pruning left of that."""

from __future__ import annotations

import math
from typing import Any

from nanoprune.nn import Layer, Network, Parameter, Sequential
from nanoprune.prune.budget import Budget

COSTS = ("parameters", "macs", "bytes")


def costs(net: Network, budget: Budget | None = None, r: int = 0) -> dict[str, Any]:
    """Replica r of a network as plain data: {"layers": [one record a layer with weights], and the sums}.

    layer, shape     the name and the shape (O, I) of the weights
    asked            the keep ratio of `budget`; None where it has none for this layer (the sum has that of all)
    kept             the share of the weights that is not zero
    parameters       weights and biases                           [all of them, those that are not pruned]
    macs             multiplications and additions for a sample   [one a weight and position of the output, ...]
    bytes            of float32 parameters                        [..., and one bit a weight for the support, if pruned]
    """
    ratios = budget.keep[r] if budget else []
    asked = ratios if len(ratios) == len(net.weights) else [None] * len(net.weights)
    where = positions(net.body, net.input_shape)
    layers = []
    for name, W, ratio in zip(net.names, net.weights, asked, strict=True):
        n, outputs, left = W.size, W.shape[0], int((W.value[r] != 0).sum())
        support = 0 if left == n else -(-n // 8)
        layers.append(
            {
                "layer": name,
                "shape": list(W.shape),
                "asked": ratio,
                "kept": left / n,
                "parameters": [n + outputs, left + outputs],
                "macs": [n * where[id(W)], left * where[id(W)]],
                "bytes": [4 * (n + outputs), 4 * (left + outputs) + support],
            }
        )
    sizes = [grouping.size for grouping in budget.groupings] if budget else []
    together = {
        "asked": sum(ratio * n for ratio, n in zip(ratios, sizes, strict=True)) / net.weight_count if budget else None,
        "kept": int(net.nonzero()[r]) / net.weight_count,
    }
    return {"layers": layers} | together | {cost: [sum(of[cost][i] for of in layers) for i in (0, 1)] for cost in COSTS}


def positions(layer: Layer, shape: tuple[int, ...]) -> dict[int, int]:
    """For the weights of each layer, by id: the positions of the output at which each weight is used once a sample."""
    if isinstance(layer, Sequential):
        found: dict[int, int] = {}
        for part in layer.layers:
            found |= positions(part, shape)
            shape = part.output_shape(shape)
        return found
    weights: list[Parameter] = [p for p in layer.parameters() if p.prunable]
    return {id(W): math.prod(layer.output_shape(shape)) // W.shape[0] for W in weights}
