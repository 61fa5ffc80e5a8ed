"""Processes that go through the same program side by side, each with its part of the samples and of the parameters.

NumPy's elementwise loops use one core and a BLAS scales badly on products this small. Threads would take turns at the
interpreter between the operations, which cost a small step up to a third of its time (docs/benchmarks.md).
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import select
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from nanoprune.backend import xp
from nanoprune.errors import ArgumentError, WorkerError
from nanoprune.lab.engine.forks import can_fork, end_with_parent, shared_zeros

SLEEPLESS = 2e-4  # seconds that a process looks for a message; `sleepless` in benchmarks/threads.py
WORDS = 1000  # bytes of what a process can say of why it failed


class Team:
    """`size` processes that run the body of a `with` side by side, each with its `rank`, counted from 0.

    They are forked where the body begins, and at its end only rank 0 goes on. In between all do the same with the same
    values, so that they always agree on what comes next; what each does by itself is its `part`, and a `total` is of
    all parts. What a process writes is its own, but for arrays of `zeros` that were made before the fork. What must
    happen once, such as writing a file, is for rank 0. One process alone, where there can be no others, is rank 0 too.
    """

    def __init__(self, size: int = 1) -> None:
        if size < 1:
            raise ArgumentError(f"threads must be at least 1, got {size}")
        self.size, self.rank = size if can_fork() else 1, 0
        self._pipes: list[Connection] = []  # of rank 0 to each other one, of those to rank 0
        self._pids: list[int] = []
        self._words = mmap.mmap(-1, WORDS)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array that all processes share, if there will be several."""
        return shared_zeros(shape, dtype) if self.size > 1 else xp.zeros(shape, dtype)

    def part(self, length: int) -> slice:
        """Which of so many things are this process's; all are somebody's."""
        return slice(self.rank * length // self.size, (self.rank + 1) * length // self.size)

    def meet(self) -> None:
        """Wait for all: what each wrote into a shared array before, the others see after."""
        self.total()

    def once(self, work: Callable[[], Any]) -> Any:
        """Wait for all, and give all what work() returns at rank 0: an array or a number, alike to the last bit."""
        self.meet()
        if self.rank:
            with self._refusal():
                return _loaded(_awaited(self._pipes[0]))
        value = work()
        with self._refusal():
            for pipe in self._pipes:
                pipe.send_bytes(_saved(value))
        return value

    def total(self, *values: Any, ranks: int | None = None) -> tuple:
        """Each of the values, arrays or numbers alike in all processes, summed over them in the order of the ranks.

        ranks: only over the first so many, who alone ask. The sum has the same bits everywhere, and every time. Nobody
        gets it before all have come. Raises WorkerError where one does not come any more.
        """
        if self.size == 1 or ranks == 1:
            return values
        own = [np.asarray(value) for value in values]
        with self._refusal():
            totals = self._ask(own) if self.rank else self._collect(own, self._pipes[: (ranks or self.size) - 1])
        return tuple(_value(of) for of in totals)

    def _ask(self, own: list[np.ndarray]) -> list[np.ndarray]:
        (pipe,) = self._pipes
        pipe.send_bytes(_packed(own))
        return _unpacked(_awaited(pipe), own)

    def _collect(self, own: list[np.ndarray], pipes: list[Connection]) -> list[np.ndarray]:
        totals = own
        for pipe in pipes:
            totals = [a + b for a, b in zip(totals, _unpacked(_awaited(pipe), own), strict=True)]
        for pipe in pipes:
            pipe.send_bytes(_packed(totals))
        return totals

    @contextlib.contextmanager
    def _refusal(self) -> Iterator[None]:
        """WorkerError that says why, where a pipe has nobody at its other end, or none has been made."""
        if not self._pipes and self.size > 1:
            raise WorkerError(f"a team of {self.size} has not begun, or has ended; use it inside of its `with`")
        try:
            yield
        except (EOFError, OSError):
            raise WorkerError(self._why()) from None

    def __enter__(self) -> Team:
        if self.size > 1:
            self._begin()
        return self

    def _begin(self) -> None:
        self._words[:] = bytes(WORDS)
        # no signal reaches a new process before it ignores them: a handler of its parent's would do its work twice
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            self._fork()
        except OSError as error:
            self._end()
            raise WorkerError(f"a worker process cannot be started ({error}); lower --threads") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _fork(self) -> None:
        pairs: list[tuple[Connection, Connection]] = []
        for _ in range(self.size - 1):
            pairs.append(Pipe())
            self._pipes.append(pairs[-1][0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks where there are threads
            for rank in range(1, self.size):
                pid = os.fork()
                if pid == 0:
                    self._join(rank, pairs)
                    return
                self._pids.append(pid)
        for _, theirs in pairs:
            theirs.close()

    def _join(self, rank: int, pairs: list[tuple[Connection, Connection]]) -> None:
        """In a new process: its end of its own pipe is all that it keeps, so that all see where another one ends."""
        try:
            end_with_parent()
            for other, (ours, theirs) in enumerate(pairs, 1):
                ours.close()
                if other != rank:
                    theirs.close()
            self.rank, self._pipes = rank, [pairs[rank - 1][1]]
        except BaseException:
            os._exit(1)  # nothing that the caller has must happen twice

    def __exit__(self, kind: type | None = None, error: BaseException | None = None, traceback: Any = None) -> None:
        if self.rank:
            try:
                if kind and not issubclass(kind, WorkerError):  # that one only says that another process has ended
                    self._say(f"{kind.__name__}: {error}")
            finally:
                os._exit(1 if kind else 0)
        failed = self._end()
        if failed and not kind:
            raise WorkerError(self._why())

    def _end(self) -> bool:
        """At rank 0: wait for the others, of which those that still wait for a total end; has one of them failed?"""
        for pipe in self._pipes:
            pipe.close()
        statuses = []
        for pid in self._pids:
            with contextlib.suppress(ChildProcessError):  # where the system has been told to forget who ends
                statuses.append(os.waitpid(pid, 0)[1])
        self._pipes, self._pids = [], []
        return any(statuses)

    def _say(self, words: str) -> None:
        """Leave a reason for rank 0; the first one counts."""
        if not self._words[0]:
            said = words.encode(errors="replace")[:WORDS]
            self._words[: len(said)] = said

    def _why(self) -> str:
        words = self._words[:].rstrip(b"\0").decode(errors="replace")
        return words or "a worker process was killed, perhaps for want of memory; lower --threads"


def _awaited(pipe: Connection) -> bytes:
    """The next message. It mostly comes sooner than a process wakes up, so that it is looked for before one sleeps."""
    looked, end = select.poll(), time.monotonic() + SLEEPLESS
    looked.register(pipe.fileno(), select.POLLIN)
    while not looked.poll(0) and time.monotonic() < end:
        pass
    return pipe.recv_bytes()


def _value(of: Any) -> Any:
    """An array, or the number that is all of it."""
    return of.item() if of.ndim == 0 else of


def _saved(value: Any) -> bytes:
    """An array or a number with its shape and dtype."""
    np.save(message := io.BytesIO(), value, allow_pickle=False)
    return message.getvalue()


def _loaded(message: bytes) -> Any:
    return _value(np.load(io.BytesIO(message), allow_pickle=False))


def _packed(arrays: list[np.ndarray]) -> bytes:
    return b"".join(array.tobytes() for array in arrays)


def _unpacked(message: bytes, like: list[np.ndarray]) -> list[np.ndarray]:
    """The arrays of a message, of the shapes and dtypes of `like`."""
    arrays, start = [], 0
    for array in like:
        arrays.append(np.frombuffer(message, array.dtype, array.size, start).reshape(array.shape))
        start += array.nbytes
    return arrays
