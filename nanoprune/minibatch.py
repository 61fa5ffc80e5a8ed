"""The gradient of L_D(W), estimated on mini-batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nanoprune.nn import Network, Workspace
from nanoprune.records import shuffled


class MiniBatch:
    """Stochastic gradient descent: the members in random order, `batch` at a time, without clipping or noise.

    `nanoprune.defend.DPSGD` overrides each step: it samples, clips and adds noise.
    """

    defer = False  # whether weight gradients wait for `clip`, see `Workspace`

    def begin(
        self, net: Network, members: np.ndarray, plan: Any, generators: list, L_D: Callable, mask: Any, game: Any
    ) -> None:
        """Prepare a training of `net` on members (R, M) by a `Schedule`. generators: one per replica, for all draws."""
        self.members, self.batch, self.generators, self.L_D = members, plan.batch, generators, L_D

    def batches(self) -> Iterator[np.ndarray]:
        """The batches of an epoch, indices (R, B)."""
        return shuffled(self.members, self.batch, self.generators)

    def loss(self, logits: Any, y: Any, index: Any, ws: Workspace, count: int, epoch: int) -> tuple[Any, Any]:
        """L_D (R,) and its gradient with respect to the logits, for samples of a batch of `count`."""
        return self.L_D(logits, y, count, ws, epoch)

    def clip(self, net: Network, ws: Workspace) -> None:
        """Clip each record's contribution to net.grad, after a backward pass; here it is not clipped."""

    def add_noise(self, net: Network) -> None:
        """Add noise to net.grad of the whole batch; here none is added."""

    def size(self, index: np.ndarray) -> int:
        """The number that the loss of a batch (R, B) is divided by."""
        return index.shape[1]
