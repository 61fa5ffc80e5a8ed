"""A task performed: from its text to the bytes of its result. Engines find `perform` by its name, so that only texts
and bytes travel between processes."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
import threading

import h5py

from nanoprune.backend import use_device
from nanoprune.errors import DataError
from nanoprune.lab.audit.cache import fill
from nanoprune.lab.audit.shadows import make_pool, train_shadows
from nanoprune.lab.audit.sums import log_odds_alone
from nanoprune.lab.data import Dataset, load
from nanoprune.lab.data.catalogue import NAMES
from nanoprune.lab.data.members import read_members, with_members
from nanoprune.lab.data.table_file import is_table, reading_of
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.models.model import check_records
from nanoprune.lab.storage.text import printable
from nanoprune.lab.tasks.comparison import train_seed
from nanoprune.lab.tasks.sweep import train_family
from nanoprune.lab.tasks.task import COMPARISON, SHADOWS, SWEEP, Task, canonical

_one_at_a_time = threading.Lock()  # the number of BLAS threads, which a task sets, is the process's


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a process has to know beside a task's text, as the options of the commands: the device, and where its data
    are. data, members_file: paths, of data of one's own. They change no bits: the data are compared by their hash."""

    device: str = "cpu"
    data_dir: str | None = None
    data: str | None = None
    members_file: str | None = None


def machine_of(
    device: str,
    data_dir: str | os.PathLike | None = None,
    data: str | None = None,
    members_file: str | os.PathLike | None = None,
) -> Machine:
    """The same of the options as they are given: paths are made absolute, since workers have their own folder."""
    from_here = [None if of is None else os.path.abspath(of) for of in (data_dir, members_file)]
    own = data if data is None or data in NAMES else os.path.abspath(data)
    return Machine(device, from_here[0], own, from_here[1])


def perform(text: str, where: str = "task", machine: Machine = Machine()) -> bytes:
    """The result of a task, the bytes of an HDF5 file: the same in every process, one thread computes.

    where: the task's file, for messages. Raises DataError where this process would give other bits, or has other data.
    """
    with _one_at_a_time, single_threaded_blas():
        use_device(machine.device)
        task = Task(text, where)
        task.check_environment()
        return {SHADOWS: _shadows, COMPARISON: _seed, SWEEP: _seed}[task.kind](task, machine)


def _shadows(task: Task, machine: Machine) -> bytes:
    model = task.model()
    dataset = _records(machine, model.dataset, canonical(model.table), task.name)
    check_records(model, dataset)
    block = task.content["block"]
    shadows = train_shadows(model, dataset, task.content["shadows"], 1, Progress(), rows=task.rows, block=block)
    if block:
        pool = make_pool(model, dataset)
        shadows = log_odds_alone(shadows, dataset.y[pool.scored], dataset.y[pool.population])
    whole = io.BytesIO()
    with h5py.File(whole, "w") as file:
        fill(file, task.text, shadows)
    return whole.getvalue()


def _seed(task: Task, machine: Machine) -> bytes:
    of = task.content
    train = train_seed if task.kind == COMPARISON else train_family
    return train(task, _records(machine, of["dataset"], canonical(of["table"]), task.name))


@functools.lru_cache(1)
def _records(machine: Machine, name: str, table: str, who: str) -> Dataset:
    """The data set of a task. table: what its columns are, as JSON. A name that is not of the package is never taken
    for a path: its file is what `machine` says."""
    if machine.data is None and name not in NAMES:
        raise DataError(f"{who}: {printable(name, 40)} is data of your own; name its file with --data")
    about = json.loads(table)
    as_before = about is not None and machine.data is not None and is_table(machine.data)
    reading = dataclasses.asdict(reading_of(about)) if as_before else {}
    dataset = load(machine.data or name, machine.data_dir, **reading)
    if machine.members_file is None:
        return dataset
    return with_members(dataset, read_members(machine.members_file, len(dataset.y)), machine.members_file)
