"""How large a network is: the widths of its layers one by one, or one multiplier for all of them.

A size is a list of widths, or a number. Both kinds of sizing have a `default` and give the `widths` of all layers with
weights but the last, in their order, from which a network is made. Both know smaller networks of the same kind:
`at(widths, h)` for h = 1, 2, ..., `steps(widths)`, in growing order, of which the last has the widths themselves.
"""

import math
import reprlib
from collections.abc import Callable
from typing import Any

from nanoprune.errors import ArgumentError

LARGEST = 16.0  # a multiplier beyond this is a mistake, or damage to a file
STEP = 1000  # networks with a multiplier are narrowed in thousandths

Shape = tuple[int, ...]


class Widths:
    """A list of integers, one a hidden layer; of any length where `free`."""

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
        """No layer wider than h: layers that are narrow anyway keep their width, so that none is a bottleneck."""
        return [min(width, h) for width in widths]


class Multiplier:
    """A number by which every layer's width is multiplied, and then rounded: of(input_shape, number) has the widths.

    Widths of its own for each layer are a size too: `shrink` and `narrowed` come to such.
    """

    default = 1.0
    of_any_network = True  # what it is for one network it may be for another

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
        """Every layer by the same factor, so that layers that must be equally wide stay so."""
        return [scaled(width, h / STEP) for width in widths]


def scaled(width: int, multiplier: float) -> int:
    """The nearest integer to multiplier * width, at least 1."""
    return max(1, math.floor(multiplier * width + 0.5))


def is_small(input_shape: Shape) -> bool:
    """Whether images (H, C, W) are so small, as 32x32 ones are, that a network must not halve them at once."""
    return min(input_shape[0], input_shape[2]) < 64
