"""Forked worker processes: whether they are possible, the memory that they share, and how they end."""

from __future__ import annotations

import ctypes
import io
import math
import mmap
import os
import signal
import sys
from typing import Any

import numpy as np

from nanoprune.backend import xp

PR_SET_PDEATHSIG = 1
_parent = 0  # the process ID of the parent of the last fork, set by the parent


def can_fork() -> bool:
    """Whether workers can be forked: on Linux, with NumPy. Neither a GPU context nor every BLAS survives a fork."""
    return sys.platform == "linux" and xp._module is np


def shared_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros in memory that processes forked later share: each sees what another writes."""
    size = math.prod(shape)
    memory = mmap.mmap(-1, max(1, size * np.dtype(dtype).itemsize))
    return np.frombuffer(memory, dtype, size).reshape(shape)


def end_with_parent() -> None:
    """Prepare a process that was just forked: ignore SIGINT and SIGTERM, end with the parent, open new streams.

    The parent's streams are not used: a progress bar replaces them by objects whose lock another thread of the parent
    may have held at the fork, and it would never be released here.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # a whole process group may get one: the parent decides when to stop
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != _parent:  # the parent ended before the call above, so no signal will come
        os._exit(1)
    sys.stdout, sys.stderr = _stream(1), _stream(2)


def _stream(descriptor: int) -> io.TextIOBase:
    """A new text stream on a file descriptor; every line is written at once."""
    try:
        raw = io.FileIO(descriptor, "w", closefd=False)
    except OSError:  # the descriptor is closed
        raw = io.FileIO(os.devnull, "w")
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)


def _record_parent() -> None:
    global _parent
    _parent = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_record_parent)
