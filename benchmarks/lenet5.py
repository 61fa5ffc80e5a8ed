"""nanoprune's side of the benchmarks of LeNet-5, which imports no torch."""

from collections.abc import Callable

import numpy as np
import threadpoolctl

from nanoprune.batch import Records
from nanoprune.nn import SGD, Network, Workspace, cross_entropy
from nanoprune.parallel import Passes
from nanoprune.zoo import build, describe


def our_step(batch: int, threads: int) -> Callable[[], None]:
    threadpoolctl.threadpool_limits(1, user_api="blas")
    x, y = random_batch(batch)
    net = build(describe("lenet-5", (28, 1, 28), 10)).initialise([np.random.default_rng(0)])
    records, optimizer, passes = Records(x, y), SGD(momentum=0.9), Passes(net, threads)
    index = np.arange(batch)[None]

    def objective(net: Network, ws: Workspace, index: np.ndarray, count: int) -> np.ndarray:
        X, labels = records.batch(index, ws)
        loss, dlogits = cross_entropy(net.forward(X, ws), labels, count)
        net.backward(dlogits, ws)
        return loss

    def step() -> None:
        passes.run(objective, index)
        optimizer.step(net, 0.01)

    return step


def random_batch(batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch, 28, 1, 28)).astype(np.float32), rng.integers(0, 10, batch)  # (N, H, C, W)
