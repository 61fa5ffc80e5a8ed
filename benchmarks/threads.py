"""Whether a second thread pays: training steps of one network with one thread and with all, by the size of the step.

`threads-NAME`: the peer is nanoprune with one thread. `nanoprune.run.shards.SMALL` lies between the sizes that gain and
those that do not.

    python benchmarks/threads.py
"""

from measure import in_turn, report
from training import training_step

from nanoprune.run.parallel import default_threads
from nanoprune.zoo import build, describe

CASES = {  # name: network, input shape, classes, widths, batch
    "mlp-64-256-128-10, batch 32": ("mlp", (64,), 10, [256, 128], 32),
    "mlp-446-256-30, batch 32": ("mlp", (446,), 30, [256], 32),
    "mlp-446-512-256-128-30, batch 32": ("mlp", (446,), 30, [512, 256, 128], 32),
    "mlp-446-512-256-128-30, batch 64": ("mlp", (446,), 30, [512, 256, 128], 64),
    "lenet-5, batch 16": ("lenet-5", (28, 1, 28), 10, [20, 50, 500], 16),
    "lenet-5, batch 64": ("lenet-5", (28, 1, 28), 10, [20, 50, 500], 64),
}


def main() -> None:
    threads = default_threads()
    for name, case in CASES.items():
        network, shape, classes, widths, batch = case
        net = build(describe(network, shape, classes, widths), replicas=0)
        print(f"{net.body.macs(shape) * batch / 1e6:.1f} million multiply-accumulates forward")
        many, one = in_turn((training_step, *case, threads), (training_step, *case, 1), steps=20)
        report(f"threads-{name}", many, one, "one thread", None)


if __name__ == "__main__":
    main()
