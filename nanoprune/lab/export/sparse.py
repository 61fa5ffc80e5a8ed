"""Sparse inference: layers of low density as compressed sparse rows (CSR), the others dense."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
from numpy.lib.stride_tricks import sliding_window_view

from nanoprune.backend import to_host
from nanoprune.errors import ArgumentError
from nanoprune.lab.export import steps
from nanoprune.lab.export.packing import program_of
from nanoprune.lab.export.unsupported import check_operations
from nanoprune.lab.layers import ColumnScaling
from nanoprune.nn import Network
from nanoprune.nn.sequential import leaves

PAYS_BELOW = 0.1  # density below which a product with CSR was faster than a dense one (benchmarks/deploy.py density)
Call = Callable[..., np.ndarray]


class SparseModel:
    """A network of one replica for inference, float32 on the CPU: the outputs of `Network.forward`, up to rounding.

    Each dense layer and convolution whose density is below 0.1 is a SciPy CSR matrix; the others stay dense. BatchNorm
    is folded into the weights. Raises ArgumentError on a layer without a rule.
    """

    def __init__(self, net: Network, pays_below: float = PAYS_BELOW) -> None:
        check_operations(net, compiled, "sparse()")
        self.program = program_of(net, "packed")
        self.calls = [compiled(step.operation, pays_below) for step in self.program.steps]
        self.fill = stands_for_missing(net)
        self.last = [0] * (len(self.calls) + 1)
        for k, step in enumerate(self.program.steps, 1):
            for i in step.inputs:
                self.last[i] = k

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits (N, classes) of x (N, C, H, W) or (N, F), float32. Raises ArgumentError on another shape."""
        x = records_of(x, self.program.input_shape, self.fill)
        values: dict[int, np.ndarray] = {0: np.ascontiguousarray(np.moveaxis(x, 0, -1), np.float32)}  # samples last
        for k, (step, call) in enumerate(zip(self.program.steps, self.calls, strict=True), 1):
            values[k] = call(*(values[i] for i in step.inputs))
            for i in set(step.inputs):
                if self.last[i] == k:
                    del values[i]
        return np.ascontiguousarray(values[len(self.calls)].T)

    def sparse_layers(self) -> int:
        """The number of sparse layers."""
        return sum(getattr(call, "is_sparse", False) for call in self.calls)


def stands_for_missing(net: Network) -> np.ndarray | None:
    """For each column of a table the number that stands for a missing one, (F,); None of other networks."""
    scaling = [layer for layer in leaves(net.body) if isinstance(layer, ColumnScaling)]
    return to_host(scaling[0].mean.value)[0, :, 0] if scaling else None


def records_of(x: np.ndarray, shape: tuple[int, ...], fill: np.ndarray | None) -> np.ndarray:
    """x (N, *shape) with `fill` in place of NaN. Raises ArgumentError on another shape."""
    if x.shape[1:] != shape:
        raise ArgumentError(f"x must have the shape (N, {', '.join(map(str, shape))}), got {x.shape}")
    return x if fill is None else np.where(np.isnan(x), fill, x)


def matrix(weight: np.ndarray, pays_below: float) -> Any:
    """weight (O, n) as a sparse matrix where its density is below `pays_below`, else dense."""
    weight = np.ascontiguousarray(weight, np.float32)
    is_sparse = np.count_nonzero(weight) < pays_below * weight.size
    return scipy.sparse.csr_array(weight) if is_sparse else weight


@functools.singledispatch
def compiled(operation: steps.Operation, pays_below: float) -> Call:
    """A function of the inputs (C, H, W, N) or (F, N). Raises ArgumentError on an unknown type."""
    raise ArgumentError(f"{type(operation).__name__} has no rule for sparse inference; register it with `compiled`")


def marked(call: Call, W: Any) -> Call:
    call.is_sparse = scipy.sparse.issparse(W)  # type: ignore[attr-defined]
    return call


@compiled.register
def _(operation: steps.Linear, pays_below: float) -> Call:
    W, b = matrix(operation.weight, pays_below), operation.bias.astype(np.float32)[:, None]

    def call(x: np.ndarray) -> np.ndarray:
        y = W @ x
        y += b
        return y

    return marked(call, W)


@compiled.register
def _(operation: steps.Conv, pays_below: float) -> Call:
    O, _, k, _ = operation.weight.shape
    s, p, G, bias = operation.stride, operation.padding, operation.group, operation.bias.astype(np.float32)
    if G > 1:
        return marked(functools.partial(grouped, operation), None)
    W = matrix(operation.weight.swapaxes(1, 2).reshape(O, -1), pays_below)  # (O, kh*C*kw)

    def call(x: np.ndarray) -> np.ndarray:
        L = lowered(x, k, s, p)  # (H + 2p, C, kw, OW, N)
        OH, N = (len(L) - k) // s + 1, x.shape[-1]
        y = np.empty((OH, O, L.shape[3] * N), np.float32)
        for i in range(OH):  # the rows of L that output row i needs are adjacent
            y[i] = W @ L[s * i : s * i + k].reshape(W.shape[1], -1)
        y += bias[:, None]
        return y.reshape(OH, O, -1, N).swapaxes(0, 1)

    return marked(call, W)


