"""The keep ratio of each layer: one for all but exempt layers, or allocated across layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.lab.zoo.erk import erk
from nanoprune.nn import Layer, Network

USUAL = ("first", "last")  # exempt by default where a scheme is structured


def layer_names(net: Network | Layer) -> list[str]:
    """The layers with weights, in their order, as tables and options call them: conv1, conv2, dense1, ..."""
    weights = [p for p in net.parameters() if p.prunable] if isinstance(net, Layer) else net.weights
    kinds = ["conv" if p.window else "dense" for p in weights]
    return [f"{kind}{kinds[: i + 1].count(kind)}" for i, kind in enumerate(kinds)]


def layer_ratios(net: Network, keep: Any, scope: str = "layer", exempt: Sequence[str] = ()) -> list[float]:
    """`keep` as one ratio per layer (a single one where scope is global), as `Budget` takes it.

    A list or tuple, one ratio per layer, is returned as it is. A single ratio applies to all layers but the exempt
    ones, which keep all weights; where scope is erk it is the share of all weights, and `erk` allocates it across
    layers. exempt: names of layers; "first" for the first layer where that is a convolution (it has few weights and
    reads the image; a dense first layer has most of a network's weights); "last" for the last layer.
    Raises ArgumentError on a layer that the network does not have.
    """
    if isinstance(keep, (list, tuple)):
        return list(keep)
    if scope == "global":
        return [keep]
    if scope == "erk":
        return erk(net.weights, keep)
    names = layer_names(net)
    spared = {name for word in exempt for name in _named(word, names)}
    return [1.0 if name in spared else keep for name in names]


def _named(word: str, names: list[str]) -> list[str]:
    """The layers that a word of `exempt` stands for."""
    if word == "first":
        return names[:1] if names[0].startswith("conv") else []
    if word == "last":
        return names[-1:]
    if word not in names:
        raise ArgumentError(f"exempt must name first, last or layers of {', '.join(names)}; got {word!r}")
    return [word]
