"""The paper's comparison as tasks, one for each seed: everything that is trained for it, methods and attack networks.

No seed depends on another, so that the parts of all seeds together are what a run that trains all of them would keep in
its checkpoints. `Gathered` stands in their place: the comparison finds all training finished, and draws the figures
from it.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError, DataError, DivergenceError
from nanoprune.lab.data import Dataset
from nanoprune.lab.experiment.experiment import Experiment
from nanoprune.lab.experiment.methods import chosen, is_private, train_methods
from nanoprune.lab.experiment.recipe_file import recipe_of_values
from nanoprune.lab.experiment.recipes import Recipe, usual_recipe
from nanoprune.lab.models.model import MAX_PARAMETERS
from nanoprune.lab.storage.bounded import DAMAGE
from nanoprune.lab.storage.checkpoint import Saved, State, differences, read_checkpoint, write_checkpoint
from nanoprune.lab.storage.hdf5 import Sparse
from nanoprune.lab.tasks.task import COMPARISON, Task, new_task

KINDS = ("net", "curves")  # of a state, the records of arrays with a row for each replica
ATTACK = "attack"  # the name of the attack networks' slots, see `Experiment.attack`


def seed_tasks(dataset: Dataset, recipe: Recipe, seeds: Sequence[int], methods: str) -> list[Task]:
    """A task for each seed of the comparison. Raises ArgumentError, with their names, where some of the methods are
    trained with DP-SGD: their noise is never drawn twice, so that no text could give the same bytes again."""
    noisy = [method.name for method in chosen(recipe, methods) if is_private(method)]
    if noisy:
        raise ArgumentError(f"methods: the noise of {noisy[0]} is never repeated, so it is no task; leave it out")
    about = {"dataset": dataset.name, "data_sha256": dataset.sha256, "table": dataset.table, "methods": methods}
    about["recipe"] = dataclasses.asdict(dataclasses.replace(recipe, seeds=1))  # the same for any number of seeds
    return [new_task(COMPARISON, about | {"seed": seed}) for seed in seeds]


def train_seed(task: Task, dataset: Dataset) -> bytes:
    """Train what the task says on its data set: the bytes of a file that `read_parts` reads.

    Raises DataError where the data set or the recipe are not what they should be. A seed that diverges is a result.
    """
    of, recipe = task.content, recipe_of_task(task, dataset)
    recording = Recording()
    experiment = Experiment(dataset, recipe, [of["seed"]], 1, checkpoints=recording)
    try:
        trained = train_methods(experiment, of["methods"])
        experiment.attack(trained)
    except DivergenceError:
        if not experiment.dropped:
            raise
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "parts.h5")
        write_checkpoint(path, {"task": task.text}, recording.parts)
        return path.read_bytes()


def recipe_of_task(task: Task, dataset: Dataset) -> Recipe:
    """The recipe of a task on its data set. Raises DataError where one of the two is not what it should be."""
    if dataset.sha256 != task.content["data_sha256"]:
        raise DataError(f"{task.name}: {dataset.name} has other records than those it is for; name those with --data")
    return recipe_of_values(task.content["recipe"], usual_recipe(dataset), f"{task.name}: recipe: ")


def read_parts(path: pathlib.Path, text: str, locking: bool | None = None) -> State:
    """The result of a task with this text: {method: {shard: state}}. Raises DataError, naming the file, where it is
    damaged or another's."""
    about, parts = read_checkpoint(path, locking)
    if about != {"task": text}:
        raise DataError(f"{path}: is the result of another task; delete it")
    check_parts(path, parts)
    return parts


def check_parts(path: pathlib.Path, parts: State) -> None:
    """DataError, naming the file, unless the parts are {method: {shard: the state of finished training}}."""
    try:
        whole = all(_is_state(name, of) for m, shards in parts.items() if m != ATTACK for name, of in shards.items())
    except DAMAGE:
        whole = False
    if not whole:
        raise DataError(f"{path}: its parts are not those of a comparison; delete it")


def _is_state(shard: str, state: State) -> bool:
    """Whether it is the finished state of the replicas that the name of a shard says."""
    start, stop = map(int, shard.split("-"))
    left, dropped = state["replicas"], state["dropped"]
    rows = [values.shape[0] for kind in KINDS for values in state[kind].values()]
    status = state.get("status", left)
    known = sorted([*left, *map(int, dropped)]) == list(range(start, stop)) and len(status) == len(left)
    known = known and isinstance(state["made"], list) and len(state["made"]) == stop - start
    return known and all(n == len(left) for n in rows)


class Recording:
    """In place of checkpoints (`storage.checkpoint.Checkpoints`): remembers what was finished. parts: {method: {shard:
    state, with how each replica was trained as "made"}}; of the attack networks {the outputs that were attacked:
    scores}."""

    def __init__(self) -> None:
        self.parts: State = {}

    def slot(self, method: str, shard: slice, made: Any) -> _Recorded:
        parts = self.parts.setdefault(method, {})
        if method == ATTACK:
            return _Recorded(parts, str(made), {})
        return _Recorded(parts, f"{shard.start}-{shard.stop}", {"made": _plain(made)})


