"""Checkpoints: the state of a shard's training in a file, from which training resumes with the same bits.

A state is plain data: a nested dictionary of arrays and lists with one entry per replica (the replica axis is the first
one), and of numbers and strings. `engine.states` takes the state of an optimiser, ADMM, game or mask and restores it,
checking each array. docs/formats.md describes the file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

import nanoprune
from nanoprune.errors import DataError, VersionError
from nanoprune.lab.storage.bounded import DAMAGE, first_line, number_attribute, open_hdf5, stored_text
from nanoprune.lab.storage.files import flush_folder
from nanoprune.lab.storage.hdf5 import Sparse, dense, new_file, packed, read_array, write_array, write_text
from nanoprune.lab.storage.own_files import note
from nanoprune.lab.storage.text import printable

FORMAT = 1
EVERY = 30.0  # seconds between two checkpoints of a shard
MAX_ITEMS = 10_000  # arrays of a checkpoint
MAX_DEPTH = 6
MOST_WORDS = 400  # characters of a description of the differences between two runs

State = dict[str, Any]


class Saved:
    """A state as it was read from a file. Every value is checked when it is taken out, against what is expected."""

    def __init__(self, values: State, replicas: int, where: str) -> None:
        self.values, self.replicas, self.where = values, replicas, where

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def part(self, name: str) -> Saved:
        """A nested dictionary."""
        return Saved(self.value(name, dict), self.replicas, self.where)

    def array(self, name: str, shape: tuple[int, ...], dtype: Any = np.float32, finite: bool = True) -> np.ndarray:
        """The array `name` of that shape and type."""
        array = self.values.get(name)
        if not isinstance(array, (np.ndarray, Sparse)):
            raise DataError(f"{self.where}: {name} is missing")
        array = dense(array, shape, dtype, f"{self.where}: {name}")
        if finite and not np.isfinite(array).all():
            raise DataError(f"{self.where}: {name} holds NaN or infinity")
        return array

    def rows(self, name: str, dtype: Any = None, most: int = 1_000_000) -> np.ndarray:
        """The array `name`, one row per replica, of any length up to `most`."""
        array = self.values.get(name)
        if not isinstance(array, (np.ndarray, Sparse)) or len(array.shape) != 2 or array.shape[1] > most:
            raise DataError(f"{self.where}: {name} is not an array of one row per replica")
        return self.array(name, (self.replicas, array.shape[1]), array.dtype if dtype is None else dtype, finite=False)

    def value(self, name: str, kind: type, least: float | None = None, most: float | None = None) -> Any:
        """The plain value `name`, of that type and, for numbers, within the range."""
        value = self.values.get(name)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise DataError(f"{self.where}: {name} is {value!r}, expected {kind.__name__}")
        if (least is not None and not value >= least) or (most is not None and not value <= most):
            raise DataError(f"{self.where}: {name} is {value}, expected {least} to {most}")
        return value

    def each(self, name: str, kind: type) -> list:
        """The list `name`, one entry of that type a replica."""
        values = self.value(name, list)
        if len(values) != self.replicas or not all(isinstance(value, kind) for value in values):
            raise DataError(f"{self.where}: {name} is not a list of {self.replicas} {kind.__name__}, one per replica")
        return values


def generators_state(generators: Sequence[np.random.Generator]) -> list[dict[str, Any]]:
    """The states of PCG64 generators as plain integers."""
    return [generator.bit_generator.state for generator in generators]


def restore_generators(generators: Sequence[np.random.Generator], saved: Saved, name: str) -> None:
    """Restore the states of the generators. Raises DataError where they are not those of PCG64."""
    for generator, state in zip(generators, saved.each(name, dict), strict=True):
        inside = Saved(state, 1, f"{saved.where}: {name}")
        if inside.value("bit_generator", str) != type(generator.bit_generator).__name__:
            raise DataError(f"{saved.where}: {name} are {state['bit_generator']}, this version draws from PCG64")
        inside.value("has_uint32", int, 0, 1)
        inside.value("uinteger", int, 0, 2**32 - 1)
        numbers = inside.part("state")
        numbers.value("state", int, 0, 2**128 - 1)
        if numbers.value("inc", int, 0, 2**128 - 1) % 2 == 0 or set(state["state"]) != {"state", "inc"}:
            raise DataError(f"{saved.where}: {name} has an even increment, impossible for PCG64")
        generator.bit_generator.state = state


def write_checkpoint(path: str | os.PathLike, about: dict[str, Any], state: State) -> None:
    """Write a state, whole or not at all. about: plain data that identifies the run and the shard.

    Only its owner may read the file: it has the state of DP-SGD's noise, with which the noise could be removed.
    Raises DataError where the file cannot be written.
    """
    arrays, values = _divided(state)
    with new_file(path, private=True) as file:
        file.attrs["format"] = FORMAT
        texts = [json.dumps(x, allow_nan=False) for x in (about, values)]
        _write(file.create_group("state"), arrays)
        words = (nanoprune.__version__, *texts, _content(*texts, arrays))
        for name, text in zip(("nanoprune", "about", "values", "content"), words, strict=True):
            write_text(file, name, text)


def _divided(state: State) -> tuple[State, State]:
    """The arrays of a state, packed for writing, and its plain values; nested dictionaries are in both."""
    arrays: State = {}
    plain: State = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            arrays[name] = packed(value)
        elif isinstance(value, dict):
            arrays[name], plain[name] = _divided(value)
        else:
            plain[name] = value
    return arrays, plain


def _write(group: h5py.Group, arrays: State) -> None:
    for name, value in arrays.items():
        if isinstance(value, dict):
            _write(group.create_group(name), value)
        else:
            write_array(group, name, value)


def read_checkpoint(path: str | os.PathLike, locking: bool | None = None) -> tuple[dict[str, Any], State]:
    """about and the state, with sparse arrays as `Sparse`: memory is allocated only for what the file stores. locking:
    of `open_hdf5`.

    Raises DataError, naming the file, where it is missing or damaged, VersionError where it is of another format.
    """
    try:
        with open_hdf5(path, locking=locking) as file:
            version = number_attribute(file, "format", path)
            by, content = (stored_text(file, name, path) for name in ("nanoprune", "content"))
            if version != FORMAT:
                raise VersionError(
                    f"{path}: format {version}, this version reads {FORMAT}; use nanoprune {printable(by, 40)}"
                )
            texts = [stored_text(file, name, path) for name in ("about", "values")]
            arrays = _arrays(file, "state", path, [0])
        about, plain = map(json.loads, texts)
        if content != _content(*texts, arrays):
            raise DataError(f"{path}: changed since it was written")
        if not isinstance(about, dict):
            raise DataError(f"{path}: does not name its run and shard")
        return about, _joined(arrays, plain)
    except DAMAGE as error:
        raise DataError(f"{path}: not a checkpoint of nanoprune ({first_line(error)})") from error


def _arrays(parent: h5py.Group, name: str, path: str | os.PathLike, seen: list[int], depth: int = 0) -> State:
    """The arrays of a group and of its subgroups; a `Sparse` array is a group too."""
    if not isinstance(parent.get(name, getlink=True), h5py.HardLink) or not isinstance(parent[name], h5py.Group):
        raise DataError(f"{path}: {name} is not a group")
    group, found = parent[name], {}
    for key in group:
        seen[0] += 1
        if seen[0] > MAX_ITEMS or depth > MAX_DEPTH:
            raise DataError(f"{path}: has too many arrays for a checkpoint")
        nested = group.get(key, getclass=True) is h5py.Group and "indptr" not in group[key]
        found[key] = _arrays(group, key, path, seen, depth + 1) if nested else read_array(group, key, path)
    return found


def _joined(arrays: State, plain: Any) -> State:
    """A state from its arrays and its plain values: each name is in one of them, or a dictionary in both."""
    if not isinstance(plain, dict):
        raise DataError("the state is not a dictionary")
    state: State = dict(plain)
    for name, value in arrays.items():
        if isinstance(value, dict) and isinstance(plain.get(name), dict):
            state[name] = _joined(value, plain[name])
        elif isinstance(value, dict) or name in plain:
            raise DataError(f"{name} is both an array and a plain value")
        else:
            state[name] = value
    return state


def _content(about: str, values: str, arrays: State) -> str:
    """SHA-256 over the texts of the file and over the names, types, shapes and values of all arrays."""
    digest = hashlib.sha256(f"{FORMAT}\n{about}\n{values}\n".encode())

    def add(name: str, value: Any) -> None:
        if isinstance(value, (dict, Sparse)):
            digest.update(f"{name} {getattr(value, 'shape', '')}\n".encode())
            inside = value.parts() if isinstance(value, Sparse) else value
            for key in sorted(inside):
                add(f"{name}/{key}", inside[key])
        else:
            digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
            digest.update(np.ascontiguousarray(value))

    add("", arrays)
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of an experiment's shards. identity: plain data, everything that its results depend on."""

    folder: pathlib.Path
    identity: dict[str, Any]
    every: float = EVERY

    def slot(self, method: str, shard: slice, made: Any) -> Slot:
        """The slot for the replicas `shard` of a method. made: plain data, how they are trained."""
        about = {"run": self.identity, "method": method, "shard": [shard.start, shard.stop], "made": made}
        return Slot(self.folder, f"{method}-{shard.start}-{shard.stop}", about, self.every)


