"""What many tasks cost beside their training: time and memory of the driver, size of the store.

    python benchmarks/fleet_scale.py --tasks 100000                        2 worker processes
    python benchmarks/fleet_scale.py --tasks 100000 --executor dask://localhost:8786

Nothing is trained: a task's result is made of zeros, of as many records and classes as --records and --classes say, for
two shadow models. The driver is the real one: claims, checks of results, flushed and renamed files. Linux only.
"""

from __future__ import annotations

import argparse
import io
import pathlib
import sys
import tempfile
import time

import h5py
import numpy as np

from nanoprune.lab.audit.cache import fill
from nanoprune.lab.audit.shadows import Shadows
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.tasks import driver
from nanoprune.lab.tasks.engines import open_engine
from nanoprune.lab.tasks.perform import Machine
from nanoprune.lab.tasks.store import Store
from nanoprune.lab.tasks.task import Task, canonical

TEXT = 1500  # characters of a task: those of the digits' MLP, pruned


def main() -> None:
    parser = argparse.ArgumentParser(description="The driver's time and memory, and the store's size, for many tasks.")
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--records", type=int, default=1000, help="that are scored; as many are the population")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--executor", default="local")
    given = parser.parse_args()
    driver.perform = zeros
    print("| tasks done | ms a task | driver MB | store MB |\n| ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder, open_engine(given.executor, 2) as engine:
        tasks = (some_task(i, given.records, given.classes) for i in range(given.tasks))
        told = Told(pathlib.Path(folder), max(1, given.tasks // 10))
        driver.run_tasks(tasks, Store(folder), engine, Machine(), told)


def some_task(i: int, records: int, classes: int) -> Task:
    return Task(
        canonical({"kind": "shadows", "task": i, "records": records, "classes": classes, "filling": "x" * TEXT})
    )


def zeros(text: str, where: str, machine: Machine) -> bytes:
    """The result of a task in which nothing is trained."""
    of = Task(text).content
    logits = np.zeros((2, of["records"], of["classes"]), np.float32)
    whole = io.BytesIO()
    with h5py.File(whole, "w") as file:
        fill(file, text, Shadows(np.zeros((2, of["records"]), bool), {"train": logits}, {"train": logits}, None))
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
