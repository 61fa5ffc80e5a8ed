"""ONNX: opset 13 or 15, IR version 8, any batch. Reads `input` (N, C, H, W) or (N, F); writes `logits` (N, classes)."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.export import steps
from nanoprune.lab.export.packing import gaps_and_values, integers
from nanoprune.lab.export.steps import Program, Shape

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError:  # an extra
    onnx = None

NORMALISED = 15  # the opset of graphs with BatchNormalization, which says there that it is not in training
OPSET, IR = 13, 8  # the default, the newest IR version, is refused by older runtimes
MISSING = "export to onnx needs the package onnx; install the extra: pip install 'nanoprune[onnx]'"
OVERHEAD = 400  # approximate bytes of the operators that unpack weights


class Graph:
    """The nodes and initialisers. form: how weights are stored; dtype: float32, or float64 for tests."""

    def __init__(self, form: str, dtype: Any) -> None:
        self.form, self.dtype = form, np.dtype(dtype)
        self.float = helper.np_dtype_to_tensor_dtype(self.dtype)
        self.nodes: list[Any] = []
        self.initialisers: list[Any] = []
        self.names: set[str] = set()
        self.normalises = False

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add an initialiser of that name, once; return its name."""
        if name not in self.names:
            self.names.add(name)
            self.initialisers.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def real(self, name: str, array: np.ndarray) -> str:
        return self.constant(name, np.asarray(array, self.dtype))

    def integers(self, name: str, *values: int) -> str:
        return self.constant(name, np.array(values, np.int64))

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def weights(self, name: str, weight: np.ndarray, scale: np.ndarray | None) -> str:
        """Add the weights in the smallest form that `form` allows; return their name."""
        if self.form == "dense":
            return self.real(name, weight)
        stored = weight if scale is None else integers(weight, scale)
        width = self.dtype.itemsize if scale is None else 1
        gaps, values = gaps_and_values(stored.ravel())
        if (1 + width) * len(gaps) + OVERHEAD < width * weight.size:
            flat = self._scattered(name, gaps, values, weight.size)
            shape = self.integers(f"{name}s", *weight.shape)
            made = self.node("Reshape", [flat, shape], name if scale is None else f"{name}i")
        elif scale is None:
            return self.real(name, weight)
        else:
            made = self.node("Cast", [self.constant(f"{name}q", stored)], f"{name}i", to=self.float)
        if scale is None:
            return made
        column = np.reshape(scale, (-1, *[1] * (weight.ndim - 1)))
        return self.node("Mul", [made, self.real(f"{name}k", column)], name)

    def _scattered(self, name: str, gaps: np.ndarray, values: np.ndarray, size: int) -> str:
        """zeros(size)[cumsum(gaps) - 1] = values, by standard operators that runtimes evaluate once, at load.

        Cast and Mul, not DequantizeLinear, which onnxruntime does not evaluate at load.
        """
        zero, one = self.constant("zero", np.int64(0)), self.constant("one", np.int32(1))
        self.node("Cast", [self.constant(f"{name}g", gaps)], f"{name}d", to=TensorProto.INT32)
        self.node("CumSum", [f"{name}d", zero], f"{name}e")
        self.node("Sub", [f"{name}e", one], f"{name}p")
        if values.dtype == np.int8:
            kept = self.node("Cast", [self.constant(f"{name}q", values)], f"{name}v", to=self.float)
        else:
            kept = self.real(f"{name}v", values)
        empty = helper.make_tensor("", self.float, [1], [0.0])
        self.node("ConstantOfShape", [self.integers(f"{name}n", size)], f"{name}0", value=empty)
        return self.node("ScatterElements", [f"{name}0", f"{name}p", kept], f"{name}f", axis=0)


def to_onnx(program: Program, about: dict[str, Any], form: str = "dense", dtype: Any = np.float32) -> bytes:
    """The serialised model. about: plain data for its metadata, every value as text or JSON.

    form: "dense"; "packed", where weights that are mostly zero are stored as gaps and values; "int8", the same with
    int8 values (the program is then one that `packing.quantised` made). Raises ArgumentError without the package onnx.
    """
    if onnx is None:
        raise ArgumentError(MISSING)
    graph, names = Graph(form, dtype), ["input"]
    for k, step in enumerate(program.steps, 1):
        output = "logits" if k == len(program.steps) else f"v{k}"
        inputs = [names[i] for i in step.inputs]
        shapes = [program.shape(i) for i in step.inputs]
        names.append(add_nodes(step.operation, graph, inputs, shapes, output))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            str(about.get("network", "network")),
            [helper.make_tensor_value_info("input", graph.float, ["N", *program.input_shape])],
            [helper.make_tensor_value_info("logits", graph.float, ["N", program.classes])],
            graph.initialisers,
        ),
        producer_name="nanoprune",
        ir_version=IR,
        opset_imports=[helper.make_opsetid("", NORMALISED if graph.normalises else OPSET)],
    )
    helper.set_model_props(
        model, {name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()}
    )
    return model.SerializeToString(deterministic=True)


