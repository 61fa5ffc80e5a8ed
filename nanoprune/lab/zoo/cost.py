"""What a network costs in memory and multiplications, layer by layer, and what pruning left of that."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoprune.lab.zoo.count import Count, counts
from nanoprune.lab.zoo.ratios import layer_names
from nanoprune.nn import Network
from nanoprune.prune import Budget

COSTS = ("parameters", "macs", "bytes")


def costs(net: Network, budget: Budget | None = None, r: int = 0) -> dict[str, Any]:
    """Replica r of a network as plain data: {"layers": [one record a layer with weights], and the sums}.

    layer, shape     the name and the shape (O, I) of the weights
    asked            the keep ratio of `budget`; None where it has none for this layer (the sum has that of all)
    kept             the share of the weights that is not zero
    parameters       weights and the biases beside them           [all of them, those that are not pruned]
    macs             multiplications and additions for a sample   [one a weight and position of the output, ...]
    bytes            of float32 parameters                        [..., and one bit a weight for the support, if pruned]

    The sums are over all layers, scales and shifts of normalisations included; the counts are those of `info`.
    """
    ratios = budget.keep[r] if budget else []
    asked = ratios if len(ratios) == len(net.weights) else [None] * len(net.weights)
    of_all = counts(net.body, net.input_shape, r)
    layers = [
        {
            "layer": name,
            "shape": list(W.shape),
            "asked": ratio,
            "kept": count.kept_weights / count.weights,
            **{cost: list(pair) for cost, pair in zip(COSTS, _pairs(count), strict=True)},
        }
        for name, W, ratio, count in zip(
            layer_names(net), net.weights, asked, filter(_has_weights, of_all), strict=True
        )
    ]
    sizes = [grouping.size for grouping in budget.groupings] if budget else []
    together = {
        "asked": sum(ratio * n for ratio, n in zip(ratios, sizes, strict=True)) / net.weight_count if budget else None,
        "kept": int(net.nonzero()[r]) / net.weight_count,
    }
    sums = np.sum([_pairs(count) for count in of_all], axis=0)  # (costs, 2)
    return {"layers": layers} | together | dict(zip(COSTS, sums.tolist(), strict=True))


def _has_weights(count: Count) -> bool:
    return count.weights > 0


def _pairs(count: Count) -> list[tuple[int, int]]:
    """All of a layer and what is left of it, for each of `COSTS`."""
    pruned = count.weights - count.kept_weights
    left = count.parameters - pruned
    support = -(-count.weights // 8) if pruned else 0
    return [(count.parameters, left), (count.macs, count.kept_macs), (4 * count.parameters, 4 * left + support)]
