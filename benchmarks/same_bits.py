"""Reproducibility: equal bits with equal numbers of threads, equal up to rounding with different ones.

    python benchmarks/same_bits.py

Networks are trained on random images from NumPy's generator, so that hashes can be compared between machines: they must
be equal where versions, processor and threads are. Exit status 1 where two runs on this machine differ, or where the
parameters after one step in float64 differ between numbers of threads by more than rounding. In float32 the same step
differs by the rounding of float32, and many steps by more, since training amplifies differences: these differences are
printed only.
"""

import functools
import hashlib
import sys

import numpy as np

from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.engine.run import LabRun
from nanoprune.lab.zoo import build, describe
from nanoprune.records import Records
from nanoprune.schedule import Schedule
from nanoprune.train import train

NETWORKS = {  # shape of a sample, widths, samples in an epoch
    "mlp": ((446,), [512, 256, 128], 256),
    "lenet-5": ((28, 1, 28), [20, 50, 500], 256),
    "resnet18": ((32, 3, 32), 0.125, 64),
}
ROUNDING = 1e-10  # relative to the largest parameter, in float64: 2^-53, amplified by the layers and normalisation
THREADS = (1, 2, 4)


def trained(network: str, threads: int, steps: int, dtype: type) -> np.ndarray:
    """The parameters of two replicas after `steps` steps, (2, n)."""
    shape, widths, samples = NETWORKS[network]
    rng = np.random.default_rng(0)
    x, y = rng.random((samples, *shape)).astype(dtype), rng.integers(0, 10, samples)
    net = build(describe(network, shape, 10, widths), 2, dtype).initialise([np.random.default_rng(r) for r in (1, 2)])
    members = np.tile(np.arange(samples), (2, 1))  # (2, samples)
    batch = samples if steps == 1 else 64
    plan = Schedule(max(1, steps * batch // samples), batch=batch, lr=0.05)
    with single_threaded_blas():
        run = functools.partial(LabRun, group=ProcessGroup(threads))
        train(net, Records(x, y), members, plan, [np.random.default_rng(r) for r in (3, 4)], run=run)
    return net.theta.copy()


def main() -> int:
    faults = 0
    for network in NETWORKS:
        for steps, dtype in ((1, np.float64), (1, np.float32), (40, np.float32)):
            reference = None
            for threads in THREADS:
                theta, again = (trained(network, threads, steps, dtype) for _ in range(2))
                reference = theta if reference is None else reference
                same = theta.tobytes() == again.tobytes()
                apart = float(np.abs(theta - reference).max() / np.abs(reference).max())
                faults += (not same) + (dtype is np.float64 and apart > ROUNDING)
                digest = hashlib.sha256(theta.tobytes()).hexdigest()[:16]
                print(
                    f"{network:9} {steps:2} steps, {dtype.__name__}, {threads} threads: {digest}, again "
                    f"{'the same' if same else 'ANOTHER'}; from one thread's {apart:.1e}",
                    flush=True,
                )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