@functools.singledispatch
def add_nodes(operation: steps.Operation, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    """Add the nodes of an operation that write `output`; return its name. Raises ArgumentError on an unknown type."""
    raise ArgumentError(f"{type(operation).__name__} has no ONNX rule; register it with add_nodes")


@add_nodes.register
def _(operation: steps.Conv, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    names = [graph.weights(f"{output}w", operation.weight, operation.scale), graph.real(f"{output}b", operation.bias)]
    k, s, p = operation.weight.shape[-1], operation.stride, operation.padding
    sizes = {"kernel_shape": [k, k], "strides": [s, s], "pads": [p] * 4, "group": operation.group}
    return graph.node("Conv", inputs + names, output, **sizes)


@add_nodes.register
def _(operation: steps.Linear, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    names = [graph.weights(f"{output}w", operation.weight, operation.scale), graph.real(f"{output}b", operation.bias)]
    return graph.node("Gemm", inputs + names, output, transB=1)


@add_nodes.register
def _(operation: steps.Affine, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    if operation.normalisation is not None:  # as it was, so that it can be trained further where it is imported
        graph.normalises = True
        names = [graph.real(f"{output}n{i}", values) for i, values in enumerate(operation.normalisation)]
        return graph.node("BatchNormalization", inputs + names, output, epsilon=steps.EPS)
    product = graph.node("Mul", [inputs[0], channels(graph, f"{output}k", operation.scale, shapes[0])], f"{output}m")
    return graph.node("Add", [product, channels(graph, f"{output}t", operation.shift, shapes[0])], output)


@add_nodes.register
def _(operation: steps.GroupNorm, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    G, shape = operation.groups, shapes[0]
    grouped = graph.node(
        "Reshape", [inputs[0], graph.integers(f"{output}g", 0, G, math.prod(shape) // G)], f"{output}a"
    )
    unit = [graph.real(f"ones{G}", np.ones(G)), graph.real(f"zeros{G}", np.zeros(G))]
    normal = graph.node("InstanceNormalization", [grouped, *unit], f"{output}n", epsilon=steps.EPS)
    whole = graph.node("Reshape", [normal, graph.integers(f"{output}s", 0, *shape)], f"{output}r")
    product = graph.node("Mul", [whole, channels(graph, f"{output}k", operation.gamma, shape)], f"{output}m")
    return graph.node("Add", [product, channels(graph, f"{output}t", operation.beta, shape)], output)


def channels(graph: Graph, name: str, values: np.ndarray, shape: Shape) -> str:
    """Values of each channel (C,), to broadcast over (N, C, H, W) or (N, C)."""
    return graph.real(name, values.reshape(-1, *[1] * (len(shape) - 1)))


@add_nodes.register
def _(operation: steps.Activation, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    if operation.kind == "relu6":
        return graph.node("Clip", [*inputs, graph.real("low", np.array(0)), graph.real("high", np.array(6))], output)
    return graph.node({"relu": "Relu", "tanh": "Tanh"}[operation.kind], inputs, output)


@add_nodes.register
def _(operation: steps.MaxPool, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    k, s, p = operation.size, operation.stride, operation.padding
    return graph.node("MaxPool", inputs, output, kernel_shape=[k, k], strides=[s, s], pads=[p] * 4)


@add_nodes.register
def _(operation: steps.AvgPool, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    return graph.node("AveragePool", inputs, output, kernel_shape=[operation.size] * 2, strides=[operation.size] * 2)


@add_nodes.register
def _(operation: steps.GlobalAvgPool, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    return graph.node("Flatten", [graph.node("GlobalAveragePool", inputs, f"{output}m")], output, axis=1)


@add_nodes.register
def _(operation: steps.Flatten, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    return graph.node("Flatten", inputs, output, axis=1)


@add_nodes.register
def _(operation: steps.Gather, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    return graph.node("Gather", [*inputs, graph.constant(f"{output}i", operation.index)], output, axis=1)


@add_nodes.register
def _(operation: steps.Concat, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    return graph.node("Concat", inputs, output, axis=1)


@add_nodes.register
def _(operation: steps.Add, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    return graph.node("Add", inputs, output)


def run_onnx(model: bytes, x: np.ndarray) -> np.ndarray | None:
    """Logits (N, classes) that onnxruntime computes on x (N, *input_shape) float32; None where it is not installed.

    Raises DataError where onnxruntime refuses the model.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return session.run(None, {"input": x})[0]
    except Exception as error:  # its exceptions have no common base but Exception
        raise DataError(f"onnxruntime refuses the exported model ({str(error).splitlines()[0][:200]})") from error