class _Slot:
    """What training asks of a slot, of one that resumes nothing and keeps nothing."""

    path = pathlib.Path("task")

    def __init__(self) -> None:
        self.beside: State = {}

    def part(self, name: str) -> _Slot:
        return _Slot()

    def due(self) -> bool:
        return False

    def load(self) -> State | None:
        return None

    def saved(self, replicas: int) -> Saved | None:
        state = self.load()
        return None if state is None else Saved(state, replicas, str(self.path))

    def save(self, state: State) -> None:
        pass


class _Recorded(_Slot):
    def __init__(self, parts: State, name: str, about: State) -> None:
        super().__init__()
        self.parts, self.name, self.about = parts, name, about

    def save(self, state: State) -> None:
        self.parts[self.name] = state | self.beside | self.about


class Gathered:
    """In place of checkpoints: the parts of all seeds, as training that is finished. found: for each seed, in their
    order, the file and what `read_parts` gave."""

    def __init__(self, found: Sequence[tuple[pathlib.Path, State]]) -> None:
        self.paths, self.parts = zip(*found, strict=True)

    def slot(self, method: str, shard: slice, made: Any) -> _Found:
        if method == ATTACK:
            of = next((of[ATTACK][made] for of in self.parts if made in of.get(ATTACK, {})), None)
            return _Found(of, self.paths[0])
        replicas, S = range(shard.start, shard.stop), len(self.parts)
        rows = {r: self._row(method, r % S, r // S, of) for r, of in zip(replicas, _plain(made), strict=True)}
        return _Found(self._joined(method, rows), self.paths[0])

    def _row(self, method: str, seed: int, k: int, made: Any) -> State | str | None:
        """The k-th replica of a method in one seed, each array (1, ...); why it diverged, or None where it did not get
        as far as that. Raises DataError where it should be there, and where it was trained otherwise than `made`."""
        path, parts = self.paths[seed], self.parts[seed]
        for name, state in parts.get(method, {}).items():
            start, stop = map(int, name.split("-"))
            if not start <= k < stop:
                continue
            if state["made"][k - start] != made:
                how = differences({"made": state["made"][k - start]}, {"made": made})
                raise DataError(f"{path}: has a {method} that was trained otherwise: {how}; delete it")
            if str(k) in state["dropped"]:
                return state["dropped"][str(k)]
            row = state["replicas"].index(k)
            arrays = {kind: {n: _full(a, path)[row : row + 1] for n, a in state[kind].items()} for kind in KINDS}
            return arrays | ({"status": state["status"][row]} if "status" in state else {})
        if any(state["dropped"] for name, of in parts.items() if name != ATTACK for state in of.values()):
            return None
        raise DataError(f"{path}: has no {method}; delete it")

    def _joined(self, method: str, rows: dict[int, State | str | None]) -> State:
        """The state of a shard from its replicas, as `train_shard` saves it."""
        left = {r: of for r, of in rows.items() if isinstance(of, dict)}
        state: State = {"finished": True, "replicas": list(left)}
        state["dropped"] = {str(r): why for r, why in rows.items() if isinstance(why, str)}
        for kind in KINDS:
            names = next(iter(left.values()))[kind] if left else ()
            state[kind] = {
                n: np.concatenate([self._padded(of[kind][n], method, n) for of in left.values()]) for n in names
            }
        status = [of["status"] for of in left.values() if "status" in of]
        return state | ({"status": status} if status else {})

    def _padded(self, row: np.ndarray, method: str, name: str) -> np.ndarray:
        """A row (1, n), NaN at its end where another seed has a longer one: training that was stopped later."""
        lengths = [
            s["curves"][name].shape[1] for of in self.parts for s in of.get(method, {}).values() if name in s["curves"]
        ]
        short = max(lengths, default=0) - row.shape[1]
        return np.pad(row, [(0, 0), (0, short)], constant_values=np.nan) if short > 0 else row


class _Found(_Slot):
    def __init__(self, state: State | None, path: pathlib.Path) -> None:
        super().__init__()
        self.state, self.path = state, path

    def load(self) -> State | None:
        return self.state


def _plain(made: Any) -> Any:
    """Plain data, as it is read from a file."""
    return json.loads(json.dumps(made))


def _full(array: np.ndarray | Sparse, path: pathlib.Path) -> np.ndarray:
    """The dense array. Raises DataError where it would be larger than any network's."""
    if isinstance(array, Sparse) and np.prod(array.shape, dtype=object) > MAX_PARAMETERS:
        raise DataError(f"{path}: declares an array of the shape {array.shape}; delete it")
    return array.dense() if isinstance(array, Sparse) else array
