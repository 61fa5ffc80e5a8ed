"""Worker threads: the samples of a batch are shared out, with the BLAS at one thread in each.

NumPy's elementwise loops use one core and a BLAS scales badly on products this small, so the threads are ours. NumPy
lets go of the interpreter inside of both.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import threadpoolctl

from nanoprune.backend import to_device, xp
from nanoprune.nn.meeting import Meeting
from nanoprune.nn.network import Network
from nanoprune.nn.workspace import Workspace


def default_threads() -> int:
    """The number of processors this process may use on a CPU; 1 on a GPU, which wants one large shard."""
    if xp._module is not np:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold the BLAS at one thread; entered once, around everything that uses worker threads."""
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield


class Passes:
    """Forward and backward passes over batches, the samples of each batch shared out among `threads` workers.

    Each worker has a workspace and a twin of the network, whose gradient is added to the network's at the end. One
    thread is the plain case: a network and a workspace. keep_gradients: see `Workspace`.
    """

    def __init__(
        self,
        net: Network,
        threads: int = 1,
        generators: list[np.random.Generator] | None = None,
        keep_gradients: bool = False,
    ) -> None:
        self.nets = [net] + [net.twin() for _ in range(threads - 1)]
        self.workspaces = [
            Workspace(generators=generators if threads == 1 else None, keep_gradients=keep_gradients) for _ in self.nets
        ]
        # an overflow is reported as a loss that is not finite, by name, so NumPy need not warn of it (see `train`)
        quiet = functools.partial(np.seterr, over="ignore", invalid="ignore")
        self.pool = ThreadPoolExecutor(threads - 1, initializer=quiet) if threads > 1 else None

    def run(self, objective: Callable[..., Any], *columns: np.ndarray) -> Any:
        """objective(net, ws, *columns, count) for each worker's part of the samples; the sum of what they return.

        columns: host arrays (R, N) that are split along N, such as the indices of the batch. count is N, the size of
        the whole batch, by which an objective divides. Afterwards net.grad is the gradient over the whole batch, and
        the network remembers its statistics (`Network.remember`), which every worker has seen alike. What a worker
        raises is raised here; the others, who may wait for it to add up a sum (`Workspace.total`), end too.
        """
        count = columns[0].shape[1]
        workers = min(len(self.nets), count)
        parts = [map(to_device, np.array_split(column, workers, axis=1)) for column in columns]
        jobs = list(zip(self.nets, self.workspaces, *parts, strict=False))
        meeting = Meeting(workers) if workers > 1 else None
        for place, ws in enumerate(self.workspaces):
            ws.meeting, ws.place = meeting, place

        def work(job: tuple) -> Any:
            try:
                return objective(*job, count)
            except threading.BrokenBarrierError:  # another worker has failed, and says why
                return None
            except BaseException:
                if meeting:
                    meeting.abort()
                raise

        futures = [self.pool.submit(work, job) for job in jobs[1:]] if self.pool else []
        values = [work(jobs[0]), *(future.result() for future in futures)]
        for twin in self.nets[1:workers]:
            self.nets[0].grad += twin.grad
        self.nets[0].remember()
        return functools.reduce(operator.add, values)

    def __enter__(self) -> Passes:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool:
            self.pool.shutdown()
