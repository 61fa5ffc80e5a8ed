"""A run's folder: what it is a run of, its lock, and how it is gone on with after an interruption.

run.json    the run's identity: everything that its results depend on. A run of another identity is refused.
checkpoints/    of each shard, see `nanoprune.lab.storage.checkpoint`; removed when the results are there.

The lock is on the folder itself and held by the system for the process, so that it is gone with it, however it ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import platform
import shutil
import time
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import scipy
import threadpoolctl

import nanoprune
from nanoprune.backend import device_name, precision
from nanoprune.errors import ArgumentError, DataError, DivergenceError, Stopped, VersionError
from nanoprune.lab.data import Dataset, Split, splits_sha256
from nanoprune.lab.engine import interrupt
from nanoprune.lab.storage.bounded import read_json
from nanoprune.lab.storage.checkpoint import EVERY, Checkpoints, differences
from nanoprune.lab.storage.files import check_writable, remove_temporaries, write_json

try:
    import fcntl
except ImportError:  # Windows has no such lock
    fcntl = None

FORMAT = 1
PATIENCE = 5.0  # seconds to wait for the lock: the workers of a run that was killed end a moment after it
REMEDY = "give --overwrite to begin again"
TRACES = ("run.json", "results.json", "checkpoints")


class Run:
    """The folder of one run, as a context: locked inside of it.

    resume: go on with what is there. overwrite: remove what is there. Neither: refuse a folder with something of a run.
    temporary: the folder is of no use once the run is finished. again: the end of the sentence that says how to go on.
    Raises ArgumentError where the folder is refused, DataError where it cannot be written or another run holds it.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        resume: bool = False,
        overwrite: bool = False,
        every: float = EVERY,
        temporary: bool = False,
        again: str = "the same command and --resume go on",
    ) -> None:
        self.folder, self.every, self.temporary, self.again = pathlib.Path(folder), every, temporary, again
        if resume and overwrite:
            raise ArgumentError("--resume and --overwrite exclude each other: go on, or begin again")
        self.resume, self.overwrite = resume, overwrite
        self.finished = False
        self.begun = False  # by this process, and no earlier one
        self.identity: dict[str, Any] = {}
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Run:
        new = not self.folder.exists()
        check_writable(self.folder)
        with self.stack:
            self.stack.enter_context(interrupt.graceful())
            self.stack.callback(os.close, _lock(self.folder))
            for folder in (self.folder, self.folder / "checkpoints"):
                remove_temporaries(folder)
            self._look_around()
            self.stack = self.stack.pop_all()
        self.new = new
        return self

    def _look_around(self) -> None:
        """Refuse what is there, or find it fit to go on with or to be removed."""
        found = [name for name in TRACES if (self.folder / name).exists()]
        if not found:
            return
        if self.overwrite:
            return  # what is there goes when the run begins, and not where an argument is refused before
        if not self.resume:
            raise ArgumentError(
                f"{self.folder} has a run in it ({found[0]}); --resume goes on with it, --overwrite begins again, "
                "another --out leaves it alone"
            )
        if "run.json" not in found:
            raise ArgumentError(f"{self.folder} has {found[0]} but no run.json to go on by; give --overwrite")

    def begin(self, identity: dict[str, Any]) -> None:
        """Say what this is a run of. Raises ArgumentError where the folder has a run of something else."""
        self.identity = json.loads(json.dumps(identity))
        if self.overwrite:
            self._remove()
        path = self.folder / "run.json"
        if not path.exists():
            write_json({"format": FORMAT, "finished": False, "identity": self.identity}, path)
            self.begun = True
            return
        found = _read(path)
        different = differences(found["identity"], self.identity)
        if different:
            raise ArgumentError(
                f"{self.folder} has another run in it: {different}; give the same options, or --overwrite, or "
                "another --out"
            )
        self.finished = found["finished"]
        if self.finished:  # and killed before it could remove them
            shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)

    @property
    def checkpoints(self) -> Checkpoints:
        """Where its shards keep theirs."""
        return Checkpoints(self.folder / "checkpoints", self.identity, self.every)

    def finish(self) -> None:
        """The results are there: the checkpoints go, and with a temporary folder all of it."""
        if not self.temporary:
            write_json({"format": FORMAT, "finished": True, "identity": self.identity}, self.folder / "run.json")
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        if self.temporary:
            (self.folder / "run.json").unlink(missing_ok=True)
            self._remove_empty()
        self.finished = True

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        try:
            if isinstance(error, Stopped):
                text = str(error).partition(";")[0]
                stopped = Stopped(f"{text}; what was done is in {self.folder}: {self.again}")
                stopped.signal = error.signal
                raise stopped from None
            hopeless = isinstance(error, DivergenceError)  # it would diverge again
            if error is not None and (hopeless or not any(self.folder.glob("checkpoints/**/*.h5"))):
                self._remove_begun()
        finally:
            self.stack.close()

    def _remove_begun(self) -> None:
        """Where there is nothing to go on with, nothing of this process is left."""
        if self.begun and not (self.folder / "results.json").exists():
            self._remove()
        if self.new:
            self._remove_empty()

    def _remove(self) -> None:
        for name in ("run.json", "results.json", "curves.h5"):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)

    def _remove_empty(self) -> None:
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def _read(path: pathlib.Path) -> dict[str, Any]:
    """The content of a run.json. Raises DataError, naming it, where it is none, VersionError on another format."""
    content = read_json(path, REMEDY)
    form = {"format": int, "identity": dict, "finished": bool}
    if not isinstance(content, dict) or not all(isinstance(content.get(name), kind) for name, kind in form.items()):
        raise DataError(f"{path}: is no run.json of nanoprune; {REMEDY}")
    if content["format"] != FORMAT:
        version = content["format"]
        raise VersionError(f"{path}: format {version}, this version reads {FORMAT}; use the nanoprune that wrote it")
    return content


