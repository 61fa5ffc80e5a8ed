"""The training of a comparison in one queue for each stage, against one method after another; some minutes.

`one-queue-SEEDS`: `train_methods` on Location-30 with all default methods but the game's, on all processors. The peer
is the same where a method begins only once the one before has ended, so that the last shard of each leaves processors
idle. Both give the same bits.

    python benchmarks/one_queue.py [SEEDS]

NANOPRUNE_DATA names the folder above the data.
"""

import os
import pathlib
import sys
import time

import numpy as np
from measure import Times, report

from nanoprune.lab.data import load
from nanoprune.lab.engine.passes import default_threads
from nanoprune.lab.experiment.experiment import Experiment
from nanoprune.lab.experiment.methods import train_methods
from nanoprune.lab.experiment.recipes import recipe_for

ROUNDS = 3


class OneByOne(Experiment):
    """An experiment that trains one method after another."""

    def all_of(self, calls: list) -> list:
        return [call() for call in calls]


def main(seeds: int) -> None:
    folder = os.environ.get("NANOPRUNE_DATA")
    data = load("location30", pathlib.Path(folder) if folder else None)
    recipe, times, thetas = recipe_for(data, minmax=0.0), {Experiment: [], OneByOne: []}, {}
    for _ in range(ROUNDS):
        for kind, taken in times.items():
            began = time.perf_counter()
            trained = train_methods(kind(data, recipe, range(seeds), default_threads()))
            taken.append(time.perf_counter() - began)
            thetas[kind] = np.concatenate([of.net.theta.ravel() for of in trained.values()])
    if not np.array_equal(*thetas.values()):
        raise SystemExit("the two do not have the same bits")
    ours, peer = (Times(*np.percentile(of, [50, 10, 90])) for of in times.values())
    report(f"one-queue-{seeds}", ours, peer, "one method after another", None)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
