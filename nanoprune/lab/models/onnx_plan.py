"""From the links of an ONNX graph to a plain list of layers: branches that join become residual blocks, constants that
scale and shift become part of the layer beside them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.models.onnx_layers import Found, Shape
from nanoprune.lab.storage.text import printable
from nanoprune.lab.zoo.sequence import DEEPEST

LINEAR = ("conv", "depthwise", "dense")


@dataclasses.dataclass(frozen=True, eq=False)
class Link:
    """A value that depends on the records: the one it is made from, and by which layers; or the sum of two branches
    that part at `before`. depth: links to the input. shape: of one sample."""

    before: str | None
    found: list[Found]
    shape: Shape
    depth: int
    branches: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Join:
    """The sum of two branches; an empty shortcut is the identity."""

    body: list[Found | Join]
    shortcut: list[Found | Join]


Items = list[Found | Join]


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """records: of `lab.zoo.sequence`. widths: of each layer with weights. tensors: of each layer with parameters, in
    the order of the records. standardise: mean and deviation of each channel, where the graph begins with it."""

    records: list[dict[str, Any]]
    widths: list[int]
    tensors: list[dict[str, np.ndarray]]
    standardise: list[list[float]] | None
    has_softmax: bool


def branching_point(links: dict[str, Link], a: str, b: str) -> str:
    """The last value that both `a` and `b` are made from."""
    while a != b:
        if links[a].depth < links[b].depth:
            a, b = b, a
        a = links[a].before  # the deeper one; the input alone has depth 0
    return a


class Chains:
    """Follows the links from a value back to an earlier one. No link is followed twice: weights that two places use are
    no plain list."""

    def __init__(self, links: dict[str, Link], shown: str) -> None:
        self.links, self.shown, self.used = links, shown, set()

    def between(self, start: str, end: str, depth: int = 0) -> Items:
        """What makes `end` of `start`."""
        items: Items = []
        while end != start:
            link = self.links[end]
            if end in self.used or depth > DEEPEST:
                what = "is used by several branches" if end in self.used else "lies in too many branches"
                raise DataError(f"{self.shown}: {printable(end, 60)} {what}; only sums of two branches are read")
            self.used.add(end)
            if link.branches:
                sides = [self.between(link.before, side, depth + 1) for side in link.branches]
                sides.sort(key=len, reverse=True)
                if not sides[0]:
                    raise DataError(f"{self.shown}: {printable(end, 60)} is the sum of a value with itself")
                items.append(Join(*sides))
            else:
                items += reversed(link.found)
            end = link.before
        return items[::-1]


def plan(items: Items, input_shape: Shape, shown: str) -> Plan:
    """The layers as plain lists. input_shape: (C, H, W) or (F,). Raises DataError where ours cannot stand so."""
    has_softmax = bool(items) and isinstance(items[-1], Found) and items[-1].record["layer"] == "softmax"
    items, standardise = items[: len(items) - has_softmax], None
    images = len(input_shape) == 3
    if images and items and _is(items[0], "affine"):
        items = merged(items)
        if _is(items[0], "affine"):
            standardise = _standardise(items.pop(0), shown)
    items = merged(items)
    if _order(items, not images, False, shown)[1]:
        raise DataError(f"{shown}: ends in a flattened image, expected a layer with weights after it")
    flat = _flat(items)
    return Plan(
        _records(items),
        [found.width for found in flat if found.width is not None],
        [found.tensors for found in flat if found.tensors],
        standardise,
        has_softmax,
    )


def _is(item: Found | Join, *names: str) -> bool:
    return isinstance(item, Found) and item.record["layer"] in names


def merged(items: Items) -> Items:
    """With "affine" folded into the layer before it, or into a dense layer after it, in float64."""
    made: Items = []
    for item in items:
        if isinstance(item, Join):
            item = Join(merged(item.body), merged(item.shortcut))
        elif _is(item, "affine") and made and _is(made[-1], *LINEAR, "batchnorm", "affine"):
            made[-1] = scaled(made[-1], **item.tensors)
            continue
        elif _is(item, "dense") and made and _is(made[-1], "affine"):
            item = _after(item, **made.pop().tensors)
        made.append(item)
    return made


def scaled(found: Found, scale: np.ndarray, shift: np.ndarray) -> Found:
    """The layer with its outputs scaled and shifted: s (W x + b) + t = (s W) x + (s b + t)."""
    of, record = found.tensors, found.record
    if record["layer"] == "affine":
        return Found(record, None, {"scale": of["scale"] * scale, "shift": of["shift"] * scale + shift})
    W, b = of["weight"], of.get("bias")
    b = shift if b is None else b * scale + shift
    record = record | ({"bias": True} if "bias" in record else {})
    return Found(record, found.width, of | {"weight": W * scale.reshape(-1, *[1] * (W.ndim - 1)), "bias": b})


def _after(found: Found, scale: np.ndarray, shift: np.ndarray) -> Found:
    """The dense layer with its inputs scaled and shifted: W (s x + t) + b = (W s) x + (W t + b)."""
    W, b = found.tensors["weight"].astype(np.float64), found.tensors["bias"]
    return Found(found.record, found.width, {"weight": W * scale, "bias": b + W @ shift})


def _standardise(found: Found, shown: str) -> list[list[float]]:
    """s x + t = (x + t / s) / (1 / s): the mean is -t / s, the standard deviation 1 / s."""
    scale, shift = found.tensors["scale"], found.tensors["shift"]
    if not np.isfinite(scale).all() or not np.isfinite(shift).all() or (scale <= 0).any():
        raise DataError(f"{shown}: begins with a scale that is not positive; leave it out of the graph")
    mean, std = -shift / scale, 1 / scale
    if (std > 1 + 1e-6).any() or (mean > 1 + 1e-6).any() or (mean < 0).any():
        raise DataError(
            f"{shown}: begins with (x - m) / s for m = {mean.max():g} and s = {std.max():g}: records here are in "
            "[0, 1]; export the network with such an input, or without the first step, which --mean and --std replace"
        )
    return [mean.tolist(), std.tolist()]


def _order(items: Items, features: bool, flattened: bool, shown: str) -> tuple[bool, bool]:
    """Remove each flatten of what is flat; whether the values are features, and whether these are a flattened image,
    whose order is another one here than there. Raises DataError where that order could not be undone."""
    place = 0
    while place < len(items):
        item = items[place]
        if isinstance(item, Join):
            sides = {_order(side, features, flattened, shown) for side in (item.body, item.shortcut)}
            if len(sides) > 1 or flattened or (True, True) in sides:
                raise DataError(f"{shown}: adds branches of flattened images; flatten the sum of the images")
            ((features, _),) = sides
        elif _is(item, "affine", "softmax"):
            what = "scales its values by constants" if _is(item, "affine") else "has a softmax"
            raise DataError(f"{shown}: {what} at a place where no layer here does; export it without that step")
        elif _is(item, "flatten") and features:
            items.pop(place)
            continue
        elif _is(item, "flatten"):
            features = flattened = True
        elif _is(item, "globalavgpool"):
            features = True
        elif _is(item, "dense"):
            flattened = False
        place += 1
    return features, flattened


def _records(items: Items) -> list[dict[str, Any]]:
    return [
        {"layer": "residual", "body": _records(item.body), "shortcut": _records(item.shortcut)}
        if isinstance(item, Join)
        else item.record
        for item in items
    ]


def _flat(items: Items) -> list[Found]:
    """The layers in the order of their parameters."""
    found: list[Found] = []
    for item in items:
        found += _flat(item.body) + _flat(item.shortcut) if isinstance(item, Join) else [item]
    return found
