"""A fleet divided into shards of replicas that fit the cache or the GPU's memory, several shards at once.

Replicas are independent, so each shard runs its whole training without waiting for the others. Training shards are
worker processes where the system can fork: threads share the interpreter lock between NumPy's operations, which costs a
fleet of small networks some 15% (benchmarks/fleet_mlp.py).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from nanoprune.backend import free_memory, xp
from nanoprune.errors import ArgumentError, Interrupted
from nanoprune.lab.engine import interrupt
from nanoprune.lab.engine.forks import can_fork, shared_zeros
from nanoprune.lab.engine.pool import map_processes
from nanoprune.lab.layers.dropout import Dropout
from nanoprune.lab.zoo.structure import macs
from nanoprune.nn.network import Network
from nanoprune.nn.sequential import leaves
from nanoprune.nn.workspace import Workspace

CACHE = 1 << 20  # bytes of parameters that are trained together on a CPU
COPIES = 10  # of the parameters: theta, gradient, velocity, Z, U, Z - U, penalty, mask, and two for a projection
SMALL = 10_000_000  # multiply-accumulates of a forward pass over a batch; benchmarks/threads.py
PULSE = 0.1  # seconds between two checks of the progress of worker processes

Advance = Callable[[int], None]


def map_shards(function: Callable[[slice], Any], replicas: int, threads: int, size: int = 1) -> list:
    """[function(slice of replicas) for each shard of `size`], on `threads` threads: for short work on large arrays.

    The first exception is raised here once the running shards are done; no further shard is started.
    """
    shards = shards_of(replicas, size)
    if _workers(threads, shards) == 1:
        return [function(shard) for shard in shards]
    with ThreadPoolExecutor(threads) as pool:
        return _results([pool.submit(function, shard) for shard in shards], threading.Event())


def train_shards(
    function: Callable[[slice, Advance], Any],
    replicas: int,
    threads: int,
    size: int = 1,
    advance: Advance = lambda steps: None,
) -> list:
    """[function(slice of replicas, advance) for each shard of `size`], on `threads` processes, or threads without fork.

    A worker process has a copy of everything, so only the function's return value reaches the caller. The function
    calls its advance with the steps that it has made: that reports to the caller's `advance`, and raises Interrupted
    where another shard has failed, Stopped where a signal asked for it. The first exception is raised here once the
    running shards are done. Raises WorkerError where the system kills a process.
    """
    interrupt.raise_if_stopping()
    shards = shards_of(replicas, size)
    workers = _workers(threads, shards)
    if workers == 1:
        return [function(shard, _until_stopped(advance)) for shard in shards]
    return (_in_processes if can_fork() else _in_threads)(function, shards, workers, advance)


def _in_threads(function: Callable, shards: list[slice], workers: int, advance: Advance) -> list:
    ended = threading.Event()

    def advance_all(steps: int) -> None:
        _refuse_if(ended.is_set())
        _until_stopped(advance)(steps)

    with ThreadPoolExecutor(workers) as pool:
        return _results([pool.submit(function, shard, advance_all) for shard in shards], ended)


def _in_processes(function: Callable, shards: list[slice], workers: int, advance: Advance) -> list:
    """A forked process inherits `function` and its data; it receives indices of shards and sends back results."""
    reported = 0
    # shared with the workers: the steps of each shard, and whether one has failed. Each entry has one writer and no
    # lock, since a killed worker would never release it
    board = shared_zeros((len(shards) + 1,), np.int64)
    ended = _Mark(board[-1:])

    def work(place: int) -> Any:
        def count(steps: int) -> None:
            _refuse_if(ended.is_set())
            interrupt.raise_if_stopping()
            board[place] += steps

        with ended.on_error():
            return function(shards[place], count)

    def pulse() -> None:
        nonlocal reported
        made = int(board[:-1].sum())
        with ended.on_error():
            advance(made - reported)
        reported = made

    return map_processes(work, range(len(shards)), workers, pulse, PULSE)


class _Mark:
    """An event in one entry of shared memory: unlike multiprocessing's it has no lock."""

    def __init__(self, place: np.ndarray) -> None:
        self.place = place

    def is_set(self) -> bool:
        return bool(self.place[0])

    def set(self) -> None:
        self.place[0] = 1

    @contextlib.contextmanager
    def on_error(self) -> Iterator[None]:
        """Set the event where an exception leaves the block."""
        try:
            yield
        except BaseException:
            self.set()
            raise


def _results(futures: list[Future], ended: threading.Event) -> list:
    """The results of the futures, in order. The first exception ends all of them and is raised."""
    try:
        for future in wait(futures, return_when=FIRST_EXCEPTION).done:
            future.result()
        return [future.result() for future in futures]
    except BaseException:
        ended.set()
        for future in futures:
            future.cancel()
        raise


def _until_stopped(advance: Advance) -> Advance:
    """`advance` that then raises Stopped where a signal has asked for it."""

    def advance_or_stop(steps: int) -> None:
        advance(steps)
        interrupt.raise_if_stopping()

    return advance_or_stop


def _refuse_if(ended: bool) -> None:
    if ended:
        raise Interrupted("another shard of the fleet ended first")


def shards_of(replicas: int, size: int) -> list[slice]:
    """The shards of a fleet, `size` replicas in each but the last."""
    return [slice(start, min(start + size, replicas)) for start in range(0, replicas, size)]


def _workers(threads: int, shards: list[slice]) -> int:
    if threads < 1:
        raise ArgumentError(f"threads must be at least 1, got {threads}")
    return min(threads, len(shards))


def shard_size(net: Network, samples: int, threads: int) -> int:
    """The number of replicas of `net` to train together in batches of `samples`; at least one, whatever its size.

    On a CPU as many as have their parameters in a core's cache, up to a thread's share: larger shards are slower, and
    smaller shards of small networks have too much overhead (benchmarks/fleet_mlp.py). On a GPU as many as fit half of
    the free memory; the rest is for the other parts of a method, such as the game's adversary.
    """
    free = free_memory()
    if free is None:
        size = min(CACHE // net.theta[0].nbytes, -(-net.replicas // threads))
    else:
        size = int(free // 2 // footprint(net, samples))
    return max(1, min(size, net.replicas))


def sample_threads(net: Network, batch: int, threads: int) -> int:
    """The number of threads that share the samples of each batch: those that are not busy with whole replicas.

    It is 1 where a step is too small to gain from it (benchmarks/threads.py), where a layer draws random numbers, which
    must not depend on threads, and where processes cannot be forked.
    """
    if not can_fork():
        return 1
    if any(isinstance(layer, Dropout) for layer in leaves(net.body)):
        return 1
    if macs(net.body, net.input_shape) * batch < SMALL:
        return 1
    return max(1, threads // net.replicas)


def footprint(net: Network, samples: int) -> int:
    """Bytes of one replica in training: the buffers of both passes, and COPIES times its parameters."""
    one, ws = net.copy([0]), Workspace(training=False)
    X = xp.zeros((1, *net.input_shape, samples), net.theta.dtype)  # (1, ..., N)
    Y = one.forward(X, ws)
    one.backward(xp.zeros_like(Y), ws)
    return X.nbytes + ws.nbytes + COPIES * one.theta.nbytes
