"""Elementwise formulas, each written once: run on cache-sized blocks, or compiled (nanoprune.lab.kernels.compiled)."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

BLOCK = 65536  # elements; four arrays of them fit into a level-2 cache. benchmarks/optimizer_block.py


class Formula:
    """An elementwise update, a function decorated with this class: its positional arguments are arrays (R, n), some of
    which it changes (`V *= m`, `xp.multiply(U, m, out=V)`), its keyword arguments numbers, or (R,), one a replica.

    Since its text is compiled too, it has no literals, and of `xp` only functions of single elements.
    """

    compilers: ClassVar[list[Callable[..., bool]]] = []  # (formula, arrays, numbers): True where it has done the work

    def __init__(self, function: Callable[..., None]) -> None:
        functools.update_wrapper(self, function)

    def __call__(self, *arrays: Any, **numbers: Any) -> None:
        if any(compiler(self, arrays, numbers) for compiler in self.compilers):
            return
        R, n = arrays[0].shape
        columns = {name: np.broadcast_to(value, R).tolist() for name, value in numbers.items()}
        for r in range(R):
            of_replica = {name: column[r] for name, column in columns.items()}
            for start in range(0, n, BLOCK):
                self.__wrapped__(*(array[r, start : start + BLOCK] for array in arrays), **of_replica)
