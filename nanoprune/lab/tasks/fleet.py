"""Tasks planned, performed by an engine and gathered from the store: shadow models, and the seeds of a comparison."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError, DataError, Stopped
from nanoprune.lab.audit.cache import BY_SHADOW
from nanoprune.lab.audit.shadows import BLOCK, FEWEST, Shadows, as_trained, check_shadows, make_pool, recipe_steps
from nanoprune.lab.audit.sums import Sums
from nanoprune.lab.audit.target import attackers
from nanoprune.lab.data import Dataset
from nanoprune.lab.engine import interrupt
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.models.model import Model, check_records
from nanoprune.lab.storage.checkpoint import Checkpoints
from nanoprune.lab.storage.files import atomic_path, check_writable
from nanoprune.lab.tasks.comparison import Gathered
from nanoprune.lab.tasks.driver import run_tasks
from nanoprune.lab.tasks.engines import Engine, check_engine, open_engine
from nanoprune.lab.tasks.perform import Machine
from nanoprune.lab.tasks.remote import open_store
from nanoprune.lab.tasks.task import Task, canonical, task_of, which

PER_TASK = 2  # shadow models


class ShadowTasks(Sequence[Task]):
    """The tasks of a fleet, whose texts are made when they are asked for: a list of 50,000 would take 100 MB."""

    def __init__(self, model: Model, places: list[dict[str, Any]]) -> None:
        self.places, self.common = places, task_of(model, FEWEST, slice(0, 1)).content

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, i: int | slice) -> Task | list[Task]:
        if isinstance(i, slice):
            return [self[place] for place in range(*i.indices(len(self)))]
        return Task(canonical(self.common | self.places[i]))


def shadow_tasks(model: Model, shadows: int, per_task: int = PER_TASK) -> ShadowTasks:
    """The tasks that train K shadow models of `model`, `per_task` in each and perhaps fewer in the last of a block.

    More than BLOCK shadow models are those of several blocks, so that with more of them later all that are done count.
    Raises ArgumentError on numbers that cannot be used, and where the model was trained with DP-SGD: its noise is
    never drawn twice, so that no text could give the same bytes again.
    """
    check_shadows(shadows)
    if per_task < 1:
        raise ArgumentError(f"shadow models per task must be at least 1, got {per_task}")
    if any(step["step"] == "private" for step in model.steps):
        raise ArgumentError(
            "the model was trained with DP-SGD, whose noise is never repeated: its shadow models are no tasks; attack "
            "it with --cache"
        )
    places = []
    for block, first in enumerate(range(0, shadows, BLOCK)):
        here = min(BLOCK, shadows - first)
        drawn = BLOCK if block else here  # of a later block all are drawn, whichever are trained
        starts = range(0, here, per_task)
        places += [which(block, drawn, slice(start, min(start + per_task, here))) for start in starts]
    return ShadowTasks(model, places)


def plan(model: Model, dataset: Dataset, shadows: int, per_task: int = PER_TASK) -> Sequence[Task]:
    """The tasks of all shadow models with which `attack_model` attacks `model`: by its own recipe, and where it was
    defended by the recipe without defence too. Raises as `attack_model` does, before any training."""
    check_records(model, dataset)
    model, _ = as_trained(model, dataset)
    recipe_steps(model, dataset)
    make_pool(model, dataset)
    found = [shadow_tasks(of, shadows, per_task) for of in attackers(model).values()]
    return found[0] if len(found) == 1 else [task for tasks in found for task in tasks]


def write_plan(tasks: Sequence[Task], folder: pathlib.Path) -> None:
    """Write the tasks as task-0.json, task-1.json, ... Raises ArgumentError where the folder has other tasks: a file is
    left alone, or written anew with the same content."""
    check_writable(folder)
    place = {folder / f"task-{i}.json": i for i in range(len(tasks))}
    for path in folder.glob("task-*.json"):
        if path not in place or path.read_text("utf-8", "replace") != tasks[place[path]].text + "\n":
            raise ArgumentError(f"{path}: is of another plan; name another folder")
    for path, i in place.items():
        with atomic_path(path) as temporary:
            temporary.write_text(tasks[i].text + "\n", "utf-8")


class Fleet:
    """A store and the engine that fills it, opened when there is something to do; a context manager.

    store: a folder, or a URL (`remote`). executor: a name of `engines`. workers: processes, where this process starts
    them.
    """

    def __init__(
        self, store: str | pathlib.Path, executor: str, workers: int, machine: Machine, per_task: int = PER_TASK
    ) -> None:
        check_engine(executor)
        self.store, self.machine, self.per_task = open_store(store), machine, per_task
        self.executor, self.workers = executor, workers
        self.stack, self.engine = contextlib.ExitStack(), None

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *error: object) -> bool | None:
        return self.stack.__exit__(*error)

    def perform(self, tasks: Sequence[Task], progress: Progress) -> None:
        """Do the tasks that the store has not. Raises as `run_tasks`."""
        progress.start("tasks", len(tasks))
        try:
            with interrupt.graceful():
                if all(self.store.has(task) for task in tasks):  # no engine is started for nothing
                    progress.advance(len(tasks))
                else:
                    run_tasks(tasks, self.store, self._engine(), self.machine, progress)
        except Stopped as stopped:
            text = str(stopped).partition(";")[0]
            error = Stopped(f"{text}; finished tasks are in {self.store.folder}: the same command does the others")
            error.signal = stopped.signal
            raise error from None

    def _engine(self) -> Engine:
        if self.engine is None:
            self.engine = self.stack.enter_context(open_engine(self.executor, self.workers))
        return self.engine

    def train(
        self,
        model: Model,
        dataset: Dataset,
        shadows: int,
        threads: int,
        progress: Progress,
        checkpoints: Checkpoints | None = None,
    ) -> Shadows:
        """As `train_shadows`, to the same bits: from the store, where it has them. Of more than BLOCK shadows the rest
        is added up as it is read."""
        tasks = shadow_tasks(model, shadows, self.per_task)
        self.perform(tasks, progress)
        whole, rest, forms = [], None, {}
        for task in tasks:
            part, later = self.store.read(task), task.content["block"] > 0
            form = forms.setdefault(later, _form(part))
            if len(part.inside) != task.rows.stop - task.rows.start or _form(part) != form:
                raise DataError(f"{self.store.path(task)}: has other arrays than its task makes; delete it")
            if later:
                rest = Sums.of(part) if rest is None else rest + Sums.of(part)
            else:
                whole.append(part)
        return dataclasses.replace(joined(whole), rest=rest)

    def gather(self, tasks: Sequence[Task], progress: Progress) -> Gathered:
        """The training of a comparison, from the store and, what is missing there, performed. Raises as `run_tasks`."""
        return Gathered(self.results(tasks, progress))

    def results(self, tasks: Sequence[Task], progress: Progress) -> list[tuple[pathlib.Path, Any]]:
        """The file and the content of each result, of which those that are missing are made. Raises as `run_tasks`."""
        self.perform(tasks, progress)
        return [(self.store.path(task), self.store.read(task)) for task in tasks]


def _form(of: Shadows) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays, but for the number of shadows."""
    arrays = {"inside": of.inside} | {name: getattr(of, name) for name in BY_SHADOW if getattr(of, name) is not None}
    arrays |= {f"{kind}/{stage}": a for kind in ("logits", "population") for stage, a in getattr(of, kind).items()}
    return {name: array.shape[1:] for name, array in arrays.items()}


def joined(parts: Sequence[Shadows]) -> Shadows:
    """The shadows of several tasks, in their order."""
    first = parts[0]
    logits, population = (
        {stage: np.concatenate([getattr(part, kind)[stage] for part in parts]) for stage in getattr(first, kind)}
        for kind in ("logits", "population")
    )
    others = (
        None if getattr(first, name) is None else np.concatenate([getattr(part, name) for part in parts])
        for name in BY_SHADOW
    )
    return Shadows(np.concatenate([part.inside for part in parts]), logits, population, *others)
