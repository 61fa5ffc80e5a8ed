"""The size of a network: the width of each layer, or one multiplier for all of them.

A size is a list of widths, or a number. Both kinds of sizing have a `default` and compute the `widths` of all layers
with weights but the last, in their order. Both define smaller networks of the same kind: `at(widths, h)` for h = 1, 2,
..., `steps(widths)`, in increasing order; the last one has the given widths.
"""

import math
import reprlib
from collections.abc import Callable
from typing import Any

from nanoprune.errors import ArgumentError

LARGEST = 16.0  # a larger multiplier is a mistake or a damaged file
STEP = 1000  # networks with a multiplier are narrowed in thousandths

Shape = tuple[int, ...]


class Widths:
    """A list of integers, one per hidden layer; of any length where `free`."""

    of_any_network = False

    def __init__(self, *default: int, free: bool = False) -> None:
        self.default, self.free = default, free

    def checked(self, name: str, input_shape: Shape, size: Any) -> list[int]:
        """The size of network `name` as plain data; None is the default. Raises ArgumentError where it does not fit."""
        if size is None:
            return list(self.default)
        if not isinstance(size, (list, tuple)) or not (self.free or len(size) == len(self.default)):
            count = "a list of" if self.free else len(self.default)
            raise ArgumentError(
                f"widths of {name} must be {count} numbers like {list(self.default)}, got {reprlib.repr(size)}"
            )
        return list(size)

    def widths(self, input_shape: Shape, size: Any) -> list[int]:
        return list(size)

    def steps(self, widths: list[int]) -> int:
        return max(widths, default=1)

    def at(self, widths: list[int], h: int) -> list[int]:
        """No layer wider than h; narrower layers keep their width, so that none becomes a bottleneck."""
        return [min(width, h) for width in widths]


class Multiplier:
    """A number that multiplies the width of every layer; of(input_shape, number) gives the rounded widths.

    A list with the width of each layer is a size too; `shrink` and `narrowed` return such sizes.
    """

    default = 1.0
    of_any_network = True  # a size of one network is also valid for another

    def __init__(self, of: Callable[[Shape, float], list[int]]) -> None:
        self.of = of

    def checked(self, name: str, input_shape: Shape, size: Any) -> float | list[int]:
        if size is None:
            return self.default
        if isinstance(size, (list, tuple)):
            expected = len(self.of(input_shape, self.default))
            if len(size) != expected:
                raise ArgumentError(f"widths of {name} must be {expected} numbers or a multiplier, got {len(size)}")
            return list(size)
        if isinstance(size, bool) or not isinstance(size, (int, float)) or not 0 < size <= LARGEST:
            raise ArgumentError(f"width of {name} must be a number in (0, {LARGEST:g}], got {reprlib.repr(size)}")
        return float(size)

    def widths(self, input_shape: Shape, size: Any) -> list[int]:
        return list(size) if isinstance(size, (list, tuple)) else self.of(input_shape, size)

    def steps(self, widths: list[int]) -> int:
        return STEP

    def at(self, widths: list[int], h: int) -> list[int]:
        """Every layer scaled by the same factor, so that layers that must be equally wide stay equal."""
        return [scaled(width, h / STEP) for width in widths]


def scaled(width: int, multiplier: float) -> int:
    """The nearest integer to multiplier * width, at least 1."""
    return max(1, math.floor(multiplier * width + 0.5))


def is_small(input_shape: Shape) -> bool:
    """Whether images (H, C, W) are too small to be downsampled by the first layers, as 32x32 images are."""
    return min(input_shape[0], input_shape[2]) < 64
