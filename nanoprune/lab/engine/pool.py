"""A pool of forked workers that uses processes and pipes only.

`concurrent.futures` also needs a thread and semaphores in /dev/shm. Where one of these is unavailable (a container's
limit on processes, a full /dev/shm) it leaves workers behind that wait for ever, and the program never ends.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from nanoprune.errors import Interrupted, WorkerError
from nanoprune.lab.engine.forks import end_with_parent

KILLED = "a worker process was killed, perhaps out of memory; lower --threads"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 5.0  # seconds that idle workers have to end by themselves

Task = Callable[[Any], Any]


def map_processes(function: Task, items: Sequence, workers: int, pulse: Callable[[], None], period: float) -> list:
    """[function(item) for each item], on `workers` forked processes.

    Workers inherit `function` and its data; an item's index is sent to a worker, and the result or the exception is
    sent back, through a pipe. pulse() is called every `period` seconds and may raise. The first exception is raised
    once all workers have finished their current items, an Interrupted only where there is no other, since it is the
    consequence of one; no further item is started. Raises WorkerError where a worker cannot be started or is killed.
    """
    pool = _Pool(lambda index: function(items[index]))
    try:
        pool.start(workers)
        return pool.run(len(items), pulse, period)
    finally:
        pool.end()


class _Pool:
    def __init__(self, work: Callable[[int], Any]) -> None:
        self.work = work
        self.processes: dict[Connection, Any] = {}  # by this process's end of the worker's pipe
        self.busy: dict[Connection, int] = {}  # the current item of each worker

    def start(self, workers: int) -> None:
        context = multiprocessing.get_context("fork")
        for _ in range(workers):
            try:
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(self.work, theirs, [*self.processes, ours]), daemon=True)
                _start(process)
            except OSError as error:
                raise WorkerError(f"a worker process cannot be started ({error.strerror}); lower --threads") from None
            theirs.close()
            self.processes[ours] = process

    def run(self, items: int, pulse: Callable[[], None], period: float) -> list:
        results: list[Any] = [None] * items
        failures: list[BaseException] = []
        waiting, due = list(range(items)), time.monotonic() + period
        while self.busy or (waiting and not failures):
            for pipe in self.processes:
                if pipe not in self.busy and waiting and not failures:
                    self.busy[pipe] = waiting.pop(0)
                    _send(pipe, self.busy[pipe])
            for pipe in wait(list(self.busy), max(0.0, due - time.monotonic())):
                index = self.busy.pop(pipe)
                failed, value = _received(pipe)
                if failed:
                    failures.append(value)
                else:
                    results[index] = value
            if time.monotonic() >= due:
                due = time.monotonic() + period
                try:
                    pulse()
                except BaseException as error:
                    failures.append(error)
        if failures:
            raise next((failure for failure in failures if not isinstance(failure, Interrupted)), failures[0])
        pulse()
        return results

    def end(self) -> None:
        """End all workers: an idle one ends when its pipe closes, any other is killed."""
        idle = [process for pipe, process in self.processes.items() if pipe not in self.busy]
        for pipe, process in self.processes.items():
            if pipe in self.busy:
                process.kill()
            pipe.close()
        until = time.monotonic() + GRACE
        for process in idle:
            process.join(max(0.0, until - time.monotonic()))
        for process in self.processes.values():
            process.kill()
            process.join()


def _start(process: Any) -> None:
    """Fork. Signals are blocked until the worker has set its handlers."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: forks where there are threads
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _send(pipe: Connection, value: Any) -> None:
    try:
        pipe.send(value)
    except OSError:
        raise WorkerError(KILLED) from None


def _received(pipe: Connection) -> tuple[bool, Any]:
    try:
        return pipe.recv()
    except (EOFError, OSError):
        raise WorkerError(KILLED) from None


def _serve(work: Callable[[int], Any], pipe: Connection, parents: list[Connection]) -> None:
    """A worker: perform the items that come through the pipe until the parent closes it."""
    end_with_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for end in parents:  # only the parent may hold these, so that they close with it
        end.close()
    while True:
        try:
            index = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (False, work(index))
        except BaseException as error:
            error.add_note(traceback.format_exc())  # the traceback in the worker
            answer = (True, error)
        pipe.send(answer)
