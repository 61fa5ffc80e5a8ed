"""nanoprune's training step, shared by several benchmarks; this file does not import torch."""

import math
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import threadpoolctl

from nanoprune.defend import DPSGD
from nanoprune.errors import WorkerError
from nanoprune.lab.engine.passes import SharedPasses
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.kernels import compiled, compiled_depthwise
from nanoprune.lab.zoo import build, describe
from nanoprune.nn import SGD, Network, Workspace, cross_entropy
from nanoprune.records import Records
from nanoprune.schedule import Schedule

NUMBA = compiled_depthwise.started_numba
compiled.WORTH, compiled_depthwise.started_numba = math.inf, lambda: None  # what is measured is NumPy, but for `fast`


def fast(factory: Callable[..., Callable[[], None]], *arguments: Any) -> Callable[[], None]:
    """The step that factory(*arguments) makes, with what Numba can compile compiled from the first step on."""
    compiled.WORTH, compiled_depthwise.started_numba = 0, NUMBA
    return factory(*arguments)


def training_step(
    network: str, shape: tuple[int, ...], classes: int, widths: list[int] | float, batch: int, threads: int
) -> Callable[[], None]:
    """A step of SGD with momentum on one random batch, whose samples are divided among `threads` processes."""
    threadpoolctl.threadpool_limits(1, user_api="blas")
    x, y = random_batch(batch, shape, classes)
    net = build(describe(network, shape, classes, widths)).initialise([np.random.default_rng(0)])
    records, optimizer, passes = Records(x, y), SGD(momentum=0.9), SharedPasses(net, ProcessGroup(threads))
    index = np.arange(batch)[None]

    def objective(net: Network, ws: Workspace, index: np.ndarray, count: int) -> np.ndarray:
        X, labels = records.batch(index, ws)
        loss, dlogits = cross_entropy(net.forward(X, ws), labels, count)
        net.backward(dlogits, ws)
        return loss

    def step() -> None:
        passes.run(objective, index)
        optimizer.step(passes.local, 1e-3)

    return side_by_side(passes, step)


def side_by_side(passes: SharedPasses, step: Callable[[], Any]) -> Callable[[], Any]:
    """The step for rank 0; the other processes of the group make the same steps, until rank 0 ends."""
    passes.__enter__()
    while passes.group.rank:
        try:
            step()
        except WorkerError:
            os._exit(0)
    return step


def lenet5_step(batch: int, threads: int) -> Callable[[], None]:
    return training_step("lenet-5", (28, 1, 28), 10, [20, 50, 500], batch, threads)


def lenet5_apart(batch: int, processes: int) -> Callable[[], None]:
    """The same step without communication: each process does its part of the batch, and no gradients are added. This is
    a lower bound for `lenet5_step` without a faster pass."""
    step = lenet5_step(batch // processes, 1)
    pipes = [_helper(step) for _ in range(processes - 1)]

    def together() -> None:
        for pipe in pipes:
            pipe.send_bytes(b"go")
        step()
        for pipe in pipes:
            pipe.recv_bytes()

    return together


def _helper(step: Callable[[], None]) -> Connection:
    """A process that runs `step` on request and reports when it is done."""
    ours, theirs = multiprocessing.Pipe()

    def serve() -> None:
        ours.close()
        while _told(theirs):
            step()
            theirs.send_bytes(b"done")

    multiprocessing.get_context("fork").Process(target=serve).start()
    theirs.close()
    return ours


def _told(pipe: Connection) -> bool:
    """Whether another step is requested; False where the benchmark has ended."""
    try:
        return bool(pipe.recv_bytes())
    except EOFError:
        return False


def lenet5_private_step(batch: int, threads: int) -> Callable[[], None]:
    """The same step with DP-SGD: every record's gradient clipped, and noise for all parameters."""
    threadpoolctl.threadpool_limits(1, user_api="blas")
    x, y = random_batch(batch)
    net = build(describe("lenet-5", (28, 1, 28), 10, [20, 50, 500])).initialise([np.random.default_rng(0)])
    records, optimizer, private = Records(x, y), SGD(momentum=0.9), DPSGD(clip=1.5, noise=1.0)
    private.begin(net, np.arange(60_000)[None], Schedule(1, batch), [], None, None, None)
    passes, index = SharedPasses(net, ProcessGroup(threads), defer=True), np.arange(batch)[None]

    def objective(net: Network, ws: Workspace, index: np.ndarray, count: int) -> np.ndarray:
        X, labels = records.batch(index, ws)
        loss, dlogits = cross_entropy(net.forward(X, ws), labels, private.batch, index >= 0)
        net.backward(dlogits, ws)
        private.clip(net, ws)
        return loss

    def step() -> None:
        passes.run(objective, index)
        private.add_noise(passes.local)
        optimizer.step(passes.local, 1e-3)

    return side_by_side(passes, step)


def random_batch(batch: int, shape: tuple[int, ...] = (28, 1, 28), classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch, *shape)).astype(np.float32), rng.integers(0, classes, batch)  # (N, H, C, W)
