"""How many weights, or groups of weights, each layer may keep."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.network import Network
from nanoprune.prune.scheme import Grouping, parse_scheme

SCOPES = ("layer", "erk", "global")


class Budget:
    """The constraint set: in each replica, part i of the weights has at most k_i groups that are not all zero.

    A part is one layer's weights, or where scope is global all weights of a replica; scope erk says how ratios were
    found. The scheme says what a group is (`Grouping`). `keep` gives the ratios k_i / G_i of the G_i groups:

        one number                            the same ratio for every layer and replica
        a sequence of one number per layer      (in the order of the network)
        an array (R, 1) or (R, layers)        separate ratios for each replica

    k_i = floor(keep G_i), but at least 1, since a layer without weights cuts the network in two.
    Raises ArgumentError on an unknown scope or scheme, on ratios outside (0, 1], not the scheme's or too few or many,
    and on a structured scheme with another scope than layer: groups differ in size between layers.
    """

    def __init__(self, net: Network, keep: Any, scope: str = "layer", scheme: str = "unstructured") -> None:
        by = parse_scheme(scheme)
        check_scope(scope)
        if scope != "layer" and by.structured:
            raise ArgumentError(f"scope must be layer where scheme is {scheme}, got {scope}")
        whole = (1, net.weight_count)
        layers = [by.grouping(p) for p in net.weights]
        self.groupings = [Grouping(whole, whole, whole, (), 1)] if scope == "global" else layers
        sizes = [grouping.size for grouping in self.groupings]
        stops = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        self.parts = [slice(stop - size, stop) for size, stop in zip(sizes, stops, strict=True)]
        self.keep = _rows(keep, net.replicas, len(sizes))  # (R, parts)
        self.k = [[count(ratio, g.groups) for ratio, g in zip(row, self.groupings, strict=True)] for row in self.keep]
        for ratio in {ratio for row in self.keep for ratio in row}:
            by.check(ratio)

    def support(self, W: Any) -> Any:
        """Which entries of W (R, n) the projection keeps, (R, n) bool."""
        keep = xp.empty(W.shape, bool)
        for r, k in enumerate(self.k):
            for part, grouping, k_i in zip(self.parts, self.groupings, k, strict=True):
                keep[r, part] = grouping.support(W[r, part], k_i)
        return keep

    def project(self, W: Any) -> Any:
        """Pi(W), the nearest point of the constraint set, replica by replica and part by part; (R, n), new."""
        return xp.where(self.support(W), W, 0)  # and not -0.0 where W < 0, which a product would leave

    def max_nonzero(self, r: int = 0) -> list[int]:
        """The largest number of weights that each part of replica r can keep: k_i, where the scheme is unstructured."""
        return [grouping.max_nonzero(k) for grouping, k in zip(self.groupings, self.k[r], strict=True)]


def check_scope(scope: str) -> None:
    """Raises ArgumentError on an unknown scope."""
    if scope not in SCOPES:
        raise ArgumentError(f"scope must be {', '.join(SCOPES[:-1])} or {SCOPES[-1]}, got {scope!r}")


def count(keep: float, n: int) -> int:
    """k = floor(keep n), at least 1. keep n is rounded first at the 9th decimal: 0.29 of 100 is 29, not 28."""
    if not (isinstance(keep, (int, float)) and not isinstance(keep, bool) and 0.0 < keep <= 1.0):
        raise ArgumentError(f"keep must lie in (0, 1], got {keep}")
    return max(1, math.floor(round(keep * n, 9)))


def _rows(keep: Any, replicas: int, parts: int) -> list[list[float]]:
    """`keep` as one list of ratios for each replica."""
    keep = keep.tolist() if hasattr(keep, "tolist") else keep
    try:
        return np.broadcast_to(np.array(keep, dtype=object), (replicas, parts)).tolist()
    except ValueError:
        raise ArgumentError(
            f"keep must be one ratio, {parts} ratios (one per layer), or {replicas} rows (one per replica) "
            f"of 1 or {parts} ratios; got {keep}"
        ) from None
