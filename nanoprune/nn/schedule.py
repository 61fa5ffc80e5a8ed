"""Learning rates over the epochs."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError

SCHEDULES = ("constant", "step", "cosine")


def schedule(kind: str, rate: Any, epochs: int) -> Callable[[float], Any]:
    """The learning rate as a function of the epoch (a real number in [0, epochs)).

    rate: a number, or an array (R,) of one a replica; the function returns the like.
    constant: rate. step: rate, a tenth of it from half of the epochs on, a hundredth from three quarters on.
    cosine: rate (1 + cos(pi epoch / epochs)) / 2 (Loshchilov & Hutter 2017, without restarts).
    Raises ArgumentError on another kind or a rate that is not positive and finite.
    """
    if not np.all(np.isfinite(rate) & (np.asarray(rate) > 0)):
        raise ArgumentError(f"learning rate must be positive and finite, got {rate!r}")
    if kind == "constant":
        return lambda epoch: rate
    if kind == "step":
        return lambda epoch: rate * 0.1 ** ((epoch >= epochs / 2) + (epoch >= 3 * epochs / 4))
    if kind == "cosine":
        return lambda epoch: rate * (1 + math.cos(math.pi * epoch / epochs)) / 2
    raise ArgumentError(f"schedule must be one of {', '.join(SCHEDULES)}, got {kind!r}")
