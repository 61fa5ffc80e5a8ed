"""Readers that do what none may: the runner must tell each of them."""

import ctypes
import dataclasses
import pathlib
from typing import Any

import numpy as np
from run import Reader

from nanoprune.errors import DataError


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
    for read in (crash, sound, hang, allocate, hide, leak, many_lines, refuse)
}
