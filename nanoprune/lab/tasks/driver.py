"""Tasks given to an engine, a few at a time, until the store has all of their results."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait

from nanoprune.errors import NanopruneError, Stopped, WorkerError
from nanoprune.lab.engine import interrupt
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.storage.bounded import first_line
from nanoprune.lab.tasks.engines import Engine
from nanoprune.lab.tasks.perform import Machine, perform
from nanoprune.lab.tasks.store import Release, Store
from nanoprune.lab.tasks.task import Task

PULSE = 0.2  # seconds between two looks at signals, and at tasks that other processes have claimed
LOOKS = 64  # of those tasks, looked at each time


def run_tasks(tasks: Iterable[Task], store: Store, engine: Engine, machine: Machine, progress: Progress) -> None:
    """Perform the tasks that are not in the store; it has all of them afterwards.

    tasks: taken one by one, as there is room in the engine's window. One that another process has claimed is left to
    it, and done here if that process ends without a result. progress advances by one a task. Raises what a task raised
    (WorkerError where that is no error of this package), WorkerError, naming the task, where too many workers died of
    it, and Stopped where a signal asked to stop: what was stored stays, and the same call does the rest.
    """
    work = _Work(iter(tasks), store, engine, machine, progress)
    try:
        while work.submit():
            work.collect()
            interrupt.raise_if_stopping()
    finally:
        for claimed in work.running.values():
            claimed.release()


@dataclasses.dataclass
class _Claimed:
    """A task that no other process does meanwhile. deaths: of workers that had it."""

    task: Task
    release: Release
    deaths: int = 0


@dataclasses.dataclass
class _Work:
    """source: the tasks nobody has looked at; elsewhere: those that other processes have claimed; running: the rest."""

    source: Iterator[Task]
    store: Store
    engine: Engine
    machine: Machine
    progress: Progress
    elsewhere: collections.deque[Task] = dataclasses.field(default_factory=collections.deque)
    running: dict[Future, _Claimed] = dataclasses.field(default_factory=dict)

    def submit(self) -> bool:
        """Fill the engine's window; whether anything is left to do."""
        looks = min(LOOKS, len(self.elsewhere))
        while len(self.running) < self.engine.window():
            task = next(self.source, None)
            if task is None and looks:
                looks, task = looks - 1, self.elsewhere.popleft()
            if task is None:
                break
            self._begin(task)
        return bool(self.running or self.elsewhere)

    def _begin(self, task: Task) -> None:
        release = None if self.store.has(task) else self.store.claim(task)
        if self.store.has(task):  # by now, perhaps: whoever had claimed it is done
            if release:
                release()
            self.progress.advance()
        elif release is None:
            self.elsewhere.append(task)
        else:
            self._give(_Claimed(task, release))

    def _give(self, claimed: _Claimed) -> None:
        task = claimed.task
        try:
            future = self.engine.submit(perform, task.text, task.where, self.machine)
        except BaseException:
            claimed.release()
            raise
        self.running[future] = claimed

    def collect(self) -> None:
        """Store what has ended; wait a moment for it."""
        if not self.running:
            time.sleep(PULSE)
            return
        for future in wait(self.running, PULSE, FIRST_COMPLETED).done:
            claimed = self.running.pop(future)
            try:
                died = self._store(claimed, future)
            except BaseException:
                claimed.release()
                raise
            if died:
                self._give(claimed)
            else:
                claimed.release()
                self.progress.advance()

    def _store(self, claimed: _Claimed, future: Future) -> bool:
        """Store the result of a future that is done; True, and nothing stored, where its worker died."""
        task = claimed.task
        if future.cancelled():
            with self.engine.reached():
                future.result()
        try:
            self.store.put(task, future.result())
        except self.engine.lost as error:
            claimed.deaths += 1
            if claimed.deaths > self.engine.retries:
                raise WorkerError(
                    f"{task.name}: every worker that had it died, perhaps out of memory; perform it alone to see why"
                ) from error
            return True
        except Stopped:
            raise
        except NanopruneError as error:
            if not str(error).startswith(task.name):
                error.args = (f"{task.name}: {error}",)
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {first_line(error)}"
            raise WorkerError(f"{task.name}: failed on its worker ({what})") from error
        return False
