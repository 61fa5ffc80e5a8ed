"""Generation of the C source: buffers of the values, constants, and calls of runtime.c."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from nanoprune.lab.export.steps import Shape

SLACK = 16  # floats after each buffer, since whole vectors are read and written
ALIGN = 16  # floats; buffers begin at multiples of a cache line
# Density of convolutions and of linear maps below which leaving zeros out was faster (docs/export.md).
CONV_BELOW, LINEAR_BELOW = 0.6, 0.1


@dataclasses.dataclass(frozen=True)
class Buffer:
    """The location of a value, at the C expression `at`. Features are images of 1 x 1.

    row, plane: floats from one row to the next, and from one channel to the next. Gaps have arbitrary content.
    """

    at: str
    C: int
    H: int
    W: int
    row: int
    plane: int

    @property
    def image(self) -> tuple[Any, ...]:
        return (self.at, self.C, self.H, self.W, self.row, self.plane)

    @property
    def is_compact(self) -> bool:
        return self.row == self.W and self.plane == self.H * self.W


def compact(at: str, shape: Shape) -> Buffer:
    C, H, W = shape if len(shape) == 3 else (*shape, 1, 1)
    return Buffer(at, C, H, W, W, H * W)


class Memory:
    """The allocation of the work buffer: first fit; values that no later step reads are freed."""

    def __init__(self, last: list[int]) -> None:
        self.last = last  # for each value, the last step that reads it
        self.size = 0
        self.blocks: dict[int, int] = {}  # start -> end, of the blocks in use
        self.values: dict[int, set[int]] = {}  # start -> the values that are stored there

    def take(self, floats: int, value: int) -> str:
        """A C expression for the start of a free block of `floats` floats, for `value`."""
        floats, start = -(-(floats + SLACK) // ALIGN) * ALIGN, 0
        for begin in sorted(self.blocks):
            if start + floats <= begin:
                break
            start = self.blocks[begin]
        self.blocks[start], self.values[start] = start + floats, {value}
        self.size = max(self.size, start + floats)
        return f"work + {start}"

    def share(self, at: str, value: int) -> None:
        """Let `value` share the memory of another value."""
        if at.startswith("work"):
            self.values[int(at[7:])].add(value)

    def release(self, step: int) -> None:
        """After a step: free the values that no later step reads."""
        for start, values in list(self.values.items()):
            if all(self.last[value] <= step for value in values):
                del self.values[start], self.blocks[start]


class Source:
    """The source being generated: constants, the lines of the function, and the parts of runtime.c that they call."""

    def __init__(self, form: str, memory: Memory) -> None:
        self.form, self.memory = form, memory
        self.constants: list[str] = []
        self.body: list[str] = []
        self.parts: set[str] = {"head"}
        self.kernels: dict[str, str] = {}  # name -> the line that defines it
        self.step = 0
        self.act = 0

    def take(self, floats: int) -> str:
        return self.memory.take(floats, self.step)

    def scratch(self, floats: int) -> str:
        """Memory for this step only."""
        at = self.take(floats)
        self.memory.values[int(at[7:])] = {0}
        return at

    def array(self, kind: str, letter: str, values: np.ndarray) -> str:
        """A constant array, named after the step; its name."""
        name, flat = f"{letter}{self.step}", np.asarray(values).ravel()
        if kind == "float":
            texts = [f"{v!s}f" if v else "0" for v in flat.astype(np.float32)]  # the shortest exact decimal
        else:
            texts = flat.astype(np.int64).astype(str).tolist()
        rows = [",".join(texts[i : i + 16]) for i in range(0, len(texts), 16)] or ["0"]
        self.constants.append(f"static const {kind} {name}[] = {{\n" + ",\n".join(rows) + "};")
        return name

    def call(self, part: str, *arguments: Any) -> None:
        """A line that calls a function of runtime.c."""
        self.parts.add(part)
        self.body.append(f"{part}({', '.join(map(str, arguments))});")

    def kernel(self, macro: str, types: tuple[str, ...], *arguments: Any) -> None:
        """A line that calls a kernel, which a macro of runtime.c defines for these types."""
        name = "_".join([macro, *(t.removesuffix("_t").lower() for t in types)])
        self.parts.add(macro)
        self.kernels[name] = f"{macro.upper()}({', '.join([name, *types])})"
        self.body.append(f"{name}({', '.join(map(str, arguments))});")

    def is_sparse(self, weight: np.ndarray, is_conv: bool) -> bool:
        usual = CONV_BELOW if is_conv else LINEAR_BELOW
        below = {"dense": 0.0, "sparse": np.inf}.get(self.form, usual)
        return np.count_nonzero(weight) < below * weight.size
