"""The folder of a run: its identity, its lock, its checkpoints, and how it is finished and resumed.

run.json      the identity, everything that the results depend on; a run of another identity is refused. In a finished
              run also the SHA-256 of every result
checkpoints/  of each shard, see `nanoprune.lab.storage.checkpoint`; removed when the run is finished
finished/     staging: complete results, until they are moved to their final names

A finished run is final: results are complete in finished/ before run.json marks the run as finished, and from then on
nothing is trained again. So one budget of DP-SGD, whose noise is secret and never repeated, never releases two models.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nanoprune.errors import ArgumentError, DataError, DivergenceError, Stopped, VersionError
from nanoprune.lab.engine import interrupt
from nanoprune.lab.engine.identity import identity, versions
from nanoprune.lab.engine.lock import lock_folder
from nanoprune.lab.storage.bounded import read_json
from nanoprune.lab.storage.checkpoint import EVERY, Checkpoints, differences
from nanoprune.lab.storage.files import (
    atomic_path,
    check_writable,
    file_sha256,
    flush_folder,
    remove_temporaries,
    write_json,
)
from nanoprune.lab.storage.own_files import occupied, remove, remove_noted

__all__ = ["Run", "identity", "versions"]

FORMAT = 1
REMEDY = "give --overwrite to begin again"
TRACES = ("run.json", "results.json", "checkpoints")
SHADOWS = re.compile(r"shadows-[0-9a-f]{16}\.(h5|run)")  # kept in checkpoints/shadows, see `lab.audit.cache`


class Run:
    """The folder of one run, as a context manager: the folder is locked inside of it.

    resume: continue the run in the folder. overwrite: remove it. Neither: refuse a folder with files of a run.
    product: the path of the result, if it is one file elsewhere; the folder is removed once that file is written.
    outputs: other files that the run will write there. again: the end of the message that says how to resume.
    Raises ArgumentError where the folder is refused, DataError where it cannot be written or another run holds it.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        resume: bool = False,
        overwrite: bool = False,
        every: float = EVERY,
        product: str | os.PathLike | None = None,
        outputs: Sequence[str] = (),
        again: str = "the same command with --resume continues",
    ) -> None:
        self.folder, self.every, self.outputs, self.again = pathlib.Path(folder), every, outputs, again
        self.product = None if product is None else pathlib.Path(product)
        if resume and overwrite:
            raise ArgumentError("--resume and --overwrite exclude each other: continue, or begin again")
        self.resume, self.overwrite = resume, overwrite
        self.finished = False
        self.begun = False  # whether this process, and no earlier one, began the run
        self.identity: dict[str, Any] = {}
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Run:
        with self.stack:
            self.stack.enter_context(interrupt.graceful())
            handle, self.new = lock_folder(self.folder)
            self.stack.callback(os.close, handle)
            with self._empty_folder_removed():
                check_writable(self.folder)
                for folder in (self.folder, self.folder / "checkpoints"):
                    remove_temporaries(folder)
                self._check_contents()
            self.stack = self.stack.pop_all()
        return self

    def _check_contents(self) -> None:
        """Refuse the folder, or accept its files for resuming or removal. Called under the lock."""
        if self.overwrite:
            return  # the files are removed only when the run begins, after all arguments were accepted
        there = self.product is not None and occupied(self.product)
        if there and not self.resume:
            raise ArgumentError(f"{self.product} already exists; --overwrite makes it again, another --out keeps it")
        found = [name for name in TRACES if os.path.lexists(self.folder / name)]
        self.finished = there and "run.json" not in found  # the run's folder was removed, at least in part
        if found and not self.resume:
            raise ArgumentError(
                f"{self.folder} has a run in it ({found[0]}); --resume continues it, --overwrite begins again, "
                "another --out keeps it"
            )
        if found and "run.json" not in found and not self.finished:
            raise ArgumentError(f"{self.folder} has {found[0]} but no run.json to resume from; give --overwrite")
        others = [name for name in self.outputs if occupied(self.folder / name)]
        if others and not found:
            raise ArgumentError(f"{self.folder} has {others[0]} in it; --overwrite replaces it, another --out keeps it")

    def begin(self, identity: dict[str, Any]) -> None:
        """Set the identity of the run. Raises ArgumentError where the folder has a run of another identity.

        Where that run is finished, `finished` is set and its results are moved to their final names; raises DataError
        where they are not what the run wrote.
        """
        self.identity = json.loads(json.dumps(identity))
        if self.finished:
            return  # the caller checks that the result is the requested one
        if self.overwrite:
            self._remove()
        path = self.folder / "run.json"
        if not path.exists():
            self._write(False, {})
            self.begun = True
            return
        found = _read(path)
        different = differences(found["identity"], self.identity)
        if different:
            raise ArgumentError(
                f"{self.folder} has a different run in it: {different}; give the same options, or --overwrite, or "
                "another --out"
            )
        if found["finished"]:
            self._settle(found["results"])

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints of this run's shards."""
        return Checkpoints(self.folder / "checkpoints", self.identity, self.every)

    def finish(self, write: Callable[[pathlib.Path], None]) -> None:
        """write(folder) writes the results there. Then checkpoints are removed and results get their final names."""
        staged = self.folder / "finished"
        self._remove_staged()
        staged.mkdir(exist_ok=True)
        write(staged)
        flush_folder(staged)
        results = {name: file_sha256(staged / name) for name in self._names()}
        self._write(True, results)
        self._settle(results)

    def _write(self, finished: bool, results: dict[str, str]) -> None:
        content = {"format": FORMAT, "finished": finished, "identity": self.identity}
        write_json(content | ({"results": results} if finished else {}), self.folder / "run.json")

    def _settle(self, results: dict[str, str]) -> None:
        """Complete the clean-up of a finished run, from whatever point it was killed at.

        Checkpoints first: where the state of DP-SGD's noise cannot be removed, the model is not released.
        """
        self._remove_checkpoints()
        for name, sha256 in results.items():
            target, staged = self.product or self.folder / name, self.folder / "finished" / name
            if staged.exists():
                with atomic_path(target) as temporary:
                    shutil.copyfile(staged, temporary)
                remove(staged)
            if not target.exists() or file_sha256(target) != sha256:
                raise DataError(f"{target}: differs from what the finished run wrote; {REMEDY}")
        with contextlib.suppress(OSError):
            (self.folder / "finished").rmdir()
        if self.product:
            remove(self.folder / "run.json")
            self._remove_empty()
        self.finished = True

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        hopeless = isinstance(error, DivergenceError)  # it would diverge again
        raised: BaseException | None = None
        try:
            if error is not None and not isinstance(error, Stopped) and (hopeless or not self._has_checkpoints()):
                self._remove_begun()
            elif self.product and self.finished:
                self._remove_empty()
        except BaseException as failed:
            raised = failed
        stopped = error
        try:
            self.stack.__exit__(None, None, None)
        except Stopped as late:  # after the last point that could react to it
            stopped = error or late
        if isinstance(stopped, Stopped):
            raise self._with_status(stopped) from None
        if raised:
            raise raised

    def _with_status(self, stopped: Stopped) -> Stopped:
        """The error that ends a stopped run, with the status of the run and how to resume it."""
        text = str(stopped).partition(";")[0]
        if self.finished:
            error = Stopped(f"{text}; the run was finished before: {self.product or self.folder} is complete")
        else:
            error = Stopped(f"{text}; the progress is saved in {self.folder}: {self.again}")
        error.signal = stopped.signal
        return error

    def _has_checkpoints(self) -> bool:
        return any(self.folder.glob("checkpoints/**/*.h5")) or (self.folder / "finished").exists()

    def _remove_begun(self) -> None:
        """Remove everything that this process made, where there is nothing to resume."""
        if self.begun and not (self.folder / "results.json").exists():
            self._remove()
        if self.new:
            self._remove_empty()

    def _remove(self) -> None:
        """Remove the files of an earlier run, or of this one, and nothing else."""
        for name in ("run.json", "results.json", "curves.h5"):
            remove(self.folder / name)
        self._remove_staged()
        self._remove_checkpoints()

    def _remove_staged(self) -> None:
        staged = self.folder / "finished"
        if staged.is_dir():
            remove_temporaries(staged)
            for name in self._names():
                remove(staged / name)
            with contextlib.suppress(OSError):
                staged.rmdir()

    def _names(self) -> list[str]:
        """The files that the finished run consists of."""
        return [self.product.name] if self.product else ["results.json", "curves.h5"]

    def _remove_checkpoints(self) -> None:
        folder = self.folder / "checkpoints"
        shadows = folder / "shadows"
        if shadows.is_dir():
            remove_temporaries(shadows)
            for path in filter(lambda path: SHADOWS.fullmatch(path.name), sorted(shadows.iterdir())):
                if path.is_dir() and not path.is_symlink():
                    Run(path, overwrite=True, product=path.with_suffix(".h5"))._remove()
                    with contextlib.suppress(OSError):
                        path.rmdir()
                else:
                    remove(path)
            with contextlib.suppress(OSError):
                shadows.rmdir()
        remove_noted(folder)

    @contextlib.contextmanager
    def _empty_folder_removed(self) -> Iterator[None]:
        """Remove an empty folder that was made for the run, where the run is refused."""
        try:
            yield
        except BaseException:
            if self.new:
                self._remove_empty()
            raise

    def _remove_empty(self) -> None:
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def _read(path: pathlib.Path) -> dict[str, Any]:
    """The content of a run.json. Raises DataError, naming it, where it is not one, VersionError on another format."""
    content = read_json(path, REMEDY)
    form = {"format": int, "identity": dict, "finished": bool}
    if not isinstance(content, dict) or not all(isinstance(content.get(name), kind) for name, kind in form.items()):
        raise DataError(f"{path}: not a run.json of nanoprune; {REMEDY}")
    if content["format"] != FORMAT:
        version = content["format"]
        raise VersionError(f"{path}: format {version}, this version reads {FORMAT}; use the nanoprune that wrote it")
    if content["finished"] and not _hashes(content.get("results")):
        raise DataError(f"{path}: does not list the files of the finished run; {REMEDY}")
    return content


def _hashes(results: Any) -> bool:
    """Whether this is a mapping of file names to SHA-256 hashes."""
    return isinstance(results, dict) and all(
        re.fullmatch(r"[^/\\\0]{1,255}", name) and name not in (".", "..", "run.json")
        and isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)
        for name, value in results.items()
    )  # fmt: skip
