"""A store at a URL, such as s3://bucket/folder or gs://bucket/folder, by fsspec (the extra `remote`)."""

from __future__ import annotations

import contextlib
import pathlib
import posixpath
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.storage.bounded import first_line
from nanoprune.lab.tasks.store import Release, Store, from_worker, read_result
from nanoprune.lab.tasks.task import Task


def open_store(where: str | pathlib.Path) -> Store:
    """The store in a folder, or at a URL. Raises DataError where it cannot be written to."""
    return RemoteStore(where) if isinstance(where, str) and "://" in where else Store(where)


class RemoteStore(Store):
    """As `Store`. A result is written under another name, and renamed. There are no locks, so that processes that are
    given the same tasks may do one twice, to the same bytes.

    Raises ArgumentError where fsspec, or what it needs for such URLs, is not installed, or knows no such URLs.
    """

    def __init__(self, url: str) -> None:
        self.folder: Any = url.rstrip("/")
        try:
            import fsspec

            self.files, self.root = fsspec.url_to_fs(self.folder, use_listings_cache=False)
        except ImportError as error:
            raise ArgumentError(f"{url}: {first_line(error)}; install the extra remote, and what it names") from error
        except ValueError as error:
            raise ArgumentError(f"{url}: {first_line(error)}; name a folder, or a URL that fsspec knows") from error
        with self._reached():
            self.files.makedirs(self.root, exist_ok=True)

    def path(self, task: Task) -> Any:
        """The URL of the task's result."""
        return f"{self.folder}/{task.sha256}.h5"

    def has(self, task: Task) -> bool:
        with self._reached():
            return bool(self.files.exists(self._at(task)))

    def read(self, task: Task) -> Any:
        with self._reached():
            data = self.files.cat_file(self._at(task))
        return self._checked(task, data)

    def put(self, task: Task, result: bytes) -> None:
        with from_worker(task):
            self._checked(task, result)
        part = f"{self._at(task)}.{uuid.uuid4().hex}.part"
        with self._reached():
            self.files.pipe_file(part, result)
            self.files.mv(part, self._at(task))

    def claim(self, task: Task) -> Release:
        return lambda: None

    def _at(self, task: Task) -> str:
        return posixpath.join(self.root, f"{task.sha256}.h5")

    def _checked(self, task: Task, data: bytes) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "result.h5")
            path.write_bytes(data)
            try:
                return read_result(task, path)
            except DataError as error:
                error.args = (str(error).replace(str(path), self.path(task)),)
                raise

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """Every library behind fsspec has errors of its own: each is one line here."""
        try:
            yield
        except Exception as error:
            reason = first_line(error) or type(error).__name__
            raise DataError(f"{self.folder}: {reason}; can this process read and write there?") from error
