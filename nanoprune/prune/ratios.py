"""The keep ratio of each layer: one for all but the exempt ones, dealt out by size, or one a layer from a file."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Sequence
from typing import Any

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.storage.bounded import read_json
from nanoprune.nn.network import Network
from nanoprune.prune.erk import erk

USUAL = ("first", "last")  # exempt where a scheme is structured, unless the caller says otherwise


def layer_ratios(net: Network, keep: Any, scope: str = "layer", exempt: Sequence[str] = ()) -> list[float]:
    """`keep` as one ratio a layer (one in all where scope is global): `Budget` takes it.

    Ratios of each layer's own, a list or tuple, stay as they are. A single one is that of every layer but the exempt
    ones, which keep all; where scope is erk it is that of all weights together, which `erk` deals out.
    exempt: names of layers, "first" for the first layer where that is a convolution (it has few weights and reads the
    image; a dense first layer has most of a network's), "last" for the last layer.
    Raises ArgumentError on a layer that the network does not have.
    """
    if isinstance(keep, (list, tuple)):
        return list(keep)
    if scope == "global":
        return [keep]
    if scope == "erk":
        return erk(net.weights, keep)
    names = net.names
    spared = {name for word in exempt for name in _named(word, names)}
    return [1.0 if name in spared else keep for name in names]


def _named(word: str, names: list[str]) -> list[str]:
    """The layers that a word of `exempt` means."""
    if word == "first":
        return names[:1] if names[0].startswith("conv") else []
    if word == "last":
        return names[-1:]
    if word not in names:
        raise ArgumentError(f"exempt must name first, last or layers of {', '.join(names)}; got {word!r}")
    return [word]


def read_keep_file(path: str | os.PathLike, names: list[str]) -> tuple[float, ...]:
    """The ratios of a JSON file such as {"conv2": 0.1, "dense1": 0.05}, one a layer, in the order of `names`.

    A key is a layer's name or its place, counted from 0. A layer that the file does not name keeps all its weights.
    Raises DataError, naming the file, where it is missing or no JSON object, names a layer twice or one that the
    network does not have, or has a ratio outside (0, 1].
    """
    pairs = read_json(path, f'write an object such as {{"{names[0]}": 0.1}}', object_pairs_hook=tuple)
    if not isinstance(pairs, tuple):  # JSON itself has lists alone
        raise DataError(f'{path}: not a JSON object; write one such as {{"{names[0]}": 0.1}}')
    found: dict[str, float] = {}
    places = {str(place): name for place, name in enumerate(names)}
    for key, ratio in pairs:
        name = places.get(key, key)
        if name not in names:
            raise DataError(f"{path}: the network has no layer {reprlib.repr(key)}; its layers are {', '.join(names)}")
        if name in found:
            raise DataError(f"{path}: the layer {name} is named twice; give it one ratio")
        if not isinstance(ratio, (int, float)) or isinstance(ratio, bool) or not 0 < ratio <= 1:
            raise DataError(f"{path}: the ratio of {name} must lie in (0, 1], got {reprlib.repr(ratio)}")
        found[name] = float(ratio)
    return tuple(found.get(name, 1.0) for name in names)
