"""Worker processes of this machine, as an executor."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any

from nanoprune.errors import WorkerError


class InProcess(Executor):
    """This process: a task is done when it is submitted."""

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class LocalExecutor(Executor):
    """N worker processes, each in a pool of its own: a worker that dies breaks the future of its own task alone, so
    that it is known which task that was, and the others go on.

    Workers are started afresh, not forked: an engine's threads do not survive a fork. They end with this process.
    """

    def __init__(self, workers: int) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.theirs, self.ours = self.context.Pipe(duplex=False)  # closed by the system too, when this process ends
        self.pools: list[ProcessPoolExecutor | None] = [None] * workers
        self.running: list[set[Future]] = [set() for _ in range(workers)]

    def submit(self, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        """Of the worker with the fewest tasks. Raises WorkerError where a worker cannot be started."""
        place = min(range(len(self.pools)), key=lambda i: len(self.running[i]))
        try:
            future = self._submit(place, function, *args, **kwargs)
        except BrokenProcessPool:  # its worker has died since
            self.pools[place] = None
            future = self._submit(place, function, *args, **kwargs)
        except (OSError, ImportError) as error:
            raise WorkerError(f"a worker process cannot be started ({error}); lower --threads") from error
        self.running[place].add(future)
        future.add_done_callback(self.running[place].discard)
        return future

    def _submit(self, place: int, function: Callable, /, *args: Any, **kwargs: Any) -> Future:
        pool = self.pools[place]
        if pool is None:
            pool = self.pools[place] = ProcessPoolExecutor(1, self.context, _end_with, (self.theirs,))
        future = pool.submit(function, *args, **kwargs)
        # The worker has its own end by now. While this one is open, a worker that dies halfway through a long result
        # leaves the pool waiting for the other half, and this process waiting for the pool.
        pool._result_queue._writer.close()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers: after their tasks, or with cancel_futures at once."""
        if cancel_futures:
            self.ours.close()
        for pool in filter(None, self.pools):
            pool.shutdown(wait, cancel_futures=cancel_futures)
        self.ours.close()
        self.theirs.close()


def _end_with(lifeline: Connection) -> None:
    """Prepare a worker: signals are the driver's concern, and it ends when the driver closes its end of the pipe."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def watch() -> None:
        lifeline.poll(None)  # until the other end is closed: nothing is ever sent
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
