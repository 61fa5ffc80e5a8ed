"""What 1,000 and 100,000 shadow models cost: measured on one task of each kind, and multiplied.

    python benchmarks/fleet_costs.py [location30 mnist cifar10]

For each data set (NANOPRUNE_DATA) one task of two shadow models is performed here, by one thread, and a result of its
size is stored 200 times by the real driver, without training. With N models, p in a task and c processes that do
nothing else,

    time = N s / c, at least N / p d        s: seconds a model, d: seconds that the driver needs for a task
    store = 256 b + (N - 256) l             b: bytes a model whose outputs are kept, l: one with log odds alone

CIFAR-10 is ResNet18 with an eighth of its channels and 2,500 members; its task takes about six minutes.
"""

from __future__ import annotations

import functools
import os
import pathlib
import sys
import tempfile
import time

from fleet_scale import nothing

from nanoprune.lab.audit.shadows import BLOCK, make_pool
from nanoprune.lab.data import Dataset, load
from nanoprune.lab.experiment.columns import description_for
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.experiment.recipes import Recipe, recipe_for
from nanoprune.lab.models.model import Model
from nanoprune.lab.tasks import driver
from nanoprune.lab.tasks.engines import open_engine
from nanoprune.lab.tasks.fleet import PER_TASK, shadow_tasks
from nanoprune.lab.tasks.perform import machine_of, perform
from nanoprune.lab.tasks.store import Store
from nanoprune.lab.zoo import build

CASES = {
    "location30": {},
    "mnist": {},
    "cifar10": {"network": "resnet18", "widths": 0.125, "members": 2500, "reference": 2500, "nonmembers": 2500},
}
COUNTS, PROCESSES, TASKS = (1_000, 100_000), (2, 64, 1024), 200


def main() -> None:
    folder = os.environ.get("NANOPRUNE_DATA")
    for name in sys.argv[1:] or CASES:
        data = load(name, pathlib.Path(folder) if folder else None)
        changes = dict(CASES[name])
        recipe = recipe_for(data, changes.pop("members", None), **changes)
        model = untrained(data, recipe)
        tasks = shadow_tasks(model, 2 * BLOCK)
        began = time.perf_counter()
        result = perform(tasks[-1].text, name, machine_of("cpu", folder))
        seconds, small = (time.perf_counter() - began) / PER_TASK, len(result) / PER_TASK
        pool = make_pool(model, data)
        size, per_task = stored(model, len(pool.scored), len(pool.population), data.classes)
        print(f"\n{name}, {recipe.network}, {recipe.members:,} members: {seconds:.1f} s a model,", end=" ")
        print(f"{size / 1e3:.0f} kB or, with log odds alone, {small / 1e3:.0f} kB;", end=" ")
        print(f"the driver {1e3 * per_task:.1f} ms a task")
        print("| models | store GB |" + "".join(f" hours, {c:,} processes |" for c in PROCESSES))
        print("| ---: | ---: |" + " ---: |" * len(PROCESSES))
        for count in COUNTS:
            hours = [max(count * seconds / c, count / PER_TASK * per_task) / 3600 for c in PROCESSES]
            whole = BLOCK * size + (count - BLOCK) * small
            print(f"| {count:,} | {whole / 1e9:.1f} |" + "".join(f" {h:.2g} |" for h in hours), flush=True)


def untrained(data: Dataset, recipe: Recipe) -> Model:
    """A dense model of the recipe; its weights do not matter to the tasks."""
    sizes = (recipe.members, recipe.reference, recipe.nonmembers)
    net = build(description_for(data, recipe))
    return Model(net, data.name, data.sha256, *sizes, 0, [recipe.train_step(0.0)], None, data.table)


def stored(model: Model, records: int, population: int, classes: int) -> tuple[float, float]:
    """Bytes a model of a result with outputs of this form, and the seconds that the driver needs for a task that has
    log odds alone."""
    usual, driver.perform = driver.perform, functools.partial(nothing, records, population, classes)
    try:
        with tempfile.TemporaryDirectory() as folder, open_engine("local", 1) as engine:
            tasks = shadow_tasks(model, BLOCK + PER_TASK * TASKS)
            size = len(driver.perform(tasks[0].text, "task", machine_of("cpu")))
            began = time.perf_counter()
            later = (tasks[len(tasks) - 1 - i] for i in range(TASKS))
            driver.run_tasks(later, Store(folder), engine, machine_of("cpu"), Progress())
            return size / PER_TASK, (time.perf_counter() - began) / TASKS
    finally:
        driver.perform = usual


if __name__ == "__main__":
    main()
