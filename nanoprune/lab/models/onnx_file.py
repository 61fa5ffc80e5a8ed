"""An ONNX file as plain data: nodes, constants and shapes, within bounds. Nothing in it is executed.

Weights may lie in a second file beside it, as PyTorch writes them: in the same folder alone, and within its size.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.storage.bounded import first_line, read_bounded
from nanoprune.lab.storage.files import open_regular
from nanoprune.lab.storage.text import printable

LIMIT = 1 << 31  # bytes: no protobuf message is longer
MOST_NODES = 5000
DOMAINS = ("", "ai.onnx")
OLDEST, NEWEST = 9, 30  # opsets
REMEDY = "export the model again"
EXTERNAL = 1  # data_location of a tensor whose values lie in another file
TYPES = {  # of tensors: ONNX's number, NumPy's type, the field that has values which are not raw
    1: (np.float32, "float_data"),
    2: (np.uint8, "int32_data"),
    3: (np.int8, "int32_data"),
    6: (np.int32, "int32_data"),
    7: (np.int64, "int64_data"),
    9: (np.bool_, "int32_data"),
    10: (np.float16, "int32_data"),  # the bits of each number
    11: (np.float64, "double_data"),
}


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation: names of its inputs ("" where one is left out) and outputs, and its attributes as plain data."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Graph:
    """shown: the path, fit for messages. input_shape: with the axis of samples, None where the file leaves a size open.
    stored: bytes of the files, which bound what may be computed from them."""

    shown: str
    input: str
    input_shape: tuple[int | None, ...]
    output: str
    nodes: list[Node]
    constants: dict[str, np.ndarray]
    opset: int
    stored: int


def read_graph(path: str | os.PathLike) -> Graph:
    """The graph of an ONNX file.

    Raises DataError, naming the file, where it is damaged, promises more than it holds, or has not one input and one
    output; ArgumentError where the package onnx is missing.
    """
    try:
        import onnx
    except ImportError:
        raise ArgumentError(
            "import of an ONNX file needs the package onnx; install the extra: pip install 'nanoprune[onnx]'"
        ) from None
    size = os.path.getsize(path) if os.path.isfile(path) else 0  # so much memory is taken to read it
    shown, data = printable(path, 400), read_bounded(path, min(size, LIMIT))
    tensors = _Tensors(pathlib.Path(path).parent, shown, len(data))
    try:
        model = onnx.load_model_from_string(data)
        graph = model.graph
        versions = [opset.version for opset in model.opset_import if opset.domain in DOMAINS]
        nodes = [_node(node, tensors) for node in graph.node]
        constants = {tensor.name: tensors.read(tensor) for tensor in graph.initializer}
    except DataError:
        raise
    except Exception as error:  # protobuf's errors have no common class but Exception
        raise DataError(f"{shown}: cannot be read as ONNX ({first_line(error)}); {REMEDY}") from error
    if len(versions) != 1 or not OLDEST <= versions[0] <= NEWEST:
        raise DataError(f"{shown}: opsets {printable(versions)}, expected one from {OLDEST} to {NEWEST}; {REMEDY}")
    if not 0 < len(nodes) <= MOST_NODES:
        raise DataError(f"{shown}: has {len(nodes):,} operations, expected 1 to {MOST_NODES:,}; {REMEDY}")
    if graph.sparse_initializer:
        raise DataError(f"{shown}: has sparse tensors, which are not read; export it with dense ones")
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        found = f"{len(inputs)} inputs and {len(graph.output)} outputs"
        raise DataError(f"{shown}: has {found}, expected one of each: records and logits; {REMEDY}")
    shape = tuple(_size(size) for size in inputs[0].type.tensor_type.shape.dim)
    names = (inputs[0].name, shape, graph.output[0].name)
    return Graph(shown, *names, nodes, constants, versions[0], tensors.stored)


def _size(of: Any) -> int | None:
    return of.dim_value if of.WhichOneof("value") == "dim_value" and of.dim_value > 0 else None


def _node(node: Any, tensors: _Tensors) -> Node:
    if node.domain not in DOMAINS:
        of = printable(node.domain, 40)
        raise DataError(f"{tensors.shown}: has an operation of {of}, which is not ONNX's own; {REMEDY}")
    return Node(
        node.op_type, tuple(node.input), tuple(node.output), {of.name: _attribute(of, tensors) for of in node.attribute}
    )


def _attribute(of: Any, tensors: _Tensors) -> Any:
    """Numbers, lists of numbers, bytes, a tensor as an array; None for what no layer has, such as a graph."""
    if of.type == of.TENSOR:
        return tensors.read(of.t)
    fields = {of.FLOAT: "f", of.INT: "i", of.STRING: "s", of.FLOATS: "floats", of.INTS: "ints"}
    value = getattr(of, fields[of.type]) if of.type in fields else None
    return list(value) if of.type in (of.FLOATS, of.INTS) else value


class _Tensors:
    """Reads tensors. stored: bytes of the files so far; no more than those are read, however often they are named."""

    def __init__(self, folder: pathlib.Path, shown: str, size: int) -> None:
        self.folder, self.shown, self.stored, self.spent = folder, shown, size, 0
        self.files: set[str] = set()

    def read(self, tensor: Any) -> np.ndarray:
        what = f"{self.shown}: {printable(tensor.name, 80)}"
        if tensor.data_type not in TYPES:
            raise DataError(f"{what} is of ONNX's type {tensor.data_type}, which is not read; save it as float32")
        kind, field = TYPES[tensor.data_type]
        shape = tuple(tensor.dims)
        if not all(0 <= size < 1 << 40 for size in shape) or len(shape) > 8:
            raise DataError(f"{what} has the shape {printable(shape)}; {REMEDY}")
        size = math.prod(shape)
        if tensor.data_location == EXTERNAL:
            flat = np.frombuffer(self._external(tensor, size * np.dtype(kind).itemsize, what), kind)
        elif tensor.HasField("raw_data"):
            flat = np.frombuffer(tensor.raw_data, np.dtype(kind).newbyteorder("<"))
        else:
            flat = getattr(tensor, field)
            flat = np.array(flat, np.uint16).view(np.float16) if kind is np.float16 else np.array(flat, kind)
        if len(flat) != size:
            raise DataError(f"{what} has {len(flat):,} values, its shape {shape} asks for {size:,}; {REMEDY}")
        return np.asarray(flat, kind).reshape(shape)

    def _external(self, tensor: Any, size: int, what: str) -> bytes:
        """The bytes of a tensor that lies in another file of the folder."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name = entries.get("location", "")
        if not name or name in (".", "..") or pathlib.PurePath(name).name != name or "\\" in name or "\0" in name:
            raise DataError(f"{what} lies in {printable(name, 80)!r}, expected a file of the same folder; {REMEDY}")
        try:
            offset, length = (int(entries.get(key, default)) for key, default in (("offset", 0), ("length", size)))
        except ValueError as error:
            raise DataError(f"{what} has a place that is no number ({first_line(error)}); {REMEDY}") from error
        path = self.folder / name
        try:
            with open_regular(path) as file:
                whole = os.fstat(file.fileno()).st_size
                if name not in self.files:
                    self.files.add(name)
                    self.stored += whole
                if offset < 0 or length != size or offset + length > whole or self.spent + length > self.stored:
                    raise DataError(
                        f"{what} asks for {size:,} bytes at {offset:,} of {printable(name, 80)}, which has {whole:,}; "
                        f"{REMEDY}"
                    )
                self.spent += length
                file.seek(offset)
                return file.read(length)
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise DataError(
                f"{what} lies in {printable(name, 80)}, which cannot be read ({reason}); keep the two files together"
            ) from error
