"""From an operation of an ONNX graph to layers of ours, by its name. Shapes are of one sample, images (C, H, W)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.layers.batchnorm import EPS
from nanoprune.lab.models.onnx_constants import BATCH
from nanoprune.lab.models.onnx_file import Graph, Node
from nanoprune.lab.storage.text import printable
from nanoprune.nn.layer import windows_along

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """A layer: its record (`lab.zoo.sequence`), the number of units that it puts out where it has weights, and its
    tensors by PyTorch's names, in PyTorch's layout.

    Two records are of no layer: "affine", y = scale x + shift of each channel, which `onnx_plan` folds into a layer
    beside it, and "softmax", which it drops at the end.
    """

    record: dict[str, Any]
    width: int | None = None
    tensors: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Reading:
    """A node with what its rule looks at: shape of its input, constants of the graph by name."""

    graph: Graph
    node: Node
    shape: Shape
    constants: dict[str, np.ndarray]

    def constant(self, place: int) -> np.ndarray | None:
        """The constant that is input `place`; None where it is left out."""
        name = self.node.inputs[place] if place < len(self.node.inputs) else ""
        if not name:
            return None
        if name not in self.constants:
            raise self.refused(f"input {place} depends on the records, expected a constant")
        return self.constants[name]

    def needed(self, place: int) -> np.ndarray:
        found = self.constant(place)
        if found is None:
            raise self.refused(f"input {place} is missing")
        return found

    def numbers(self, name: str, place: int | None, default: list[int]) -> list[int]:
        """Integers that are an attribute, or in newer opsets a constant input."""
        found = self.constant(place) if place is not None else None
        given = self.node.attributes.get(name) if found is None else found.reshape(-1).tolist()
        return default if given is None else [int(value) for value in given]

    def refused(self, why: str) -> DataError:
        op, output = printable(self.node.op, 40), printable(self.node.outputs[0], 60)
        return DataError(f"{self.graph.shown}: {op} (makes {output}) {why}")


Result = tuple[list[Found], Shape]


def _same(name: str) -> Callable[[Reading], Result]:
    """An elementwise layer without parameters."""
    return lambda of: ([Found({"layer": name})], of.shape)


def _window(of: Reading, size: tuple[int, ...]) -> dict[str, int]:
    """size, stride and padding of a square window of `size`. Raises DataError where ours have no such window."""
    if len(of.shape) != 3 or len(size) != 2:
        raise of.refused(f"reads {printable(of.shape)}, expected images (C, H, W)")
    strides, dilations = of.numbers("strides", None, [1, 1]), of.numbers("dilations", None, [1, 1])
    pads, auto = of.numbers("pads", None, [0] * 4), of.node.attributes.get("auto_pad", b"NOTSET")
    if auto in (b"SAME_UPPER", b"SAME_LOWER") and strides == [1, 1] and size[0] % 2:
        pads = [size[0] // 2] * 4
    elif auto not in (b"NOTSET", b"VALID", b""):
        raise of.refused("pads one side more than the other; export it with equal padding")
    if len(set(size)) > 1 or len(set(strides)) > 1 or set(dilations) != {1} or len(set(pads)) > 1:
        what = f"{list(size)}, strides {strides}, pads {pads}, dilations {dilations}"
        raise of.refused(f"has a window of {printable(what)}; layers here have square ones, padded alike, not dilated")
    return {"size": int(size[0]), "stride": strides[0], "padding": pads[0]}


def _windows(of: Reading, size: int, stride: int, padding: int, ceil: bool = False) -> tuple[int, int]:
    """Height and width of the output."""
    if stride < 1 or any(side + 2 * padding < size for side in of.shape[1:]):
        raise of.refused(f"has a window of {size} on images of {of.shape[1]} x {of.shape[2]}")
    if ceil and any((side + 2 * padding - size) % stride for side in of.shape[1:]):
        raise of.refused("rounds the size of its output up (ceil_mode), layers here round it down")
    H, W = (windows_along(side, size, stride, padding) for side in of.shape[1:])
    return H, W


def _conv(of: Reading) -> Result:
    W, b, group = of.needed(1), of.constant(2), of.node.attributes.get("group", 1)
    if W.ndim != 4:
        raise of.refused(f"has weights of shape {W.shape}, expected two-dimensional kernels")
    window, channels = _window(of, W.shape[2:]), of.shape[0]
    depthwise = group > 1 and (group, 1) == (channels, W.shape[1]) == (len(W), W.shape[1])
    if not depthwise and (group, channels) != (1, W.shape[1]):
        raise of.refused(
            f"has {group} groups and weights of shape {W.shape} on {channels} channels; layers here have one group, or "
            "one for each channel"
        )
    record = {"layer": "depthwise" if depthwise else "conv"} | window | {"bias": b is not None}
    tensors = {"weight": W} | ({} if b is None else {"bias": b})
    return [Found(record, len(W), tensors)], (len(W), *_windows(of, **window))


def _dense(of: Reading, W: np.ndarray, b: np.ndarray | None) -> Result:
    """W (out, in); b broadcasts to (out,)."""
    if W.ndim != 2 or of.shape != W.shape[1:]:
        raise of.refused(f"has weights of shape {W.shape[::-1]} for inputs of shape {of.shape}")
    b = np.zeros(len(W), np.float32) if b is None else per_unit(of, b, (len(W),))
    return [Found({"layer": "dense"}, len(W), {"weight": W, "bias": b})], (len(W),)


def _gemm(of: Reading) -> Result:
    alpha, beta = of.node.attributes.get("alpha", 1.0), of.node.attributes.get("beta", 1.0)
    W, b = of.needed(1), of.constant(2)
    if of.node.attributes.get("transA") or W.ndim != 2:
        raise of.refused("transposes the records, or has no matrix of weights")
    W = W if of.node.attributes.get("transB") else W.T
    return _dense(of, W if alpha == 1 else alpha * W, b if b is None or beta == 1 else beta * b)


def _matmul(of: Reading) -> Result:
    if of.node.inputs[0] in of.constants or of.needed(1).ndim != 2:
        raise of.refused("is no product of the records with a matrix of weights")
    return _dense(of, of.needed(1).T, None)


def _batchnorm(of: Reading) -> Result:
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = {name: of.needed(place) for place, name in enumerate(names, 1)}
    if of.node.attributes.get("training_mode"):
        raise of.refused("is in training mode; export the model in evaluation mode: model.eval()")
    eps = of.node.attributes.get("epsilon", 1e-5)
    if np.float32(eps) != np.float32(EPS):  # ours is fixed: the difference goes into the variance
        tensors["running_var"] = tensors["running_var"].astype(np.float64) + (eps - EPS)
    return [Found({"layer": "batchnorm"}, None, tensors)], of.shape


def _clip(of: Reading) -> Result:
    low, high = (
        of.node.attributes.get(name) if of.constant(place) is None else float(of.needed(place).reshape(-1)[0])
        for place, name in ((1, "min"), (2, "max"))
    )
    if low == 0 and (high is None or high >= np.finfo(np.float32).max):
        return _same("relu")(of)
    if (low, high) != (0, 6):
        raise of.refused(f"from {low} to {high}: layers here clip from 0 to 6 (relu6)")
    return _same("relu6")(of)


def _dropout(of: Reading) -> Result:
    ratio = of.constant(1)
    rate = of.node.attributes.get("ratio", 0.5) if ratio is None else float(ratio.reshape(-1)[0])
    return [Found({"layer": "dropout", "rate": float(rate)})], of.shape


def _maxpool(of: Reading) -> Result:
    window = _window(of, tuple(of.numbers("kernel_shape", None, [])))
    if window["padding"] > window["size"] // 2:
        raise of.refused(f"pads by {window['padding']}, more than half of its window")
    out = _windows(of, **window, ceil=bool(of.node.attributes.get("ceil_mode")))
    return [Found({"layer": "maxpool"} | window)], (of.shape[0], *out)


def _avgpool(of: Reading) -> Result:
    size = tuple(of.numbers("kernel_shape", None, []))
    if size == of.shape[1:] and not any(of.numbers("pads", None, [0])):
        return [Found({"layer": "globalavgpool"})], (of.shape[0], 1, 1)
    window = _window(of, size)
    if window["stride"] != window["size"] or window["padding"]:
        raise of.refused(
            f"has a window of {window['size']}, moved by {window['stride']} and padded by "
            f"{window['padding']}; layers here move it by its size, without padding"
        )
    out = _windows(of, **window, ceil=bool(of.node.attributes.get("ceil_mode")))
    return [Found({"layer": "avgpool", "size": window["size"]})], (of.shape[0], *out)


def _globalavgpool(of: Reading) -> Result:
    if len(of.shape) != 3:
        raise of.refused(f"reads {of.shape}, expected images (C, H, W)")
    return [Found({"layer": "globalavgpool"})], (of.shape[0], 1, 1)


def _mean(of: Reading) -> Result:
    axes = sorted(axis % 4 for axis in of.numbers("axes", 1, []))
    if len(of.shape) != 3 or axes != [2, 3]:
        raise of.refused("is no mean over the height and the width of an image")
    keep = of.node.attributes.get("keepdims", 1)
    return [Found({"layer": "globalavgpool"})], (of.shape[0], 1, 1) if keep else of.shape[:1]


def _flattened(of: Reading) -> Result:
    return [Found({"layer": "flatten"})] if len(of.shape) > 1 else [], (math.prod(of.shape),)


def _flatten(of: Reading) -> Result:
    if of.node.attributes.get("axis", 1) % (len(of.shape) + 1) != 1:
        raise of.refused("flattens another axis than those of one record")
    return _flattened(of)


def _reshape(of: Reading) -> Result:
    target = [int(size) for size in of.needed(1).reshape(-1)]
    batch, rest, size = target[:1], tuple(target[1:]), math.prod(of.shape)
    kept = {BATCH, -1, of.graph.input_shape[0]} | (set() if of.node.attributes.get("allowzero") else {0})
    if not batch or batch[0] not in kept or (batch[0] == -1 and -1 in rest):
        raise of.refused(f"makes the shape {printable(target)} of {of.shape}, which mixes records")
    if rest in ((size,), (-1,)):
        return _flattened(of)
    if rest == of.shape:
        return [], of.shape
    raise of.refused(f"makes the shape {printable(rest)} of {of.shape}; layers here only flatten images")


def _squeeze(of: Reading) -> Result:
    axes = sorted(axis % 4 for axis in of.numbers("axes", 1, []))
    if len(of.shape) != 3 or of.shape[1:] != (1, 1) or axes != [2, 3]:
        raise of.refused(f"takes axes out of {of.shape}; layers here only flatten images")
    return _flattened(of)


def _softmax(of: Reading) -> Result:
    if len(of.shape) != 1 or of.node.attributes.get("axis", 1 if of.graph.opset < 13 else -1) not in (1, -1):
        raise of.refused("is no softmax over the classes")
    return [Found({"layer": "softmax"})], of.shape


def _elementwise(of: Reading) -> Result:
    """x + c, x - c, c - x, x c, x / c with a constant of each channel."""
    first = of.node.inputs[0] in of.constants
    c = per_unit(of, of.needed(0 if first else 1), of.shape).astype(np.float64)
    one, zero = np.ones(len(c)), np.zeros(len(c))
    if of.node.op == "Div" and (first or not c.all()):
        raise of.refused("divides by the records, or by 0")
    scale, shift = {
        "Add": (one, c),
        "Sub": (-one, c) if first else (one, -c),
        "Mul": (c, zero),
        "Div": (1 / np.where(c == 0, 1, c), zero),
    }[of.node.op]
    return [Found({"layer": "affine"}, None, {"scale": scale, "shift": shift})], of.shape


def per_unit(of: Reading, values: np.ndarray, shape: Shape) -> np.ndarray:
    """Constants that broadcast over a batch of `shape` as one for each channel or feature, (C,)."""
    units = np.ones((shape[0], *[1] * (len(shape) - 1)), bool)
    try:
        if np.broadcast_shapes(values.shape, (1, *units.shape)) == (1, *units.shape):
            return np.broadcast_to(values, (1, *units.shape)).reshape(-1)
    except ValueError:
        pass
    raise of.refused(f"has a constant of shape {values.shape}, expected one number for each of {shape[0]} channels")


def _nothing(of: Reading) -> Result:
    if of.node.op == "Cast" and of.node.attributes.get("to") not in (1, 11):  # float32, float64
        raise of.refused("makes other numbers than float32 of the records")
    return [], of.shape


RULES: dict[str, Callable[[Reading], Result]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batchnorm,
    "Relu": _same("relu"),
    "Tanh": _same("tanh"),
    "Clip": _clip,
    "MaxPool": _maxpool,
    "AveragePool": _avgpool,
    "GlobalAveragePool": _globalavgpool,
    "ReduceMean": _mean,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Dropout": _dropout,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Identity": _nothing,
    "Cast": _nothing,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _elementwise),
}
