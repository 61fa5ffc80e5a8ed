"""LeNet-5 on MNIST with DP-SGD, in the two settings of Opacus' MNIST example: accuracy at their epsilon.

60,000 members, samples of 240, clip 1.5, delta 1e-5: noise 1.3 for 15 epochs, and 0.7 for 45. Opacus prints 94.6% and
97.1% for them (its README, where an older conversion makes epsilon 1.16 and 6.86), with a network of 26,000 parameters;
ours has widths 16, 32, 32: 29,000. Nothing was chosen on the official test set.

    python benchmarks/dp_mnist.py [1|2 ...]      NANOPRUNE_DATA names the folder above mnist/
"""

import functools
import os
import pathlib
import sys
import time

import numpy as np

from nanoprune.defend import DPSGD
from nanoprune.lab.data import load
from nanoprune.lab.engine.evaluation import accuracy
from nanoprune.lab.engine.passes import default_threads, single_threaded_blas
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.engine.run import LabRun
from nanoprune.lab.privacy.accounting import epsilon, epsilon_rdp, phase
from nanoprune.lab.zoo import build, describe
from nanoprune.records import Records
from nanoprune.schedule import Schedule
from nanoprune.train import train

SETTINGS = {"1": (1.3, 15, 0.1), "2": (0.7, 45, 0.25)}  # noise, epochs, learning rate
WIDTHS = [16, 32, 32]


def run(noise: float, epochs: int, lr: float) -> None:
    folder = os.environ.get("NANOPRUNE_DATA")
    data = load("mnist", pathlib.Path(folder) if folder else None)
    records, threads = Records(data.x, data.y), default_threads()
    members, test = np.arange(60_000)[None], np.arange(60_000, 70_000)[None]
    net = build(describe("lenet-5", (28, 1, 28), 10, WIDTHS)).initialise([np.random.default_rng(0)])
    began = time.perf_counter()

    def tell(epoch: int, losses: np.ndarray) -> None:
        took = time.perf_counter() - began
        print(f"epoch {epoch + 1:2}  test {100 * accuracy(net, records, test)[0]:.2f}%  {took:.0f} s", flush=True)

    with single_threaded_blas():
        plan = Schedule(epochs, batch=240, lr=lr, momentum=0.0)
        run = functools.partial(LabRun, estimate=DPSGD(1.5, noise), group=ProcessGroup(threads), on_epoch=tell)
        train(net, records, members, plan, [], run=run)
    spent = [phase(60_000, 240, noise, epochs)]
    pld, rdp = epsilon(spent, 1e-5), epsilon_rdp(spent, 1e-5)
    print(f"noise {noise}, {epochs} epochs, {net.size:,} parameters: epsilon {pld:.3f} (RDP {rdp:.3f}), ", end="")
    print(f"test accuracy {100 * accuracy(net, records, test)[0]:.2f}%", flush=True)


if __name__ == "__main__":
    for setting in sys.argv[1:] or SETTINGS:
        run(*SETTINGS[setting])
