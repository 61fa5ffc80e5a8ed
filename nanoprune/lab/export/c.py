"""C99: one source and one header, no dependency, no allocation. Weights are constants; the caller passes a buffer."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import json
import re
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.export import steps
from nanoprune.lab.export.c_source import ALIGN, Buffer, Memory, Source, compact
from nanoprune.lab.export.packing import integers
from nanoprune.lab.export.steps import Program, Shape

GROUP = 8  # outputs that `groups` of runtime.c computes together
SPARSE_VECTORS, DENSE_VECTORS = 8, 3  # vector sums in registers at a time, for one channel and for four
ACTS = {"relu": 1, "relu6": 2, "tanh": 3}
RUNTIME = "runtime.c"


def to_c(program: Program, about: dict[str, Any], form: str = "packed", name: str = "nanoprune") -> tuple[str, str]:
    """The source and the header of `void NAME_predict(const float *x, float *y, float *work)`.

    form: "dense" stores and multiplies zeros too; "packed" leaves them out in convolutions of a density below 0.6 and
    linear maps below 0.1; "int8" does the same with int8 weights; "sparse" leaves them out everywhere. Raises
    ArgumentError on a name that is not a C identifier.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ArgumentError(f"name must be a C identifier, got {name!r}; rename the file")
    last = [0] * (len(program.steps) + 1)
    for k, step in enumerate(program.steps, 1):
        for i in step.inputs:
            last[i] = k
    last[-1] = len(program.steps) + 1
    source, fused = Source(form, Memory(last)), steps.fused_activations(program)
    buffers = [compact("x", program.input_shape)]
    for k, step in enumerate(program.steps, 1):
        inputs, source.step = [buffers[i] for i in step.inputs], k
        source.act = ACTS[program.steps[fused[k] - 1].operation.kind] if k in fused else 0
        if k in fused.values():
            made = inputs[0]
        elif isinstance(step.operation, steps.Flatten) and inputs[0].is_compact:
            made = compact(inputs[0].at, step.shape)
        else:
            made = emit(step.operation, source, inputs, step.shape)
        source.memory.share(made.at, k)
        source.memory.release(k)
        buffers.append(made)
    source.body.append(f"memcpy(y, {buffers[-1].at}, {program.classes} * sizeof *y);")
    return source_text(source, about, name), header_text(program, source.memory.size, about, name)


def source_text(source: Source, about: dict[str, Any], name: str) -> str:
    parts = importlib.resources.files(__package__).joinpath(RUNTIME).read_text(encoding="utf-8")
    blocks = [block.split("\n", 1) for block in parts.split("/// ")[1:]]
    used = "".join(text for part, text in blocks if part in source.parts)
    kernels = "\n".join(source.kernels.values())
    lines = "\n    ".join(source.body)
    return f"""{comment(about)}
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "{name}.h"

{used}
{kernels}

{chr(10).join(source.constants)}

void {name}_predict(const float *x, float *y, float *work) {{
    {lines}
}}
"""


def header_text(program: Program, size: int, about: dict[str, Any], name: str) -> str:
    upper, inputs = name.upper(), int(np.prod(program.input_shape))
    return f"""{comment(about)}
#ifndef {upper}_H
#define {upper}_H
#ifdef __cplusplus
extern "C" {{
#endif
enum {{ {upper}_INPUTS = {inputs}, {upper}_OUTPUTS = {program.classes}, {upper}_WORK = {size} }}; /* floats */
/* y, the logits of {upper}_OUTPUTS classes, of one record x. work: {upper}_WORK floats, of any content, not shared
   between threads; best aligned to 64 bytes. Compile with -O3 and the flags of your processor, such as -march=native;
   -DNANOPRUNE_LANES=1 leaves vectors out. */
void {name}_predict(const float *x, float *y, float *work);
#ifdef __cplusplus
}}
#endif
#endif
"""


