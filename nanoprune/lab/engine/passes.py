"""Passes over batches whose samples are shared out among processes, with the BLAS at one thread in each."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import threadpoolctl

from nanoprune.backend import to_device, xp
from nanoprune.lab.engine.process_group import Team
from nanoprune.nn.network import Network
from nanoprune.nn.workspace import Workspace


def default_threads() -> int:
    """The number of processors this process may use on a CPU; 1 on a GPU, which wants one large shard."""
    if xp._module is not np:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold the BLAS at one thread; entered once, around everything that uses workers."""
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield


class Passes:
    """Forward and backward passes over batches, the samples of each batch shared out among the processes of a team.

    All processes have the same theta and state, in shared memory, and each a gradient of its own: rank 0 that of the
    network, the others those of twins. Then each sums them up into the network's, and updates theta, in its own columns
    of both: `mine`. One process is the plain case, and all columns are its own. As a context it is the team's.
    keep_gradients: see `Workspace`.
    """

    def __init__(
        self,
        net: Network,
        team: Team,
        generators: list[np.random.Generator] | None = None,
        keep_gradients: bool = False,
    ) -> None:
        self.team, several = team, team.size > 1
        if several:
            net.move(team.zeros)
        self.nets = [net, *(net.twin(team.zeros(net.grad.shape, net.grad.dtype)) for _ in range(team.size - 1))]
        self.workspace = Workspace(generators=None if several else generators, keep_gradients=keep_gradients)

    @property
    def mine(self) -> slice:
        """The columns of theta and grad that are this process's to sum and to update."""
        return self.team.part(self.nets[0].size)

    def run(self, objective: Callable[..., Any], *columns: np.ndarray) -> Any:
        """objective(net, ws, *columns, count) for this process's part of the samples; the sum over all parts.

        columns: host arrays (R, N) that are split along N, such as the indices of the batch. count is N, the size of
        the whole batch, by which an objective divides. Afterwards `mine` of net.grad is the gradient over the whole
        batch, and all of it once the team has met; and the network remembers its statistics (`Network.remember`), which
        every process has seen alike. Raises WorkerError where another process fails.
        """
        net, rank, count = self.nets[0], self.team.rank, columns[0].shape[1]
        workers, value = min(self.team.size, count), None  # the others have no sample
        self.team.meet()  # theta is updated in all columns, and nobody needs the last gradients any more
        if rank < workers:
            self.workspace.total = functools.partial(self.team.total, ranks=workers)
            parts = [to_device(np.array_split(column, workers, axis=1)[rank]) for column in columns]
            value = objective(self.nets[rank], self.workspace, *parts, count)
            (value,) = self.workspace.total(value)  # for which all have come, so that their gradients are there too
        if workers < self.team.size:
            value = self.team.once(lambda: value)
        for twin in self.nets[1:workers]:
            net.grad[:, self.mine] += twin.grad[:, self.mine]
        if rank == 0:
            net.remember()
        return value

    def __enter__(self) -> Passes:
        self.team.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.team.__exit__(*error)
