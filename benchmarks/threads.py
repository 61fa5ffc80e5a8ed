"""Whether a second thread pays: training steps of one network with one thread and with all, by the size of the step.

`threads-NAME`: the peer is nanoprune with one thread. `nanoprune.parallel.SMALL` lies between the sizes that gain and
those that do not.

    python benchmarks/threads.py
"""

from collections.abc import Callable

import numpy as np
import threadpoolctl
from measure import in_turn, report

from nanoprune.batch import Records
from nanoprune.nn import SGD, Network, Workspace, cross_entropy
from nanoprune.parallel import Passes, default_threads
from nanoprune.zoo import build, describe

CASES = {  # name: network, input shape, classes, widths, batch
    "mlp-64-256-128-10, batch 32": ("mlp", (64,), 10, [256, 128], 32),
    "mlp-446-256-30, batch 32": ("mlp", (446,), 30, [256], 32),
    "mlp-446-512-256-128-30, batch 32": ("mlp", (446,), 30, [512, 256, 128], 32),
    "mlp-446-512-256-128-30, batch 64": ("mlp", (446,), 30, [512, 256, 128], 64),
    "lenet-5, batch 16": ("lenet-5", (28, 1, 28), 10, [20, 50, 500], 16),
    "lenet-5, batch 64": ("lenet-5", (28, 1, 28), 10, [20, 50, 500], 64),
}


def training_step(name: str, threads: int) -> Callable[[], None]:
    threadpoolctl.threadpool_limits(1, user_api="blas")
    network, shape, classes, widths, batch = CASES[name]
    rng = np.random.default_rng(0)
    records = Records(rng.random((1000, *shape), np.float32), rng.integers(0, classes, 1000))
    net = build(describe(network, shape, classes, widths)).initialise([rng])
    optimizer, passes = SGD(momentum=0.9), Passes(net, threads)

    def objective(net: Network, ws: Workspace, index: np.ndarray, count: int) -> np.ndarray:
        X, labels = records.batch(index, ws)
        loss, dlogits = cross_entropy(net.forward(X, ws), labels, count)
        net.backward(dlogits, ws)
        return loss

    def step() -> None:
        passes.run(objective, rng.integers(0, 1000, (1, batch)))
        optimizer.step(net, 1e-4)

    return step


def main() -> None:
    threads = default_threads()
    for name, (network, shape, classes, widths, batch) in CASES.items():
        net = build(describe(network, shape, classes, widths), replicas=0)
        print(f"{net.body.macs(shape) * batch / 1e6:.1f} million multiply-accumulates forward")
        many, one = in_turn((training_step, name, threads), (training_step, name, 1), steps=20)
        report(f"threads-{name}", many, one, "one thread", None)


if __name__ == "__main__":
    main()
