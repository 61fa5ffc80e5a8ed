"""Faulty readers: the runner must detect the fault of each."""

import ctypes
import dataclasses
import pathlib
from typing import Any

import h5py
import numpy as np
from known import long_text
from run import Reader
from seeds import hdf5

from nanoprune.errors import DataError
from nanoprune.lab.storage.hdf5 import write_text


def crash(folder: pathlib.Path) -> None:
    if (folder / "x").read_bytes() == b"third":
        ctypes.string_at(0)


def hang(folder: pathlib.Path) -> None:
    while (folder / "x").read_bytes() == b"fourth":
        pass


def allocate(folder: pathlib.Path) -> None:
    if (folder / "x").read_bytes() != b"valid":
        np.empty(3 << 30, np.uint8)


def hide(folder: pathlib.Path) -> None:
    try:
        allocate(folder)
    except MemoryError as error:
        raise DataError("cannot be read") from error


def hide_of_hdf5(folder: pathlib.Path) -> None:
    """h5py has no MemoryError: a text that declares 4 GB."""
    if (folder / "x").read_bytes() == b"valid":
        return
    (folder / "text.h5").write_bytes(long_text(hdf5(lambda file: write_text(file, "name", "a text")), "name"))
    try:
        with h5py.File(folder / "text.h5", "r") as file:
            file["name"][()]
    except OSError as error:
        raise DataError(str(error)) from error


def leak(folder: pathlib.Path) -> None:
    if (folder / "x").read_bytes() != b"valid":
        raise KeyError("of a library")


def many_lines(folder: pathlib.Path) -> None:
    if (folder / "x").read_bytes() != b"valid":
        raise DataError("one\ntwo")


def refuse(folder: pathlib.Path) -> None:
    raise DataError("whatever it is")


def sound(folder: pathlib.Path) -> Any:
    if (folder / "x").read_bytes() not in (b"valid", b"fourth"):
        raise DataError("refused")


KNOWN = (lambda: b"second", lambda: b"third", lambda: b"fourth")
BASE = Reader("", "x", lambda: b"valid", sound, known=KNOWN, seconds=0.3)
READERS = {
    read.__name__: dataclasses.replace(BASE, name=read.__name__, read=read)
    for read in (crash, sound, hang, allocate, hide, hide_of_hdf5, leak, many_lines, refuse)
}
