"""Elementwise formulas over cache-sized blocks of the parameters, so that plain formulas are fast."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from nanoprune.backend import to_device

BLOCK = 16384  # elements; four arrays of them fit into a level-2 cache. benchmarks/optimizer_block.py


def blocks(scalar: Any, *arrays: Any) -> Iterator[tuple]:
    """(the replica's scalar, a block of each array) for arrays (R, n); on a GPU all of an array is one block.

    scalar: a number, or one per replica, (R,).
    """
    R, n = arrays[0].shape
    if not isinstance(arrays[0], np.ndarray):
        yield scalar if np.ndim(scalar) == 0 else to_device(np.asarray(scalar, arrays[0].dtype)[:, None]), *arrays
        return
    for r, of_replica in enumerate(np.broadcast_to(scalar, R).tolist()):
        for start in range(0, n, BLOCK):
            yield of_replica, *(array[r, start : start + BLOCK] for array in arrays)
