"""Replicas shared out: a fleet in shards, as large as the cache or the GPU's memory holds, several at once.

Replicas are independent, so each shard runs its whole training without waiting for the others. Training shards are
worker processes where the system can fork: threads take turns at the interpreter between NumPy's operations, which
costs a fleet of small networks some 15% (benchmarks/fleet_mlp.py).
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from nanoprune.backend import free_memory, xp
from nanoprune.errors import ArgumentError, Interrupted, WorkerError
from nanoprune.lab.engine import interrupt
from nanoprune.lab.engine.forks import can_fork, end_with_parent, shared_zeros
from nanoprune.lab.layers.dropout import Dropout
from nanoprune.lab.zoo.structure import macs
from nanoprune.nn.layer import leaves
from nanoprune.nn.network import Network
from nanoprune.nn.workspace import Workspace

CACHE = 1 << 20  # bytes of parameters that are trained together on a CPU
COPIES = 10  # of the parameters: theta, gradient, velocity, Z, U, Z - U, penalty, mask, and two for a projection
SMALL = 10_000_000  # multiply-accumulates of a forward pass over a batch; benchmarks/threads.py
PULSE = 0.1  # seconds between two looks at the progress of worker processes

Advance = Callable[[int], None]


def map_shards(function: Callable[[slice], Any], replicas: int, threads: int, size: int = 1) -> list:
    """[function(slice of replicas) for each shard of `size`], on so many threads: for short work on large arrays.

    An exception in one is raised here once the others that have begun are done; those that have not are dropped.
    """
    shards = _shards(replicas, size)
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
    """[function(slice of replicas, advance) for each shard of `size`], on so many processes where there can be any.

    A worker process has a copy of everything, so what counts of a function is what it returns. It calls its advance
    with the steps that it has made: that tells the caller's `advance`, and raises Interrupted where another shard has
    failed, Stopped where a signal asked for it. The first exception is raised here once those that have begun are done.
    Raises WorkerError where the system kills a process.
    """
    interrupt.refuse_if_asked()
    shards = _shards(replicas, size)
    workers = _workers(threads, shards)
    if workers == 1:
        return [function(shard, _until_asked(advance)) for shard in shards]
    return (_in_processes if can_fork() else _in_threads)(function, shards, workers, advance)


def _in_threads(function: Callable, shards: list[slice], workers: int, advance: Advance) -> list:
    ended = threading.Event()

    def advance_all(steps: int) -> None:
        _refuse_if(ended.is_set())
        _until_asked(advance)(steps)

    with ThreadPoolExecutor(workers) as pool:
        return _results([pool.submit(function, shard, advance_all) for shard in shards], ended)


def _in_processes(function: Callable, shards: list[slice], workers: int, advance: Advance) -> list:
    """A forked process inherits `function` and its data; slices go to it, and results come back, through pipes."""
    context, told = multiprocessing.get_context("fork"), 0
    places = {shard.start: place for place, shard in enumerate(shards)}
    # shared with the workers: the steps of each shard, and whether one has failed. Each place has one writer and no
    # lock, which a worker that is killed might hold for ever
    board = shared_zeros((len(shards) + 1,), np.int64)
    ended = _Mark(board[-1:])

    def work(shard: slice) -> Any:
        def count(steps: int) -> None:
            _refuse_if(ended.is_set())
            interrupt.refuse_if_asked()
            board[places[shard.start]] += steps

        return function(shard, count)

    def pulse() -> None:
        nonlocal told
        made = int(board[:-1].sum())
        advance(made - told)
        told = made

    with ProcessPoolExecutor(workers, context, _begin, (work,)) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks where there are threads
        try:
            return _results([pool.submit(_run, shard) for shard in shards], ended, pulse)
        except BrokenProcessPool:
            interrupt.refuse_if_asked()  # a signal to all processes of a group ends the workers too
            raise WorkerError("a worker process was killed, perhaps for want of memory; lower --threads") from None


class _Mark:
    """An event in one place of shared memory: unlike multiprocessing's it has no lock."""

    def __init__(self, place: np.ndarray) -> None:
        self.place = place

    def is_set(self) -> bool:
        return bool(self.place[0])

    def set(self) -> None:
        self.place[0] = 1


_work: Callable[[slice], Any]  # in a worker process, what it does


def _begin(work: Callable[[slice], Any]) -> None:
    """The start of a worker process. It leaves an interrupt to its parent, and ends where that one is killed."""
    global _work
    _work = work
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which the pool ends the others where one was killed
    end_with_parent()


def _run(shard: slice) -> Any:
    return _work(shard)


def _results(futures: list[Future], ended: Any, pulse: Callable[[], None] = lambda: None) -> list:
    """What the futures return, in their order. The first exception ends them all and is raised."""
    pending = set(futures)
    try:
        while pending:
            done, pending = wait(pending, PULSE, FIRST_EXCEPTION)
            for future in done:
                future.result()
            pulse()
        return [future.result() for future in futures]
    except BaseException:
        ended.set()
        for future in futures:
            future.cancel()
        raise


def _until_asked(advance: Advance) -> Advance:
    """`advance` that raises Stopped, once it is told, where a signal has asked for that."""

    def told(steps: int) -> None:
        advance(steps)
        interrupt.refuse_if_asked()

    return told


def _refuse_if(ended: bool) -> None:
    if ended:
        raise Interrupted("another shard of the fleet ended first")


def _shards(replicas: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, replicas)) for start in range(0, replicas, size)]


def _workers(threads: int, shards: list[slice]) -> int:
    if threads < 1:
        raise ArgumentError(f"threads must be at least 1, got {threads}")
    return min(threads, len(shards))


def shard_size(net: Network, samples: int, threads: int) -> int:
    """How many replicas of `net` to train together in batches of `samples`; at least one, whatever it takes.

    On a CPU as many as have their parameters in a core's cache, up to a thread's share: larger ones are slower,
    and smaller ones of small networks spend their time between the operations (benchmarks/fleet_mlp.py). On a GPU as
    many as half of the free memory holds; the rest is for what else a method has, such as the game's adversary.
    """
    free = free_memory()
    if free is None:
        size = min(CACHE // net.theta[0].nbytes, -(-net.replicas // threads))
    else:
        size = int(free // 2 // footprint(net, samples))
    return max(1, min(size, net.replicas))


def sample_threads(net: Network, batch: int, threads: int) -> int:
    """How many of the threads share the samples of each batch: those that whole replicas leave idle.

    One where a step is so small that handing it out takes longer (benchmarks/threads.py), where a layer draws random
    numbers, which must not depend on threads, and where there can be no worker processes.
    """
    if not can_fork():
        return 1
    if any(isinstance(layer, Dropout) for layer in leaves(net.body)):
        return 1
    if macs(net.body, net.input_shape) * batch < SMALL:
        return 1
    return max(1, threads // net.replicas)


def footprint(net: Network, samples: int) -> int:
    """Bytes that one replica takes in training: the buffers of both passes, and its parameters COPIES times."""
    one, ws = net.copy([0]), Workspace(training=False)
    X = xp.zeros((1, *net.input_shape, samples), net.theta.dtype)  # (1, ..., N)
    Y = one.forward(X, ws)
    one.backward(xp.zeros_like(Y), ws)
    return X.nbytes + ws.nbytes + COPIES * one.theta.nbytes
