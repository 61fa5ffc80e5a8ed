"""Worker processes that are forked: where they can be, what memory they share, and how they end."""

from __future__ import annotations

import ctypes
import math
import mmap
import signal
import sys
from typing import Any

import numpy as np

from nanoprune.backend import xp


def can_fork() -> bool:
    """Whether there can be worker processes: on Linux, with NumPy. No GPU survives a fork, nor does every BLAS."""
    return sys.platform == "linux" and xp._module is np


def shared_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array that processes forked after this share: what one writes, the others see."""
    size = math.prod(shape)
    memory = mmap.mmap(-1, max(1, size * np.dtype(dtype).itemsize))
    return np.frombuffer(memory, dtype, size).reshape(shape)


def end_with_parent() -> None:
    """In a forked process: leave an interrupt to its parent, and end where that one does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