class Slot:
    """The checkpoints of one shard: FOLDER/NAME.h5, and the previous one in NAME.before.h5.

    about: identifies the run and the shard; other checkpoints are refused. beside: values added to every state.
    """

    def __init__(self, folder: pathlib.Path, name: str, about: dict[str, Any], every: float = EVERY) -> None:
        self.path, self.before = folder / f"{name}.h5", folder / f"{name}.before.h5"
        self.about, self.every = json.loads(json.dumps(about)), every
        self.beside: State = {}
        self.written = time.monotonic()  # unaffected by changes of the clock

    def part(self, name: str) -> Slot:
        """A slot for a nested training."""
        return Slot(self.path.parent, f"{self.path.stem}-{name}", self.about | {"part": name}, self.every)

    def saved(self, replicas: int) -> Saved | None:
        """The last state, for `replicas` replicas; None if there is none."""
        state = self.load()
        return None if state is None else Saved(state, replicas, str(self.path))

    def due(self) -> bool:
        """Whether the interval between two checkpoints has passed."""
        return time.monotonic() - self.written >= self.every

    def save(self, state: State) -> None:
        """Write a checkpoint; the last one becomes the previous one."""
        fresh = self.path.with_suffix(".new.h5")
        if not self.path.exists():
            for path in (self.path, self.before, fresh):
                note(path)
        write_checkpoint(fresh, self.about, state | self.beside)
        if self.path.exists():
            os.replace(self.path, self.before)
        os.replace(fresh, self.path)
        flush_folder(self.path.parent)
        self.written = time.monotonic()

    def load(self) -> State | None:
        """The last state, None if there is none. If it is damaged, a warning is printed and the previous one is read.

        Raises DataError where a checkpoint is of another shard or version.
        """
        for path in filter(pathlib.Path.exists, (self.path, self.before)):
            try:
                about, state = read_checkpoint(path)
            except VersionError:
                raise
            except DataError as error:
                warn(f"{error}; the previous checkpoint is used, if there is one")
                continue
            if about != self.about:
                raise DataError(f"{path}: of another run or shard: {differences(about, self.about)}; delete it")
            return state
        return None


def warn(message: str) -> None:
    """Print a warning on standard error, in one line."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def differences(was: Any, now: Any) -> str:
    """The differences between two pieces of plain data, in at most MOST_WORDS characters; "" where they are equal."""
    text = ", ".join(_differences(was, now, ""))
    return text if len(text) <= MOST_WORDS else text[: MOST_WORDS - 3] + "..."


def _differences(was: Any, now: Any, name: str) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in [*was, *(key for key in now if key not in was)]:
            short = key if re.fullmatch(r"[\w+-]{1,40}", key, re.ASCII) else _short(key)
            yield from _differences(was.get(key), now.get(key), f"{name}.{short}" if name else short)
    elif was != now:
        yield f"{name} was {_short(was)}, is {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)  # in ASCII, without line feeds
    return text if len(text) <= 60 else text[:57] + "..."