def grouped(operation: steps.Conv, x: np.ndarray) -> np.ndarray:
    """A grouped convolution, tap by tap, each a scaled view of x (C, H, W, N); dense."""
    O, per_group, k, _ = operation.weight.shape
    s, p, G = operation.stride, operation.padding, operation.group
    if p:
        x = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    OH, OW = ((side - k) // s + 1 for side in x.shape[1:3])
    y = np.empty((O, OH, OW, x.shape[-1]), np.float32)
    y[...] = operation.bias[:, None, None, None]
    group = np.arange(O) // (O // G) * per_group  # the first channel that each output reads
    for c, i, j in np.ndindex(per_group, k, k):
        view = x[:, i : i + s * (OH - 1) + 1 : s, j : j + s * (OW - 1) + 1 : s]
        weight = operation.weight[:, c, i, j].astype(np.float32)[:, None, None, None]
        y += weight * (view if G == len(view) == O else view[group + c])
    return y


def lowered(x: np.ndarray, k: int, s: int, p: int) -> np.ndarray:
    """L[h, c, j, w, n] = x[c, h - p, s w + j - p, n], zeros outside of x (C, H, W, N): MEC, as in `nn.Conv2D`."""
    C, H, W, N = x.shape
    OW = (W + 2 * p - k) // s + 1
    L = np.zeros((H + 2 * p, C, k, OW, N), np.float32)
    for j in range(k):
        first = max(0, -(-(p - j) // s))  # the outputs whose column j is inside of the image
        last = min(OW, (W - 1 + p - j) // s + 1)
        start = s * first + j - p
        L[p : p + H, :, j, first:last] = x[:, :, start : start + s * (last - first) : s].swapaxes(0, 1)
    return L


def windows(x: np.ndarray, k: int, s: int, p: int) -> np.ndarray:
    """The k x k windows of x (C, H, W, N), with stride s and padding p: a view (C, OH, OW, N, k, k)."""
    if p:
        x = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    return sliding_window_view(x, (k, k), axis=(1, 2))[:, ::s, ::s]


@compiled.register
def _(operation: steps.Affine, pays_below: float) -> Call:
    scale, shift = operation.scale.astype(np.float32), operation.shift.astype(np.float32)
    return lambda x: x * per_channel(scale, x) + per_channel(shift, x)


@compiled.register
def _(operation: steps.GroupNorm, pays_below: float) -> Call:
    gamma, beta = operation.gamma.astype(np.float32), operation.beta.astype(np.float32)

    def call(x: np.ndarray) -> np.ndarray:
        grouped = x.reshape(operation.groups, -1, x.shape[-1])  # (G, values, N)
        centred = grouped - grouped.mean(axis=1, keepdims=True)
        normal = centred / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + np.float32(steps.EPS))
        return normal.reshape(x.shape) * per_channel(gamma, x) + per_channel(beta, x)

    return call


def per_channel(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values (C,) to broadcast over x (C, ..., N)."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


@compiled.register
def _(operation: steps.Activation, pays_below: float) -> Call:
    if operation.kind == "tanh":
        return np.tanh
    high = np.float32(6) if operation.kind == "relu6" else None
    return lambda x: np.maximum(x, 0) if high is None else np.clip(x, 0, high)


@compiled.register
def _(operation: steps.MaxPool, pays_below: float) -> Call:
    k, s, p = operation.size, operation.stride, operation.padding

    def call(x: np.ndarray) -> np.ndarray:
        if p:
            x = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)), constant_values=-np.inf)
        for axis in (1, 2):  # the maxima over rows, then those over columns of these
            count = (x.shape[axis] - k) // s + 1
            parts = [x[(slice(None),) * axis + (slice(i, i + s * (count - 1) + 1, s),)] for i in range(k)]
            x = functools.reduce(np.maximum, parts)
        return x

    return call


@compiled.register
def _(operation: steps.AvgPool, pays_below: float) -> Call:
    return lambda x: windows(x, operation.size, operation.size, 0).mean(axis=(-2, -1))


@compiled.register
def _(operation: steps.GlobalAvgPool, pays_below: float) -> Call:
    return lambda x: x.mean(axis=(1, 2))


@compiled.register
def _(operation: steps.Flatten, pays_below: float) -> Call:
    return lambda x: x.reshape(-1, x.shape[-1])


@compiled.register
def _(operation: steps.Gather, pays_below: float) -> Call:
    return lambda x: x[operation.index]


@compiled.register
def _(operation: steps.Concat, pays_below: float) -> Call:
    return lambda *parts: np.concatenate(parts)


@compiled.register
def _(operation: steps.Add, pays_below: float) -> Call:
    return np.add
