"""Weights without the order of their layers: those of an MLP or a LeNet-5, put in order by their shapes.

safetensors stores tensors by name alone. The order follows from the shapes where each layer reads as many features as
the one before it puts out. Layers of one shape are told by the numbers in their names; where those do not tell, or
several orders fit, the file is refused: a wrong order would be another network.
"""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterator
from typing import Any

from nanoprune.errors import DataError
from nanoprune.lab.models.state_dict import StateDict
from nanoprune.lab.storage.text import printable_list
from nanoprune.lab.zoo import describe
from nanoprune.lab.zoo.structure import Shape

BY_SHAPES = ("mlp", "lenet-5")
MOST_STEPS = 100_000  # of the search
REMEDY = "export the network to ONNX, which says what follows what"
KERNEL = 5  # of both convolutions of a LeNet-5


def by_shapes(
    state: StateDict, network: str, side: int | None, standardise: list[list[float]] | None
) -> tuple[dict[str, Any], list[str]]:
    """The description of an mlp or a lenet-5, and the names of its layers in the order of the forward pass.

    side: of the images; by default mlp takes features, and lenet-5 the smallest images that its weights fit. Raises
    DataError where the weights are those of no such network, or of several.
    """
    shapes = {name.removesuffix(".weight"): of for name, of in state.shapes.items() if name.endswith(".weight")}
    names = in_order({name: of for name, of in shapes.items() if len(of) in (2, 4)}, state.shown)
    found = [shapes[name] for name in names]
    dense = [of for of in found if len(of) == 2]
    if network == "mlp":
        if len(dense) < len(found):
            raise DataError(f"{state.shown}: mlp has dense layers alone, found convolutions; {REMEDY}")
        shape = _image(found[0][1], side, state.shown) if side else (found[0][1],)
        return describe("mlp", shape, found[-1][0], [of[0] for of in found[:-1]], standardise), names
    if len(found) != 4 or len(dense) != 2 or any(of[2:] != (KERNEL, KERNEL) for of in found[:2]):
        raise DataError(
            f"{state.shown}: lenet-5 has two convolutions of 5 x 5 and two dense layers, found "
            f"{printable_list(map(str, found))}; {REMEDY}"
        )
    last = math.isqrt(dense[0][1] // found[1][0])  # the side of the images that are flattened
    side = side or 2 * (2 * last + KERNEL - 1) + KERNEL - 1
    widths = [of[0] for of in found[:-1]]
    return describe("lenet-5", (side, found[0][1], side), found[-1][0], widths, standardise), names


def _image(features: int, side: int, shown: str) -> Shape:
    channels = features // side**2
    if not channels or channels * side**2 != features:
        raise DataError(f"{shown}: its first layer reads {features} features, no image of {side} x {side} has so many")
    return (side, channels, side)


def in_order(shapes: dict[str, Shape], shown: str) -> list[str]:
    """The names of the weights in the one order in which each reads what the one before it puts out."""
    found = list(_orders(collections.Counter(shapes.values()), shown))
    if len(found) != 1:
        what = printable_list(f"{name} {shape}" for name, shape in shapes.items()) or "none"
        fits = "several orders fit" if found else "no order fits, each reading what the one before puts out"
        raise DataError(f"{shown}: its layers with weights are {what}: {fits}; {REMEDY}")
    by_shape: dict[Shape, list[str]] = {}
    for name in sorted(shapes, key=natural):
        by_shape.setdefault(shapes[name], []).append(name)
    for alike in by_shape.values():
        if len({re.sub(r"\d+", "0", name) for name in alike}) > 1:
            raise DataError(f"{shown}: {printable_list(alike)} have one shape, and their names no order; {REMEDY}")
    return [by_shape[shape].pop(0) for shape in found[0]]


def natural(name: str) -> list[tuple[int, int, str]]:
    """The key that sorts fc2 before fc10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(part[:18]), part) if part[0].isdecimal() and part.isascii() else (1, 0, part) for part in parts]


def _orders(left: collections.Counter, shown: str) -> Iterator[list[Shape]]:
    """At most two orders of the shapes, convolutions first."""
    found, steps = 0, 0
    waiting: list[tuple[list[Shape], collections.Counter]] = [([], left)]
    while waiting and found < 2:
        order, rest = waiting.pop()
        steps += 1
        if steps > MOST_STEPS:
            raise DataError(f"{shown}: too many orders of its layers fit; {REMEDY}")
        if not rest:
            if order and len(order[-1]) == 2:
                found += 1
                yield order
            continue
        for shape in rest:
            if not order or _follows(order[-1], shape):
                waiting.append(([*order, shape], rest - collections.Counter([shape])))


def _follows(before: Shape, after: Shape) -> bool:
    """Whether a layer of shape `after` can read what one of shape `before` puts out."""
    if len(before) == len(after):
        return after[1] == before[0]
    if len(after) == 4 or not before[0]:
        return False
    pixels, rest = divmod(after[1], before[0])
    return not rest and pixels > 0 and math.isqrt(pixels) ** 2 == pixels
