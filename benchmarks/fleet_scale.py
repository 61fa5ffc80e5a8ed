"""What many tasks cost beside their training: time and memory of the driver, size of the store, and gathering.

    python benchmarks/fleet_scale.py --tasks 100000                        2 worker processes
    python benchmarks/fleet_scale.py --tasks 100000 --executor dask://localhost:8786

Nothing is trained: a result is random numbers, for two shadow models and as many records and classes as --records
and --classes say. The rest is the real thing: texts of tasks, claims, checks of results, flushed and renamed files, and
at the end `Fleet.train`, which reads all results and adds up what it does not keep. Linux only.
"""

from __future__ import annotations

import argparse
import functools
import io
import pathlib
import sys
import tempfile
import time

import h5py
import numpy as np

from nanoprune.lab.audit.cache import fill
from nanoprune.lab.audit.shadows import Shadows
from nanoprune.lab.audit.sums import log_odds_alone
from nanoprune.lab.data import load
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.tasks import driver
from nanoprune.lab.tasks.fleet import PER_TASK, Fleet, shadow_tasks
from nanoprune.lab.tasks.perform import Machine
from nanoprune.lab.tasks.task import Task
from nanoprune.lab.workflow.single_model import train_model


def main() -> None:
    parser = argparse.ArgumentParser(description="The driver's time and memory, and the store's size, for many tasks.")
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--records", type=int, default=1000, help="that are scored; as many are the population")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--executor", default="local")
    given = parser.parse_args()
    digits = load("digits")
    model = train_model(digits, recipe_for(digits, 400, network="mlp", minmax=0.0), 0, 1)
    driver.perform = functools.partial(nothing, given.records, given.records, given.classes)
    period, shadows = max(1, given.tasks // 10), PER_TASK * given.tasks
    with tempfile.TemporaryDirectory() as folder, Fleet(folder, given.executor, 2, Machine()) as fleet:
        print("| tasks done | ms a task | driver MB | store MB |\n| ---: | ---: | ---: | ---: |")
        fleet.perform(shadow_tasks(model, shadows), Told(pathlib.Path(folder), period))
        began, before = time.perf_counter(), resident()
        found = fleet.train(model, digits, shadows, 1, Progress())
        seconds = time.perf_counter() - began
        print(f"\ngathered: {len(found.inside)} shadow models whole, {found.rest.shadows:,} in sums;", end=" ")
        print(f"{1e3 * seconds / given.tasks:.1f} ms a task, {resident():.0f} MB ({before:.0f} before)")


def nothing(records: int, population: int, classes: int, text: str, where: str, machine: Machine) -> bytes:
    """The result of a task in which nothing is trained: of its form, with random numbers."""
    of, rng = Task(text).content, np.random.default_rng(0)
    half = rng.permutation(records) < records // 2
    outputs, others = (rng.standard_normal((PER_TASK, n, classes), np.float32) for n in (records, population))
    shadows = Shadows(np.stack([half, ~half]), {"train": outputs}, {"train": others}, None, np.abs(outputs))
    if of["block"]:
        shadows = log_odds_alone(shadows, *(rng.integers(0, classes, n) for n in (records, population)))
    whole = io.BytesIO()
    with h5py.File(whole, "w") as file:
        fill(file, text, shadows)
    return whole.getvalue()


class Told(Progress):
    """A line for every `period` tasks."""

    def __init__(self, folder: pathlib.Path, period: int) -> None:
        self.folder, self.period, self.done, self.began = folder, period, 0, time.perf_counter()

    def advance(self, steps: int = 1) -> None:
        self.done += steps
        if self.done % self.period == 0:
            seconds = time.perf_counter() - self.began
            print(f"| {self.done:,} | {1e3 * seconds / self.period:.1f} | {resident():.0f} | {size(self.folder):.0f} |")
            sys.stdout.flush()
            self.began = time.perf_counter()  # without the time that the count of the store took


def resident() -> float:
    """MB of this process in memory."""
    fields = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in fields if line.startswith("VmRSS:")) / 1000


def size(folder: pathlib.Path) -> float:
    """MB of the files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


if __name__ == "__main__":
    main()
