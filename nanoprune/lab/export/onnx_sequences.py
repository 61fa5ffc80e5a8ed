"""ONNX rules of the operations on sequences, (N, T, E) there; by operators of opset 13.

Tokens are floats in `input` (N, T), as all records are, and 0 is padding.
"""

from __future__ import annotations

import math

import numpy as np

from nanoprune.lab.export import steps
from nanoprune.lab.export.onnx import Graph, TensorProto, add_nodes
from nanoprune.lab.export.steps import Shape
from nanoprune.lab.layers.attention import HIDDEN
from nanoprune.lab.layers.gelu import CUBE, SCALE


@add_nodes.register
def _(operation: steps.Embed, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    weight = graph.weights(f"{output}w", operation.weight, operation.scale)
    table = graph.node("Transpose", [weight], f"{output}t", perm=[1, 0])  # (tokens, E)
    index = graph.node("Cast", inputs, f"{output}i", to=TensorProto.INT64)
    return graph.node("Gather", [table, index], output, axis=0)


@add_nodes.register
def _(operation: steps.Positions, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    return graph.node("Add", [*inputs, graph.real(f"{output}p", operation.table)], output)


@add_nodes.register
def _(operation: steps.TokenLinear, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    weight = graph.weights(f"{output}w", operation.weight, operation.scale)
    turned = graph.node("Transpose", [weight], f"{output}t", perm=[1, 0])
    product = graph.node("MatMul", [*inputs, turned], f"{output}m")
    return graph.node("Add", [product, graph.real(f"{output}b", operation.bias)], output)


@add_nodes.register
def _(operation: steps.LayerNorm, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    mean = graph.node("ReduceMean", inputs, f"{output}a", axes=[-1])
    centred = graph.node("Sub", [*inputs, mean], f"{output}c")
    square = graph.node("Mul", [centred, centred], f"{output}s")
    variance = graph.node("ReduceMean", [square], f"{output}v", axes=[-1])
    above = graph.node("Add", [variance, graph.real("epsilon", np.array(steps.EPS))], f"{output}e")
    normal = graph.node("Div", [centred, graph.node("Sqrt", [above], f"{output}d")], f"{output}n")
    product = graph.node("Mul", [normal, graph.real(f"{output}k", operation.gamma)], f"{output}m")
    return graph.node("Add", [product, graph.real(f"{output}t", operation.beta)], output)


@add_nodes.register
def _(operation: steps.GELU, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    (x,) = inputs
    factors = {"gelu1": SCALE, "gelu3": SCALE * CUBE, "half": 0.5, "one": 1.0}
    first, third, half, one = (graph.real(f"{name}f", np.array(value)) for name, value in factors.items())
    square = graph.node("Mul", [x, x], f"{output}s")
    scaled = graph.node("Add", [graph.node("Mul", [square, third], f"{output}c"), first], f"{output}u")
    bent = graph.node("Tanh", [graph.node("Mul", [scaled, x], f"{output}v")], f"{output}h")
    product = graph.node("Mul", [graph.node("Add", [bent, one], f"{output}o"), x], f"{output}p")
    return graph.node("Mul", [product, half], output)


@add_nodes.register
def _(operation: steps.Attention, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    (T, C), h = shapes[0], operation.heads
    d = C // (3 * h)
    parted = graph.node("Reshape", [inputs[0], graph.integers(f"{output}r", 0, T, 3, h, d)], f"{output}a")
    names = []
    for place, (name, perm) in enumerate((("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3]))):
        part = graph.node(
            "Gather", [parted, graph.constant(f"part{place}", np.int64(place))], f"{output}{name}", axis=2
        )
        names.append(graph.node("Transpose", [part], f"{output}{name}t", perm=perm))  # (N, h, T, d), K (N, h, d, T)
    scores = graph.node("MatMul", names[:2], f"{output}s")
    scale = graph.real(f"{output}f", np.array(1 / math.sqrt(d)))
    scores = graph.node("Mul", [scores, scale], f"{output}m")
    if len(inputs) > 1:
        hidden = graph.node(
            "Mul", [_padding(graph, inputs[1], output), graph.real("hidden", np.array(HIDDEN))], f"{output}h"
        )
        shaped = graph.node("Reshape", [hidden, graph.integers(f"{output}n", 0, 1, 1, T)], f"{output}y")
        scores = graph.node("Add", [scores, shaped], f"{output}x")
    if operation.causal:
        later = graph.real(f"later{T}", np.triu(np.full((T, T), HIDDEN), 1))
        scores = graph.node("Add", [scores, later], f"{output}l")
    shares = graph.node("Softmax", [scores], f"{output}p", axis=-1)
    mixed = graph.node("MatMul", [shares, names[2]], f"{output}o")
    ordered = graph.node("Transpose", [mixed], f"{output}z", perm=[0, 2, 1, 3])
    return graph.node("Reshape", [ordered, graph.integers(f"{output}g", 0, T, h * d)], output)


@add_nodes.register
def _(operation: steps.TokenPool, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    T = shapes[0][0]
    if len(inputs) == 1:
        weights = np.zeros(T) if operation.last else np.full(T, 1 / T)
        weights[-1] = 1 if operation.last else weights[-1]
        shaped = graph.real(f"{output}w", weights[:, None])
    else:
        one = graph.real("onef", np.array(1.0))
        real = graph.node("Sub", [one, _padding(graph, inputs[1], output)], f"{output}r")  # (N, T)
        if operation.last:
            places = graph.node("Mul", [real, graph.real(f"places{T}", np.arange(1.0, T + 1))], f"{output}p")
            last = graph.node(
                "Equal", [places, graph.node("ReduceMax", [places], f"{output}m", axes=[1])], f"{output}e"
            )
            weights = graph.node("Mul", [real, graph.node("Cast", [last], f"{output}l", to=graph.float)], f"{output}w")
        else:
            count = graph.node("ReduceSum", [real, graph.integers("axis1", 1)], f"{output}c")
            weights = graph.node("Div", [real, graph.node("Max", [count, one], f"{output}m")], f"{output}w")
        shaped = graph.node("Reshape", [weights, graph.integers(f"{output}s", 0, T, 1)], f"{output}v")
    weighted = graph.node("Mul", [inputs[0], shaped], f"{output}x")
    return graph.node("ReduceSum", [weighted, graph.integers("axis1", 1)], output, keepdims=0)


def _padding(graph: Graph, tokens: str, output: str) -> str:
    """1 where the tokens (N, T) are padding, 0 elsewhere, as floats."""
    equal = graph.node("Equal", [tokens, graph.real("nothing", np.array(0.0))], f"{output}i0")
    return graph.node("Cast", [equal], f"{output}i1", to=graph.float)


@add_nodes.register
def _(operation: steps.ImageTokens, graph: Graph, inputs: list[str], shapes: list[Shape], output: str) -> str:
    C, H, W = shapes[0]
    flat = graph.node("Reshape", [*inputs, graph.integers(f"{output}s", 0, C, H * W)], f"{output}f")
    return graph.node("Transpose", [flat], output, perm=[0, 2, 1])
