"""Constant folding: what an ONNX graph computes from its constants alone, such as weights that are stored packed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.models.onnx_file import TYPES, Graph, Node
from nanoprune.lab.storage.bounded import check_promise, first_line
from nanoprune.lab.storage.text import printable

BATCH = -(1 << 62)  # stands for the number of samples in a shape that a graph computes with


class Folding:
    """Evaluates nodes whose inputs are all constant. The memory for all results together is bounded by the file."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.spent = graph, 0

    def __call__(self, node: Node, inputs: list[np.ndarray | None]) -> np.ndarray:
        what = f"{self.graph.shown}: {printable(node.op, 40)}"
        try:
            with np.errstate(all="ignore"):
                self._promise(SIZES.get(node.op, _sum)(*inputs), what)
                return np.asarray(OPERATIONS[node.op](node.attributes, *inputs))
        except DataError:
            raise
        except Exception as error:  # whatever NumPy raises on inputs that do not fit
            raise DataError(f"{what} of constants cannot be computed ({first_line(error)})") from error

    def _promise(self, size: int, what: str) -> None:
        self.spent += size
        check_promise(self.spent, self.graph.stored, what, "export the model again")


def _sum(*inputs: Any) -> int:
    return sum(8 * of.size for of in inputs if of is not None) + 8


def _broadcast(*inputs: np.ndarray) -> int:
    return 8 * math.prod(np.broadcast_shapes(*(of.shape for of in inputs)))


SIZES: dict[str, Callable[..., int]] = {  # bytes of a result that can be larger than the inputs
    "ConstantOfShape": lambda shape: 8 * math.prod(map(int, shape)),
    "Gather": lambda of, index: 8 * (index.size + 1) * (of.size // max(1, min(of.shape, default=1)) + 1),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _broadcast),
}


def _constant(attributes: dict[str, Any]) -> np.ndarray:
    (name,) = (name for name in attributes if name.startswith("value"))
    value = attributes[name]
    if value is None or isinstance(value, bytes):
        raise ValueError(f"{name} is no number")
    kind = np.int64 if name.startswith("value_int") else np.float32
    return value if isinstance(value, np.ndarray) else np.array(value, kind)


def _filled(attributes: dict[str, Any], shape: np.ndarray) -> np.ndarray:
    value = attributes.get("value", np.zeros(1, np.float32))
    return np.full([int(size) for size in shape], value.reshape(-1)[0], value.dtype)


def _reshape(attributes: dict[str, Any], of: np.ndarray, shape: np.ndarray) -> np.ndarray:
    zeros = attributes.get("allowzero", 0)
    return of.reshape([of.shape[i] if not size and not zeros else int(size) for i, size in enumerate(shape)])


def _axes(attributes: dict[str, Any], axes: np.ndarray | None) -> tuple[int, ...]:
    return tuple(int(axis) for axis in (attributes.get("axes", ()) if axes is None else axes.reshape(-1)))


def _scattered(attributes: dict[str, Any], of: np.ndarray, index: np.ndarray, values: np.ndarray) -> np.ndarray:
    if of.ndim != 1 or index.shape != values.shape or attributes.get("reduction", b"none") != b"none":
        raise ValueError("only one axis is scattered over")
    out = of.copy()
    out[index] = values
    return out


def _squeezed(attributes: dict[str, Any], of: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    return np.squeeze(of, _axes(attributes, axes) or None)


OPERATIONS: dict[str, Callable[..., np.ndarray]] = {
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Identity": lambda attributes, of: of,
    "Cast": lambda attributes, of: of.astype(TYPES[attributes["to"]][0]),
    "Reshape": _reshape,
    "Transpose": lambda attributes, of: of.transpose(attributes.get("perm")),
    "Squeeze": _squeezed,
    "Unsqueeze": lambda attributes, of, axes=None: np.expand_dims(of, _axes(attributes, axes)),
    "Concat": lambda attributes, *of: np.concatenate(of, attributes["axis"]),
    "Gather": lambda attributes, of, index: np.take(of, index, attributes.get("axis", 0)),
    "Add": lambda attributes, a, b: a + b,
    "Sub": lambda attributes, a, b: a - b,
    "Mul": lambda attributes, a, b: a * b,
    "Div": lambda attributes, a, b: a / b if a.dtype.kind == "f" else a // b,
    "CumSum": lambda attributes, of, axis: np.cumsum(of, int(axis), of.dtype),
    "ScatterElements": _scattered,
}
