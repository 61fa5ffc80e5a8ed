"""How many weights each group of weights may keep."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.network import Network
from nanoprune.prune.projection import largest


class Budget:
    """The constraint set: in each replica, group i of the weights has at most k_i entries that are not zero.

    A group is one layer's weights, or for a global budget all weights of a replica. `keep` gives the ratios k_i / n_i:

        one number                            the same ratio for every layer and replica
        a sequence of one number a layer      (in the order of the network)
        an array (R, 1) or (R, layers)        ratios of each replica's own

    k_i = floor(keep n_i), but at least 1, since a layer without weights cuts the network in two.
    Raises ArgumentError where a ratio is outside (0, 1] or their number does not fit.
    """

    def __init__(self, net: Network, keep: Any, scope: str = "layer") -> None:
        if scope not in ("layer", "global"):
            raise ArgumentError(f"scope must be layer or global, got {scope!r}")
        sizes = [p.size for p in net.weights] if scope == "layer" else [net.weight_count]
        stops = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        self.groups = [slice(stop - size, stop) for size, stop in zip(sizes, stops, strict=True)]
        rows = _rows(keep, net.replicas, len(sizes))
        self.k = [[count(ratio, n) for ratio, n in zip(row, sizes, strict=True)] for row in rows]  # (R, groups)

    def support(self, W: Any) -> Any:
        """Which entries of W (R, n) the projection keeps, (R, n) bool."""
        keep = xp.empty(W.shape, bool)
        for r, k in enumerate(self.k):
            for group, k_i in zip(self.groups, k, strict=True):
                keep[r, group] = largest(W[r, group], k_i)
        return keep

    def project(self, W: Any) -> Any:
        """Pi(W), the nearest point of the constraint set, replica by replica and group by group; (R, n), new."""
        return W * self.support(W)


def count(keep: float, n: int) -> int:
    """k = floor(keep n), at least 1. keep n is rounded first at the 9th decimal: 0.29 of 100 is 29, not 28."""
    if not (isinstance(keep, (int, float)) and not isinstance(keep, bool) and 0.0 < keep <= 1.0):
        raise ArgumentError(f"keep must lie in (0, 1], got {keep}")
    return max(1, math.floor(round(keep * n, 9)))


def _rows(keep: Any, replicas: int, groups: int) -> list[list[float]]:
    """`keep` as one list of ratios for each replica."""
    keep = keep.tolist() if hasattr(keep, "tolist") else keep
    try:
        return np.broadcast_to(np.array(keep, dtype=object), (replicas, groups)).tolist()
    except ValueError:
        raise ArgumentError(
            f"keep must be one ratio, {groups} ratios (one a layer), or {replicas} rows (one a replica) "
            f"of 1 or {groups} ratios; got {keep}"
        ) from None
