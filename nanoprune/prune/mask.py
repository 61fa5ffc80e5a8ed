"""The frozen support of a pruned network."""

from __future__ import annotations

from typing import Any

from nanoprune.backend import to_device, to_host
from nanoprune.nn.network import ALL, Network
from nanoprune.prune.budget import Budget


class Mask:
    """M (R, n), 1 at the weights that survive and 0 at the pruned ones; biases are not pruned.

    With dW <- M dW before each step, a pruned weight stays exactly zero: it starts at zero, and so do its velocity and
    moments in a fresh optimiser, its gradient is zero and its decay is d * 0.
    """

    def __init__(self, net: Network) -> None:
        self.M = (net.W != 0).astype(net.theta.dtype)  # (R, n)

    def state(self) -> dict[str, Any]:
        """M (R, n) bool."""
        return {"M": to_host(self.M) != 0}

    def restore(self, saved: Any, net: Network) -> None:
        """Take a state back: a survivor may have become zero since, so that the weights alone do not tell it."""
        self.M[...] = to_device(saved.array("M", self.M.shape, bool))

    def apply(self, net: Network, columns: slice = ALL) -> None:
        """dW <- M dW, or some columns of it."""
        dW = net.dW[:, columns]
        dW *= self.M[:, columns]


def hard_prune(net: Network, budget: Budget) -> None:
    """W <- Pi(W), once, in place: from here on the constraint holds exactly."""
    net.W[...] = budget.project(net.W)
