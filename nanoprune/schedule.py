"""The training schedule: epochs, batch size, learning rate, momentum, weight decay and loss."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.defend.losses import CROSS_ENTROPY, loss_function
from nanoprune.errors import ArgumentError
from nanoprune.nn.layer import positive

DECAYS = ("constant", "step", "cosine")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Epochs of SGD in batches of `batch`, the last one smaller; see `learning_rate` for `lr` and `decay`.

    lr: a number, or a tuple of one per replica. loss: L_D by name, see `loss_function`. augment: the augmentation of
    training images by name; "none", or one of `nanoprune.lab.data.augment`.
    """

    epochs: int
    batch: int = 64
    lr: float | tuple[float, ...] = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay: str = "constant"
    augment: str = "none"
    loss: str = CROSS_ENTROPY

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            positive(name, getattr(self, name))
        if not (0 <= self.momentum < 1 and 0 <= self.weight_decay < math.inf):
            found = f"{self.momentum} and {self.weight_decay}"
            raise ArgumentError(f"momentum must lie in [0, 1) and weight_decay be at least 0, got {found}")
        self.rate(len(self.lr) if isinstance(self.lr, tuple) else 1)
        loss_function(self.loss)

    def rate(self, replicas: int) -> Callable[[float], Any]:
        """The learning rate by epoch: a number, or (R,). Raises ArgumentError unless there is one for each replica."""
        if isinstance(self.lr, tuple) and len(self.lr) != replicas:
            raise ArgumentError(f"lr must be one number or one for each of {replicas} replicas, got {len(self.lr)}")
        return learning_rate(self.decay, np.array(self.lr) if isinstance(self.lr, tuple) else self.lr, self.epochs)


def learning_rate(decay: str, rate: Any, epochs: int) -> Callable[[float], Any]:
    r"""The learning rate as a function of the epoch, a real number in [0, epochs). rate: a number, or (R,).

    constant: rate. step: rate, a tenth of it from half of the epochs on, a hundredth from three quarters on.
    cosine: rate $(1 + \cos(\pi\, \text{epoch} / \text{epochs}))/2$ (Loshchilov & Hutter 2017, without restarts).
    Raises ArgumentError on another decay, or a rate that is not positive and finite.
    """
    if not np.all(np.isfinite(rate) & (np.asarray(rate) > 0)):
        raise ArgumentError(f"learning rate must be positive and finite, got {rate!r}")
    if decay == "constant":
        return lambda epoch: rate
    if decay == "step":
        return lambda epoch: rate * 0.1 ** ((epoch >= epochs / 2) + (epoch >= 3 * epochs / 4))
    if decay == "cosine":
        return lambda epoch: rate * (1 + math.cos(math.pi * epoch / epochs)) / 2
    raise ArgumentError(f"schedule must be one of {', '.join(DECAYS)}, got {decay!r}")


def update_epochs(epochs: int, iterations: int) -> set[int]:
    """The epochs that are followed by ADMM's Z- and U-steps: `iterations` of them, evenly spread, up to the last.

    Raises ArgumentError where there are fewer epochs than iterations.
    """
    if iterations > epochs:
        raise ArgumentError(f"epochs must be at least the {iterations} ADMM iterations, got {epochs}")
    return {(i + 1) * epochs // iterations - 1 for i in range(iterations)}
