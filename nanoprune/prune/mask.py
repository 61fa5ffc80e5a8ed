"""The frozen support of a pruned network."""

from nanoprune.nn.formula import Formula
from nanoprune.nn.network import Network
from nanoprune.prune.budget import Budget


@Formula
def masked(dW, M):
    dW *= M


class Mask:
    """M (R, n), 1 at the weights that survive and 0 at the pruned ones; biases are not pruned.

    With dW <- M dW before each step a pruned weight stays exactly zero: it starts at zero, and so do its velocity and
    moments in a fresh optimiser, its gradient is zero and its weight decay d * 0.
    """

    def __init__(self, net: Network) -> None:
        self.M = (net.W != 0).astype(net.theta.dtype)  # (R, n)

    def apply(self, net: Network) -> None:
        """dW <- M dW."""
        net.apply(masked, net.dW, self.M)


def hard_prune(net: Network, budget: Budget) -> None:
    """W <- Pi(W), once, in place: from here on the constraint holds exactly."""
    net.W[...] = budget.project(net.W)
