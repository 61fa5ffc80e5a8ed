"""Training passes of one network over batches, and the updates between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.backend import to_device
from nanoprune.nn.network import Network
from nanoprune.nn.workspace import Workspace

Objective = Callable[..., Any]  # (net, ws, *columns, count) -> loss (R,), having written net.grad


class Passes:
    """The whole batch at once, in one process. `nanoprune.lab.engine.passes` divides it among processes.

    Used as a context manager around the training. generators, defer: see `Workspace`.
    """

    def __init__(self, net: Network, generators: list | None = None, defer: bool = False) -> None:
        self.net, self.ws = net, Workspace(generators=generators, defer=defer)

    @property
    def local(self) -> Network:
        """The network as updates see it: `theta`, `grad`, `W`, `dW` and `apply` of the part that is updated here."""
        return self.net

    def run(self, objective: Objective, *columns: np.ndarray) -> Any:
        """net.grad <- the gradient of the objective over a batch; returns the objective's value.

        columns: host arrays (R, N) of the batch, such as the indices of its records. The objective gets them on the
        device, and last the number N of samples in the whole batch, by which it divides.
        """
        value = objective(self.net, self.ws, *map(to_device, columns), columns[0].shape[1])
        self.net.update_statistics()
        return value

    def evaluate(self, function: Callable[[], Any]) -> Any:
        """function(), a number or an array, between two updates."""
        return function()

    def assign(self, theta: Any) -> None:
        """net.theta <- theta."""
        self.net.theta[...] = theta

    def __enter__(self) -> Passes:
        return self

    def __exit__(self, *error: Any) -> None:
        pass
