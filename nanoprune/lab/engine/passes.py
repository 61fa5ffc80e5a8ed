"""Data-parallel passes: the samples of a batch divided among processes, with one BLAS thread in each."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from functools import singledispatch
from typing import Any

import numpy as np
import threadpoolctl

from nanoprune.backend import to_device, xp
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.nn import SGD, Adam, Network, Passes
from nanoprune.nn.formula import Formula
from nanoprune.nn.passes import Objective


def default_threads() -> int:
    """The number of processors this process may use on a CPU; 1 on a GPU, where one large shard is fastest."""
    if xp._module is not np:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Limit the BLAS to one thread; entered once, around everything that uses workers."""
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield


class LocalColumns:
    """The network as the updates of one process see it: `apply` works on the process's columns of theta alone."""

    def __init__(self, net: Network, columns: slice) -> None:
        self._net, self._columns = net, columns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._net, name)

    def apply(self, formula: Formula, *arrays: Any, **numbers: Any) -> None:
        """As `Network.apply`, for these columns."""
        formula(*(array[:, self._columns] for array in arrays), **numbers)


class SharedPasses(Passes):
    """`Passes` in which the processes of a group divide the samples of each batch, and the parameters of each update.

    All processes share theta and the running statistics, and each has its own gradient: rank 0 that of the network, the
    others those of networks over the same theta. Each process sums the gradients, and updates theta, in its own columns
    (`local`). With one process it is equal to `Passes`. As a context manager it enters the group.
    """

    def __init__(self, net: Network, group: ProcessGroup, generators: list | None = None, defer: bool = False) -> None:
        several = group.size > 1
        super().__init__(net, None if several else generators, defer)
        self.group = group
        if several:
            theta, grad, state = (group.zeros(of.shape, of.dtype) for of in (net.theta, net.grad, net.state))
            theta[...], state[...] = net.theta, net.state
            net.lay_out(theta, grad, state)
        others = range(group.size - 1)
        self.nets = [
            net,
            *(net.over(net.theta, group.zeros(net.grad.shape, net.grad.dtype), net.state) for _ in others),
        ]

    @property
    def columns(self) -> slice:
        """The columns of theta and grad that this process sums and updates."""
        return self.group.shard(self.net.size)

    @property
    def local(self) -> Any:
        return self.net if self.group.size == 1 else LocalColumns(self.net, self.columns)

    def run(self, objective: Objective, *columns: np.ndarray) -> Any:
        """As in `Passes`, for this process's shard of the samples; returns the sum over all shards.

        Afterwards net.grad is the gradient over the whole batch in the process's own columns, and in all of them once
        the group has passed a barrier. Raises WorkerError where another process fails.
        """
        rank, count = self.group.rank, columns[0].shape[1]
        workers, value = min(self.group.size, count), None  # further processes have no samples
        self.group.barrier()  # now theta is updated in all columns, and no process needs the last gradients
        if rank < workers:
            self.ws.all_reduce = functools.partial(self.group.all_reduce, ranks=workers)
            shards = [to_device(np.array_split(column, workers, axis=1)[rank]) for column in columns]
            value = objective(self.nets[rank], self.ws, *shards, count)
            (value,) = self.ws.all_reduce(value)  # after it all gradients are complete too
        if workers < self.group.size:
            value = self.group.broadcast(lambda: value)
        for net in self.nets[1:workers]:
            self.net.grad[:, self.columns] += net.grad[:, self.columns]
        if rank == 0:
            self.net.update_statistics()
        return value

    def evaluate(self, function: Callable[[], Any]) -> Any:
        return self.group.broadcast(function)

    def assign(self, theta: Any) -> None:
        self.group.barrier()  # now no process needs the last theta
        super().assign(theta)

    def __enter__(self) -> SharedPasses:
        self.group.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.group.__exit__(*error)


@singledispatch
def share_moments(optimizer: Any, net: Network, group: ProcessGroup) -> None:
    """Move the moments of an optimiser into memory that the processes of a group share, or allocate them there: each
    process updates its own columns, and rank 0 saves all of them in checkpoints."""
    raise TypeError(f"{optimizer!r} is not registered in nanoprune/lab/engine/passes.py")


@share_moments.register
def _(optimizer: SGD, net: Network, group: ProcessGroup) -> None:
    optimizer.V = _shared(optimizer.V, net, group)


@share_moments.register
def _(optimizer: Adam, net: Network, group: ProcessGroup) -> None:
    optimizer.M, optimizer.S = (_shared(moment, net, group) for moment in (optimizer.M, optimizer.S))


def _shared(moment: Any, net: Network, group: ProcessGroup) -> Any:
    """A moment (R, P) in shared memory, 0 where the optimiser has none yet."""
    made = group.zeros(net.theta.shape, net.theta.dtype)
    if moment is not None:
        made[...] = moment
    return made
