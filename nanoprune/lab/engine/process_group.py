"""Processes that run the same program on their own shards of a batch and of the parameters (data parallelism).

NumPy's elementwise loops use one core, and a BLAS scales badly on products this small. Threads would wait for the
interpreter lock between the operations, which cost a small step up to a third of its time (docs/benchmarks.md).
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

SPIN = 2e-4  # seconds that a process polls for a message before it sleeps; `spin` in benchmarks/threads.py
REASON = 1000  # bytes of the error message that a failed process can leave


class ProcessGroup:
    """`size` processes that run the body of a `with` in parallel, each with its `rank`, counted from 0.

    They are forked where the body begins, and at its end only rank 0 continues. In between all execute the same code
    with the same values, so that they agree on every branch; each works on its own `shard`, and `all_reduce` sums over
    them. Memory is private, except for arrays of `zeros` that were made before the fork. Rank 0 alone does what must
    happen once, such as writing a file. Where processes cannot be forked, the group is rank 0 alone.
    """

    def __init__(self, size: int = 1) -> None:
        if size < 1:
            raise ArgumentError(f"threads must be at least 1, got {size}")
        self.size, self.rank = size if can_fork() else 1, 0
        self._pipes: list[Connection] = []  # rank 0: one to each other process; the others: one to rank 0
        self._pids: list[int] = []
        self._reason = mmap.mmap(-1, REASON)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array of zeros, shared by all processes if the group has several."""
        return shared_zeros(shape, dtype) if self.size > 1 else xp.zeros(shape, dtype)

    def shard(self, length: int) -> slice:
        """This process's part of the indices 0 .. length - 1, which the shards of all processes cover."""
        return slice(self.rank * length // self.size, (self.rank + 1) * length // self.size)

    def barrier(self) -> None:
        """Wait for all processes: writes into shared arrays before it are visible to all after it."""
        self.all_reduce()

    def broadcast(self, work: Callable[[], Any]) -> Any:
        """Wait for all processes; return in each what work() returns at rank 0, an array or a number, bit for bit."""
        self.barrier()
        if self.rank:
            with self._pipe_errors():
                return _decoded(_receive(self._pipes[0]))
        value = work()
        with self._pipe_errors():
            for pipe in self._pipes:
                pipe.send_bytes(_encoded(value))
        return value

    def all_reduce(self, *values: Any, ranks: int | None = None) -> tuple:
        """The sum over all processes, in the order of the ranks, of each value: an array or number, of equal shapes.

        ranks: sum over the first so many processes only; only these call. The sum has the same bits in every process
        and every time. No process gets it before all have called. Raises WorkerError where one has ended.
        """
        if self.size == 1 or ranks == 1:
            return values
        own = [np.asarray(value) for value in values]
        with self._pipe_errors():
            sums = self._ask(own) if self.rank else self._collect(own, self._pipes[: (ranks or self.size) - 1])
        return tuple(_scalar(of) for of in sums)

    def _ask(self, own: list[np.ndarray]) -> list[np.ndarray]:
        (pipe,) = self._pipes
        pipe.send_bytes(_packed(own))
        return _unpacked(_receive(pipe), own)

    def _collect(self, own: list[np.ndarray], pipes: list[Connection]) -> list[np.ndarray]:
        sums = own
        for pipe in pipes:
            sums = [a + b for a, b in zip(sums, _unpacked(_receive(pipe), own), strict=True)]
        for pipe in pipes:
            pipe.send_bytes(_packed(sums))
        return sums

    @contextlib.contextmanager
    def _pipe_errors(self) -> Iterator[None]:
        """Raise WorkerError with the reason, where the process at the other end of a pipe has ended, or without one."""
        if not self._pipes and self.size > 1:
            raise WorkerError(f"a group of {self.size} processes is not running; use it inside of its `with`")
        try:
            yield
        except (EOFError, OSError):
            raise WorkerError(self._failure()) from None

    def __enter__(self) -> ProcessGroup:
        if self.size > 1:
            self._begin()
        return self

    def _begin(self) -> None:
        self._reason[:] = bytes(REASON)
        # signals are blocked until a new process ignores them: a handler of its parent would run twice
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
        """Keep one end of its own pipe only, so that every process notices when another one ends."""
        try:
            end_with_parent()
            for other, (ours, theirs) in enumerate(pairs, 1):
                ours.close()
                if other != rank:
                    theirs.close()
            self.rank, self._pipes = rank, [pairs[rank - 1][1]]
        except BaseException:
            os._exit(1)  # the caller's code must not run twice

    def __exit__(self, kind: type | None = None, error: BaseException | None = None, traceback: Any = None) -> None:
        if self.rank:
            try:
                if kind and not issubclass(
                    kind, WorkerError
                ):  # a WorkerError only means that another process has ended
                    self._leave_reason(f"{kind.__name__}: {error}")
            finally:
                os._exit(1 if kind else 0)
        failed = self._end()
        if failed and not kind:
            raise WorkerError(self._failure())

    def _end(self) -> bool:
        """At rank 0: end the others, including those that wait for a sum. Returns whether one has failed."""
        for pipe in self._pipes:
            pipe.close()
        statuses = []
        for pid in self._pids:
            with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored
                statuses.append(os.waitpid(pid, 0)[1])
        self._pipes, self._pids = [], []
        return any(statuses)

    def _leave_reason(self, text: str) -> None:
        """Leave an error message for rank 0; the first one is kept."""
        if not self._reason[0]:
            found = text.encode(errors="replace")[:REASON]
            self._reason[: len(found)] = found

    def _failure(self) -> str:
        reason = self._reason[:].rstrip(b"\0").decode(errors="replace")
        return reason or "a worker process was killed, perhaps out of memory; lower --threads"


def _receive(pipe: Connection) -> bytes:
    """The next message. It usually arrives sooner than a sleeping process wakes up, so this polls before it sleeps."""
    poll, end = select.poll(), time.monotonic() + SPIN
    poll.register(pipe.fileno(), select.POLLIN)
    while not poll.poll(0) and time.monotonic() < end:
        pass
    return pipe.recv_bytes()


def _scalar(of: Any) -> Any:
    """The array, or its number where it has no axes."""
    return of.item() if of.ndim == 0 else of


def _encoded(value: Any) -> bytes:
    """An array or a number with its shape and dtype."""
    np.save(message := io.BytesIO(), value, allow_pickle=False)
    return message.getvalue()


def _decoded(message: bytes) -> Any:
    return _scalar(np.load(io.BytesIO(message), allow_pickle=False))


def _packed(arrays: list[np.ndarray]) -> bytes:
    return b"".join(array.tobytes() for array in arrays)


def _unpacked(message: bytes, like: list[np.ndarray]) -> list[np.ndarray]:
    """The arrays of a message, of the shapes and dtypes of `like`."""
    arrays, start = [], 0
    for array in like:
        arrays.append(np.frombuffer(message, array.dtype, array.size, start).reshape(array.shape))
        start += array.nbytes
    return arrays