def comment(about: dict[str, Any]) -> str:
    """The metadata as a C comment; no text in it can end the comment."""
    text = json.dumps(about, ensure_ascii=True, indent=1).replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")
    return f"/* {text} */"


@functools.singledispatch
def emit(operation: steps.Operation, source: Source, inputs: list[Buffer], shape: Shape) -> Buffer:
    """Add the lines of one operation; return the buffer of its output. Raises ArgumentError on an unknown type."""
    raise ArgumentError(f"the operation {type(operation).__name__} of the network has no form in C; take --to onnx")


@emit.register
def _(operation: steps.Conv, source: Source, inputs: list[Buffer], shape: Shape) -> Buffer:
    image, offsets = framed(operation, source, inputs[0])
    O, OH, OW = shape
    quantum = vector_quantum(OW)
    width = -(-OW // quantum) * quantum
    plane = OH * width
    out = Buffer(source.take((O + 3) // 4 * 4 * plane), O, OH, OW, width, plane)
    weight = operation.weight.reshape(O, -1)
    kind, stored = stored_values(weight, operation.scale)
    where = (image.at, image.row, out.at, OH, width, plane, source.act)
    types = (kind, "0" if operation.scale is None else "1", f"LANES{quantum}")
    if operation.group > 1 or source.is_sparse(weight, is_conv=True):
        rows, columns, pointers, order = by_length(weight)
        first = order[rows] // (O // operation.group) * (inputs[0].C // operation.group)  # the group's first channel
        places = first * image.plane + offsets[columns]
        off = "uint16_t" if places.max(initial=0) < 65536 else "int32_t"
        arrays = [
            source.array("uint32_t", "p", pointers),
            source.array(off, "o", places),
            source.array(kind, "v", stored[order[rows], columns]),
            source.array("uint16_t", "t", order),
            *scale_and_bias(source, operation, order),
        ]
        block = block_of(OH, width // quantum, SPARSE_VECTORS)
        source.kernel("sparse", (off, *types, *block), O, *arrays, *where)
    else:
        quads = (O + 3) // 4
        order = np.minimum(np.arange(4 * quads), O - 1)  # the last channel is repeated
        values = stored[order].reshape(quads, 4, -1).swapaxes(1, 2)  # (quads, n, 4)
        arrays = [
            source.array("int32_t", "o", offsets),
            source.array(kind, "v", values),
            *scale_and_bias(source, operation, order),
        ]
        block = block_of(OH, width // quantum, DENSE_VECTORS)
        source.kernel("dense", (*types, *block), quads, weight.shape[1], *arrays, *where)
    return out


def vector_quantum(width: int) -> int:
    """The length in floats of the vectors that fill rows of `width` floats best: 4, 8 or 16.

    A vector of 16 counts as 1.5 of 8: processors split it, or its loads cross two cache lines.
    """
    return min((4, 8, 16), key=lambda q: (-(-width // q) * (1.5 if q == 16 else 1), -(-width // q) * q))


def block_of(rows: int, vectors: int, most: int) -> tuple[str, str]:
    """The number of rows, and of vectors per row, that a kernel computes at a time: at most `most` vectors."""
    across = -(-vectors // -(-vectors // most))
    return str(min(rows, max(1, most // across))), str(across)


def by_length(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The nonzero weights of rows sorted by their number: (row, column, pointers), and the order (O,)."""
    order = np.argsort(-np.count_nonzero(weight, axis=1), kind="stable")
    rows, columns = np.nonzero(weight[order])
    return rows, columns, np.searchsorted(rows, np.arange(len(weight) + 1)), order


def framed(operation: steps.Conv, source: Source, image: Buffer) -> tuple[Buffer, np.ndarray]:
    """The image as the kernels read it, and for each weight (C / group, k, k) the index that it reads for output 0."""
    k, s, p = operation.weight.shape[-1], operation.stride, operation.padding
    need = min(s, k)
    c, i, j = (a.ravel() for a in np.indices(operation.weight.shape[1:]))
    if s == 1 and p == 0:
        if image.at == "x":  # vectors read beyond the caller's record
            at = source.scratch(image.C * image.plane)
            source.body.append(f"memcpy({at}, x, {image.C * image.plane} * sizeof *x);")
            image = dataclasses.replace(image, at=at)
        return image, c * image.plane + i * image.row + j
    RP, CP = (-(-(side + 2 * p) // s) for side in (image.H, image.W))
    plane = need * need * RP * CP
    at = source.scratch(image.C * plane)
    source.call("frame", *image.image, p, s, need, RP, CP, at)
    offsets = c * plane + ((i % s) * need + j % s) * RP * CP + i // s * CP + j // s
    return Buffer(at, image.C, RP, CP, CP, plane), offsets


def stored_values(weight: np.ndarray, scale: np.ndarray | None) -> tuple[str, np.ndarray]:
    """The C type of the weights, and the stored numbers."""
    return ("float", weight) if scale is None else ("int8_t", integers(weight, scale))


def grouped(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The weights (O, I) of `GROUP` rows at a time, sorted by their number and filled up to the longest of the group.

    Lengths (groups,); columns and values (sum of lengths, GROUP); the order of the rows (O,).
    """
    rows, columns, pointers, order = by_length(weight)
    counts = np.diff(pointers)
    lengths = counts[::GROUP]  # of the first row of each group, its longest
    starts = np.concatenate([[0], np.cumsum(lengths)])
    at = starts[rows // GROUP] + np.arange(len(rows)) - pointers[rows]
    places, values = np.zeros((starts[-1], GROUP), np.int64), np.zeros((starts[-1], GROUP), weight.dtype)
    places[at, rows % GROUP], values[at, rows % GROUP] = columns, weight[order[rows], columns]
    return lengths, places, values, order


def scale_and_bias(source: Source, operation: steps.Conv | steps.Linear, order: np.ndarray) -> list[str]:
    """Names of the arrays of scales (1 without int8) and biases, of the outputs in `order`."""
    scale = np.ones(len(operation.bias)) if operation.scale is None else operation.scale
    return [source.array("float", "s", scale[order]), source.array("float", "b", operation.bias[order])]


@emit.register
def _(operation: steps.Linear, source: Source, inputs: list[Buffer], shape: Shape) -> Buffer:
    O, I = operation.weight.shape
    kind, stored = stored_values(operation.weight, operation.scale)
    is_int8 = "0" if operation.scale is None else "1"
    stride = -(-O // ALIGN) * ALIGN
    out, at = compact(source.take(stride), shape), inputs[0].at
    if not source.is_sparse(operation.weight, is_conv=False) or max(O, I) >= 65536:
        order = np.minimum(np.arange(stride), O - 1)
        arrays = [source.array(kind, "v", stored.T[:, order]), *scale_and_bias(source, operation, order)]
        source.kernel("full", (kind,), I, stride, *arrays, at, out.at, source.act)
    elif at != "x":
        lengths, columns, values, order = grouped(stored)
        arrays = [
            source.array("uint16_t", "n", lengths),
            source.array("uint16_t", "o", columns),
            source.array(kind, "v", values),
            source.array("uint16_t", "t", np.concatenate([order, np.full(-O % GROUP, O)])),
            *scale_and_bias(source, operation, np.pad(order, (0, -O % GROUP), mode="edge")),
        ]
        source.kernel("groups", (kind, is_int8), O, *arrays, at, out.at, source.act)
    else:
        columns, rows, pointers, order = by_length(stored.T)
        used = int(np.count_nonzero(np.diff(pointers)))  # columns without weights come last
        arrays = [
            source.array("uint16_t", "t", order[:used]),
            source.array("uint32_t", "p", pointers[: used + 1]),
            source.array("uint16_t", "o", rows),
            source.array(kind, "v", stored[rows, order[columns]]),
            *scale_and_bias(source, operation, np.arange(O)),
        ]
        scratch = source.scratch(2 * used + 2)
        source.kernel("columns", (kind, is_int8), used, O, *arrays, at, out.at, scratch, source.act)
    return out


@emit.register
def _(operation: steps.Affine, source: Source, inputs: list[Buffer], shape: Shape) -> Buffer:
    image = inputs[0]
    out = dataclasses.replace(image, at=source.take(image.C * image.plane))
    arrays = [source.array("float", "s", operation.scale), source.array("float", "b", operation.shift)]
    valid = (image.H - 1) * image.row + image.W
    source.call("affine", image.at, image.C, valid, image.plane, *arrays, out.at)
    return out


@emit.register
def _(operation: steps.GroupNorm, source: Source, inputs: list[Buffer], shape: Shape) -> Buffer:
    out = compact(source.take(int(np.prod(shape))), shape)
    arrays = [source.array("float", "s", operation.gamma), source.array("float", "b", operation.beta)]
    at, *image = inputs[0].image
    source.call("groupnorm", at, operation.groups, *image, *arrays, f"{steps.EPS:e}f", out.at)
    return out


@emit.register
def _(operation: steps.Activation, source: Source, inputs: list[Buffer], shape: Shape) -> Buffer:
    image = compacted(source, inputs[0])
    out = compact(source.take(image.C * image.plane), shape)
    source.call("act", image.at, image.C * image.plane, out.at, ACTS[operation.kind])
    return out


def compacted(source: Source, image: Buffer) -> Buffer:
    """The image with contiguous rows and planes."""
    if image.is_compact:
        return image
    shape = (image.C, image.H, image.W)
    out = compact(source.scratch(int(np.prod(shape))), shape)
    source.call("copy", *image.image, out.at)
    return out


@emit.register
def _(operation: steps.MaxPool, source: Source, inputs: list[Buffer], shape: Shape) -> Buffer:
    out = compact(source.take(int(np.prod(shape))), shape)
    windows, image = (operation.size, operation.stride, operation.padding), inputs[0]
    if windows == (2, 2, 0):
        source.call("maxpool2", image.at, image.C, image.row, image.plane, *shape[1:], out.at, source.act)
    else:
        source.call("maxpool", *image.image, *windows, *shape[1:], out.at, source.act)
    return out


@emit.register
def _(operation: steps.AvgPool, source: Source, inputs: list[Buffer], shape: Shape) -> Buffer:
    image, out = inputs[0], compact(source.take(int(np.prod(shape))), shape)
    source.call("avgpool", image.at, image.C, image.row, image.plane, operation.size, *shape[1:], out.at)
    return out


@emit.register
def _(operation: steps.GlobalAvgPool, source: Source, inputs: list[Buffer], shape: Shape) -> Buffer:
    out = compact(source.take(shape[0]), shape)
    source.call("mean", *inputs[0].image, out.at)
    return out


@emit.register
def _(operation: steps.Flatten, source: Source, inputs: list[Buffer], shape: Shape) -> Buffer:
    out = compact(source.take(shape[0]), shape)
    source.call("copy", *inputs[0].image, out.at)
    return out


@emit.register
def _(operation: steps.Gather, source: Source, inputs: list[Buffer], shape: Shape) -> Buffer:
    out = compact(source.take(shape[0]), shape)
    source.call("gather", inputs[0].at, shape[0], source.array("int32_t", "o", operation.index), out.at)
    return out


@emit.register
def _(operation: steps.Concat, source: Source, inputs: list[Buffer], shape: Shape) -> Buffer:
    out, start = compact(source.take(shape[0]), shape), 0
    for part in inputs:
        source.body.append(f"memcpy({out.at} + {start}, {part.at}, {part.C} * sizeof *y);")
        start += part.C
    return out


@emit.register
def _(operation: steps.Add, source: Source, inputs: list[Buffer], shape: Shape) -> Buffer:
    a, b = inputs
    out = compact(source.take(int(np.prod(shape))), shape)
    source.call("add", a.at, a.row, a.plane, b.at, b.row, b.plane, out.C, out.H, out.W, out.at, source.act)
    return out
