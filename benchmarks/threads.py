"""Speedup by data parallelism: training steps of one network with one process and with all, by the size of the step.

`threads-NAME`: the peer is nanoprune with one process. `lab.engine.shards.SMALL` lies between the sizes that gain
and those that do not. `spin-NAME`: the peer is nanoprune whose processes sleep as soon as they wait for another
(`nanoprune.lab.engine.process_group.SPIN`).

    python benchmarks/threads.py
"""

from collections.abc import Callable

from measure import in_turn, report
from training import training_step

from nanoprune.lab.engine import process_group
from nanoprune.lab.engine.passes import default_threads
from nanoprune.lab.zoo import build, describe
from nanoprune.lab.zoo.structure import macs

CASES = {  # name: network, input shape, classes, widths, batch
    "mlp-64-256-128-10, batch 32": ("mlp", (64,), 10, [256, 128], 32),
    "mlp-446-256-30, batch 32": ("mlp", (446,), 30, [256], 32),
    "mlp-446-512-256-128-30, batch 32": ("mlp", (446,), 30, [512, 256, 128], 32),
    "mlp-446-512-256-128-30, batch 64": ("mlp", (446,), 30, [512, 256, 128], 64),
    "lenet-5, batch 16": ("lenet-5", (28, 1, 28), 10, [20, 50, 500], 16),
    "lenet-5, batch 64": ("lenet-5", (28, 1, 28), 10, [20, 50, 500], 64),
}


def sleeping_step(*case: object) -> Callable[[], None]:
    """The step, with processes that sleep without polling for a message first."""
    process_group.SPIN = 0.0
    return training_step(*case)


def main() -> None:
    threads = default_threads()
    for name, case in CASES.items():
        network, shape, classes, widths, batch = case
        net = build(describe(network, shape, classes, widths), replicas=0)
        print(f"{macs(net.body, shape) * batch / 1e6:.1f} million multiply-accumulates forward")
        cases = [(training_step, *case, threads), (training_step, *case, 1), (sleeping_step, *case, threads)]
        many, one, sleeping = in_turn(*cases, steps=20)
        report(f"threads-{name}", many, one, "one process", None)
        report(f"spin-{name}", many, sleeping, "sleeping at once", None)


if __name__ == "__main__":
    main()
