"""Checkpoints: where a shard of replicas stands in its training, in a file from which it goes on with the same bits.

A state is plain data: a dictionary, of dictionaries again, of arrays and lists with one entry a replica (the replica
axis is the first one), and of numbers and strings. What has a state (optimiser, ADMM, game, mask) gives it by `state()`
and takes it back by `restore(saved)`, which says of each array what it must be. docs/formats.md has the file.
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
MOST_WORDS = 400  # characters that say what two runs differ in

State = dict[str, Any]


class Saved:
    """A state as it was read. Every value is checked when it is taken, against what its taker expects."""

    def __init__(self, values: State, replicas: int, where: str) -> None:
        self.values, self.replicas, self.where = values, replicas, where

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def part(self, name: str) -> Saved:
        """A dictionary inside of this one."""
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
        """The array `name`, one row a replica, of any length up to `most`."""
        array = self.values.get(name)
        if not isinstance(array, (np.ndarray, Sparse)) or len(array.shape) != 2 or array.shape[1] > most:
            raise DataError(f"{self.where}: {name} is not an array of one row a replica")
        return self.array(name, (self.replicas, array.shape[1]), array.dtype if dtype is None else dtype, finite=False)

    def value(self, name: str, kind: type, least: float | None = None, most: float | None = None) -> Any:
        """The plain value `name`, of that type, and a number not out of range."""
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
            raise DataError(f"{self.where}: {name} is not a list of {self.replicas} {kind.__name__}, one a replica")
        return values


def generators_state(generators: Sequence[np.random.Generator]) -> list[dict[str, Any]]:
    """The states of PCG64 generators as plain integers."""
    return [generator.bit_generator.state for generator in generators]


def restore_generators(generators: Sequence[np.random.Generator], saved: Saved, name: str) -> None:
    """Set them to what was saved. Raises DataError where that is no state of a PCG64."""
    for generator, state in zip(generators, saved.each(name, dict), strict=True):
        inside = Saved(state, 1, f"{saved.where}: {name}")
        if inside.value("bit_generator", str) != type(generator.bit_generator).__name__:
            raise DataError(f"{saved.where}: {name} are {state['bit_generator']}, this version draws from PCG64")
        inside.value("has_uint32", int, 0, 1)
        inside.value("uinteger", int, 0, 2**32 - 1)
        numbers = inside.part("state")
        numbers.value("state", int, 0, 2**128 - 1)
        if numbers.value("inc", int, 0, 2**128 - 1) % 2 == 0 or set(state["state"]) != {"state", "inc"}:
            raise DataError(f"{saved.where}: {name} has an even increment, which no PCG64 has")
        generator.bit_generator.state = state


def write_checkpoint(path: str | os.PathLike, about: dict[str, Any], state: State) -> None:
    """Write a state, whole or not at all. about: plain data, what it is a state of.

    Its owner alone may read it: the state of DP-SGD's noise is in it, and with that the noise could be taken away.
    Raises DataError where that cannot be written.
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
    """The arrays of a state as they are written, and the plain values; dictionaries are in both."""
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


def read_checkpoint(path: str | os.PathLike) -> tuple[dict[str, Any], State]:
    """about and the state, with sparse arrays as `Sparse`: memory is taken only for what lies in the file.

    Raises DataError, naming the file, where it is missing or damaged, VersionError where it is of another format.
    """
    try:
        with open_hdf5(path) as file:
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
            raise DataError(f"{path}: does not say what it is of")
        return about, _joined(arrays, plain)
    except DAMAGE as error:
        raise DataError(f"{path}: no checkpoint of nanoprune ({first_line(error)})") from error


def _arrays(parent: h5py.Group, name: str, path: str | os.PathLike, seen: list[int], depth: int = 0) -> State:
    """The arrays of a group, and of the groups in it that are not arrays themselves."""
    if not isinstance(parent.get(name, getlink=True), h5py.HardLink) or not isinstance(parent[name], h5py.Group):
        raise DataError(f"{path}: {name} is no group")
    group, found = parent[name], {}
    for key in group:
        seen[0] += 1
        if seen[0] > MAX_ITEMS or depth > MAX_DEPTH:
            raise DataError(f"{path}: has more arrays than any checkpoint")
        nested = group.get(key, getclass=True) is h5py.Group and "indptr" not in group[key]
        found[key] = _arrays(group, key, path, seen, depth + 1) if nested else read_array(group, key, path)
    return found


def _joined(arrays: State, plain: Any) -> State:
    """A state from its two halves: each name is in one of them, or a dictionary in both."""
    if not isinstance(plain, dict):
        raise DataError("the state is no dictionary")
    state: State = dict(plain)
    for name, value in arrays.items():
        if isinstance(value, dict) and isinstance(plain.get(name), dict):
            state[name] = _joined(value, plain[name])
        elif isinstance(value, dict) or name in plain:
            raise DataError(f"{name} is of two kinds")
        else:
            state[name] = value
    return state


def _content(about: str, values: str, arrays: State) -> str:
    """SHA-256 over what the file says and over the names, types, shapes and values of all arrays."""
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
    """Where the shards of one experiment keep theirs. identity: plain data, everything that its results depend on."""

    folder: pathlib.Path
    identity: dict[str, Any]
    every: float = EVERY

    def slot(self, method: str, shard: slice, made: Any) -> Slot:
        """Of the replicas `shard` of a method. made: plain data, how they are made."""
        about = {"run": self.identity, "method": method, "shard": [shard.start, shard.stop], "made": made}
        return Slot(self.folder, f"{method}-{shard.start}-{shard.stop}", about, self.every)


class Slot:
    """The checkpoints of one shard: FOLDER/NAME.h5, and beside it NAME.before.h5, the one before.

    about: what it is a shard of; a checkpoint of anything else is refused. beside: what every state has besides.
    """

    def __init__(self, folder: pathlib.Path, name: str, about: dict[str, Any], every: float = EVERY) -> None:
        self.path, self.before = folder / f"{name}.h5", folder / f"{name}.before.h5"
        self.about, self.every = json.loads(json.dumps(about)), every
        self.beside: State = {}
        self.written = time.monotonic()  # which no change of the clock reaches

    def part(self, name: str) -> Slot:
        """A slot beside this one, for a training inside of this one."""
        return Slot(self.path.parent, f"{self.path.stem}-{name}", self.about | {"part": name}, self.every)

    def saved(self, replicas: int) -> Saved | None:
        """The last state, to be taken back by so many replicas; None where there is none."""
        state = self.load()
        return None if state is None else Saved(state, replicas, str(self.path))

    def due(self) -> bool:
        """Whether the interval between two checkpoints has passed."""
        return time.monotonic() - self.written >= self.every

    def save(self, state: State) -> None:
        """Write a checkpoint; the last one becomes the one before."""
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
        """The last state, None where there is none. A damaged one is told of, and the one before is read.

        Raises DataError where one is of another shard or version.
        """
        for path in filter(pathlib.Path.exists, (self.path, self.before)):
            try:
                about, state = read_checkpoint(path)
            except VersionError:
                raise
            except DataError as error:
                warn(f"{error}; going on from the one before it, if there is one")
                continue
            if about != self.about:
                raise DataError(f"{path}: of another run or shard: {differences(about, self.about)}; delete it")
            return state
        return None


def warn(message: str) -> None:
    """One line on standard error, of what the user must know while the work goes on."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def differences(was: Any, now: Any) -> str:
    """What two pieces of plain data differ in, in words: "" where in nothing, else at most MOST_WORDS characters."""
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