def _lock(folder: pathlib.Path) -> int:
    """Lock a folder for as long as the file descriptor that is returned is open here or in a worker."""
    if fcntl is None:
        return os.open(os.devnull, os.O_RDONLY)
    until = time.monotonic() + PATIENCE
    while True:
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            os.close(handle)
            if time.monotonic() > until:
                raise DataError(f"{folder}: another run is at work in it; wait for its end or name another") from None
        except OSError as error:  # a file system without locks
            os.close(handle)
            raise DataError(f"{folder}: cannot be locked ({error.strerror}); name a folder on another disk") from error
        time.sleep(0.05)


def versions() -> dict[str, str]:
    """Of all that the numbers depend on."""
    found = {
        "nanoprune": nanoprune.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "h5py": h5py.__version__,
    }
    return found


def blas() -> list[str]:
    """The libraries of matrix products, with the kind of processor that they chose their code for."""
    of = ("internal_api", "version", "architecture")
    libraries = [i for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas"]
    return sorted({" ".join(str(library.get(name)) for name in of) for library in libraries})


@functools.cache
def code_sha256() -> str:
    """SHA-256 of this package's source: a run is not to go on by other code than it began by."""
    folder, digest = pathlib.Path(nanoprune.__file__).parent, hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def identity(
    dataset: Dataset, recipe: Any, seeds: Sequence[int], threads: int, splits: Sequence[Split], **more: Any
) -> dict[str, Any]:
    """What the bits of a run's results depend on, as plain data."""
    return {
        "dataset": dataset.title,
        "data_sha256": dataset.sha256,
        "splits_sha256": splits_sha256(splits),
        "seeds": list(seeds),
        "threads": threads,
        "device": device_name(),
        "precision": precision(),
        "versions": versions() | {"blas": blas(), "code": code_sha256()},
        "recipe": dataclasses.asdict(recipe),
    } | more
