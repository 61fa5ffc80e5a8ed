"""A sweep as tasks, one for each family of methods and seed: the baseline, and the family at each of its settings."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

from nanoprune.errors import ArgumentError, DataError, DivergenceError
from nanoprune.lab.data import Dataset
from nanoprune.lab.experiment.experiment import Experiment
from nanoprune.lab.experiment.recipes import Recipe
from nanoprune.lab.experiment.sweep import Sweep, chosen_sweeps
from nanoprune.lab.storage.checkpoint import State, read_checkpoint, write_checkpoint
from nanoprune.lab.tasks.comparison import Gathered, Recording, check_parts, recipe_of_task
from nanoprune.lab.tasks.task import SWEEP, Task, new_task

BASELINE = "baseline"  # beside the settings, each of them a number


def family_tasks(
    dataset: Dataset,
    recipe: Recipe,
    seeds: Sequence[int],
    families: Sequence[str],
    keeps: Sequence[float],
    lambdas: Sequence[float],
) -> list[Task]:
    """A task for each family and seed, the seeds of a family together. Raises ArgumentError on families with DP-SGD,
    whose noise is never drawn twice."""
    noisy = [sweep.name for sweep in chosen_sweeps(recipe, families, keeps, lambdas) if sweep.private]
    if noisy:
        raise ArgumentError(f"families: the noise of {noisy[0]} is never repeated, so it is no task; leave it out")
    about = {"dataset": dataset.name, "data_sha256": dataset.sha256, "table": dataset.table}
    about |= {"recipe": dataclasses.asdict(dataclasses.replace(recipe, seeds=1))}
    about |= {"keeps": list(keeps), "lambdas": list(lambdas)}
    return [new_task(SWEEP, about | {"family": name, "seed": seed}) for name in families for seed in seeds]


def train_family(task: Task, dataset: Dataset) -> bytes:
    """Train what the task says on its data set: the bytes of a file that `read_family` reads.

    Raises DataError where the data set, the recipe or the family are not what they should be. A setting at which the
    training diverges is a result.
    """
    of, recipe = task.content, recipe_of_task(task, dataset)
    (sweep,) = chosen_sweeps(recipe, [of["family"]], of["keeps"], of["lambdas"])
    left_out, parts = {}, {BASELINE: Recording()}
    first = Experiment(dataset, recipe, [of["seed"]], 1, checkpoints=parts[BASELINE])
    try:
        baseline = first.dense(BASELINE)
        for setting in sweep.settings:
            name = f"{setting:g}"
            parts[name] = Recording()
            experiment = Experiment(dataset, recipe, [of["seed"]], 1, checkpoints=parts[name], splits=first.splits)
            try:
                experiment.attack({"point": sweep.train(experiment, baseline, setting)})
            except DivergenceError as error:
                left_out[name] = str(error)
    except DivergenceError as error:  # the baseline's: there is nothing to compare with
        left_out[BASELINE] = str(error)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "parts.h5")
        kept = {name: recording.parts for name, recording in parts.items() if name not in left_out}
        write_checkpoint(path, {"task": task.text, "left_out": left_out}, kept)
        return path.read_bytes()


def read_family(path: pathlib.Path, text: str, locking: bool | None = None) -> tuple[dict[str, str], State]:
    """The result of a task with this text: why settings were left out, and {setting: {method: {shard: state}}}. Raises
    DataError, naming the file, where it is damaged or another's."""
    about, parts = read_checkpoint(path, locking)
    left_out = about.pop("left_out", None) if isinstance(about, dict) else None
    if about != {"task": text}:
        raise DataError(f"{path}: is the result of another task; delete it")
    texts = isinstance(left_out, dict) and all(isinstance(reason, str) for reason in left_out.values())
    if not texts or not (BASELINE in parts or BASELINE in left_out):
        raise DataError(f"{path}: its parts are not those of a sweep; delete it")
    for of in parts.values():
        check_parts(path, of)
    return left_out, parts


class GatheredFamilies:
    """The training of a sweep from the results of its tasks. found: for each task its file and what `read_family`
    gave."""

    def __init__(
        self, tasks: Sequence[Task], found: Sequence[tuple[pathlib.Path, tuple[dict[str, str], State]]]
    ) -> None:
        self.found: dict[str, list[tuple[pathlib.Path, tuple[dict[str, str], State]]]] = {}
        for task, of in zip(tasks, found, strict=True):
            self.found.setdefault(task.content["family"], []).append(of)

    def left_out(self, sweep: Sweep, setting: Any) -> str | None:
        """Why a setting was left out, or None: the reason of the first seed that has one."""
        name = setting if setting == BASELINE else f"{setting:g}"
        return next((left_out[name] for _, (left_out, _) in self.found[sweep.name] if name in left_out), None)

    def checkpoints(self, sweep: Sweep, setting: Any) -> Gathered:
        """The training of all seeds at a setting, or of the baseline. Raises DataError where one of them lacks it."""
        name = setting if setting == BASELINE else f"{setting:g}"
        missing = [path for path, (_, parts) in self.found[sweep.name] if name not in parts]
        if missing:
            raise DataError(f"{missing[0]}: has no {name}; delete it")
        return Gathered([(path, parts[name]) for path, (_, parts) in self.found[sweep.name]])
