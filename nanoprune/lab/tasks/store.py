"""The store: a folder with the results of tasks, each a file named by the SHA-256 of its task's text.

A result is there whole or not at all: it is written under a temporary name, checked, flushed and renamed. Nothing else
in the folder is read. Processes that share the folder claim a task by locking a file beside its result; where the file
system has no locks a task may be done twice, to the same bytes.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from nanoprune.errors import DataError
from nanoprune.lab.audit.cache import read_shadows
from nanoprune.lab.storage.files import atomic_path, check_writable, lock
from nanoprune.lab.tasks.comparison import read_parts
from nanoprune.lab.tasks.sweep import read_family
from nanoprune.lab.tasks.task import COMPARISON, SHADOWS, SWEEP, Task

Release = Callable[[], None]
READERS = {SHADOWS: read_shadows, COMPARISON: read_parts, SWEEP: read_family}


def read_result(task: Task, path: pathlib.Path) -> Any:
    """The result of a task in a file, see `Store.read`. Without locks: a result never changes, not every disk has
    locks, and a new file is locked by `atomic_path`."""
    return READERS[task.kind](path, task.text, locking=False)


@contextlib.contextmanager
def from_worker(task: Task) -> Iterator[None]:
    """Reading what a worker has sent: DataError, naming the task, where it is not its result."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{task.name}: what came from the worker is not its result; perform it again") from error


class Store:
    """The results in `folder`, which is made where it is missing. Raises DataError where it cannot be written to."""

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = pathlib.Path(folder)
        check_writable(self.folder)

    def path(self, task: Task) -> pathlib.Path:
        """Where the result of the task is, once it is done."""
        return self.folder / f"{task.sha256}.h5"

    def has(self, task: Task) -> bool:
        """Whether the task is done."""
        return self.path(task).exists()

    def read(self, task: Task) -> Any:
        """The result of a task that is done: `Shadows`, or the parts of a comparison or a sweep. Raises DataError,
        naming the file, where it is damaged or another's."""
        return read_result(task, self.path(task))

    def put(self, task: Task, result: bytes) -> None:
        """Keep the result, the bytes of a file. Raises DataError where they are not the task's result, or the folder
        cannot be written to."""
        with atomic_path(self.path(task)) as temporary:
            temporary.write_bytes(result)
            with from_worker(task):
                read_result(task, temporary)

    def claim(self, task: Task) -> Release | None:
        """Claim a task until the returned function is called or this process ends; None where another has it."""
        path = self.folder / f"{task.sha256}.claim"
        handle = os.open(path, os.O_CREAT | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            lock(handle)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:  # a file system without locks: the others cannot be recognised
            pass

        def release() -> None:
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(handle)

        return release
