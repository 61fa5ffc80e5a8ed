"""How large a network is: the widths of its hidden layers one by one, or one multiplier for all of them.

Both kinds have a `field` (its name in a description), a `default`, and know smaller sizes of the same kind:
`at(size, h)` for h = 1, 2, ..., `steps(size)`, in growing order, of which the last is the size itself.
"""

import math
from typing import Any

from nanoprune.errors import ArgumentError

LARGEST = 16.0  # a multiplier beyond this is a mistake, or damage to a file
STEP = 1000  # multipliers are narrowed in thousandths


class Widths:
    """A list of integers, one a hidden layer; of any length where `free`."""

    field = "widths"
    of_any_network = False

    def __init__(self, *default: int, free: bool = False) -> None:
        self.default, self.free = default, free

    def checked(self, name: str, size: Any) -> list[int]:
        """The size of network `name` as plain data; None is the default. Raises ArgumentError where it does not fit."""
        if size is None:
            return list(self.default)
        if not isinstance(size, (list, tuple)) or not (self.free or len(size) == len(self.default)):
            count = "a list of" if self.free else len(self.default)
            raise ArgumentError(f"widths of {name} must be {count} numbers like {list(self.default)}, got {size}")
        return list(size)

    def steps(self, size: list[int]) -> int:
        return max(size, default=1)

    def at(self, size: list[int], h: int) -> list[int]:
        """No layer wider than h: layers that are narrow anyway keep their width, so that none is a bottleneck."""
        return [min(width, h) for width in size]


class Multiplier:
    """A number by which every hidden layer's width is multiplied, and then rounded."""

    field = "width"
    of_any_network = True  # what it is for one network it may be for another
    default = 1.0

    def checked(self, name: str, size: Any) -> float:
        if size is None:
            return self.default
        if isinstance(size, bool) or not isinstance(size, (int, float)) or not 0 < size <= LARGEST:
            raise ArgumentError(f"width of {name} must be a number in (0, {LARGEST:g}], got {size!r}")
        return float(size)

    def steps(self, size: float) -> int:
        return max(1, math.ceil(STEP * size))

    def at(self, size: float, h: int) -> float:
        return min(size, h / STEP)


def scaled(width: int, multiplier: float) -> int:
    """The nearest integer to multiplier * width, at least 1."""
    return max(1, math.floor(multiplier * width + 0.5))


def is_small(input_shape: tuple[int, ...]) -> bool:
    """Whether images (H, C, W) are so small, as 32x32 ones are, that a network must not halve them at once."""
    return min(input_shape[0], input_shape[2]) < 64
