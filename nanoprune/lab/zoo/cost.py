"""The cost of a network in memory and multiplications, layer by layer, dense and pruned."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoprune.lab.zoo.count import Count, counts
from nanoprune.lab.zoo.keep_ratios import layer_names
from nanoprune.nn import Network
from nanoprune.prune import Budget

COSTS = ("parameters", "macs", "bytes")


def costs(net: Network, budget: Budget | None = None, r: int = 0) -> dict[str, Any]:
    """Replica r of a network as plain data: {"layers": [one record per layer with weights], and the sums}.

    layer, shape     the name and the shape (O, I) of the weights
    asked            the keep ratio of `budget`; None where it has none for this layer (in the sums: that of all)
    kept             the share of nonzero weights
    parameters       weights and biases                           [dense, pruned]
    macs             multiply-accumulates of one sample           [one per weight and output position, ...]
    bytes            of float32 parameters                        [..., plus one bit per weight for the support]

    The sums are over all layers, including scales and shifts of normalisations; the counts are those of `info`.
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
    """The layer's cost dense and pruned, for each of `COSTS`."""
    pruned = count.weights - count.kept_weights
    left = count.parameters - pruned
    support = -(-count.weights // 8) if pruned else 0
    return [(count.parameters, left), (count.macs, count.kept_macs), (4 * count.parameters, 4 * left + support)]
