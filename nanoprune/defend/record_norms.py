r"""The squared norms of per-record gradients, by the type of the layer, for clipping in DP-SGD.

With $dW = \sum_n dW_n$ over the records n, `record_norms(layer, dY, ws, saved, support)` is $\sum \|dW_n\|^2$ over the
layer's parameters, (R, N) in float64, since rounding errors could let a gradient exceed the clipping norm.
saved: what the layer's forward pass saved. support: for a Parameter the mask (R, *shape) of entries that are trained.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np

from nanoprune.backend import product, xp
from nanoprune.defend.place_norms import place_norms, record_blocks, records_first
from nanoprune.errors import ArgumentError
from nanoprune.nn import Conv2D, Dense, Layer, Workspace


@singledispatch
def record_norms(layer: Layer, *arguments: Any) -> Any:
    """(R, N) float64. Raises ArgumentError for a layer that has no such function."""
    raise ArgumentError(f"{layer!r} has no per-record norms; register them in nanoprune/defend/record_norms.py")


@record_norms.register
def _(layer: Dense, dY: Any, ws: Workspace, saved: tuple, support: dict) -> Any:
    r"""$dW_n = dy_n x_n^T$ has rank one: $\|dW_n\|^2 = \|dy_n\|^2 \|x_n\|^2$, on a support M $(dy_n^2)^T M x_n^2$."""
    (X,) = saved
    x2, dy2 = X * X, dY * dY  # (R, in, N), (R, out, N)
    if layer.W not in support:
        return (xp.sum(dy2, axis=1) * (xp.sum(x2, axis=1) + 1)).astype(np.float64)  # + 1 for b
    of_unit = product(support[layer.W], x2, out=xp.empty_like(dy2))  # (R, out, N)
    of_unit += 1
    of_unit *= dy2
    return xp.sum(of_unit, axis=1).astype(np.float64)


@record_norms.register
def _(layer: Conv2D, dY: Any, ws: Workspace, saved: tuple, support: dict) -> Any:
    """Row i of the kernels has the gradient D^T A_i, with A_i the rows i, s + i, 2s + i, ... of L."""
    R, OH, O, OW, N = dY.shape
    k, s, CK, T = layer.size, layer.stride, layer.channels * layer.size, OH * OW
    M = support.get(layer.W)
    if M is not None:
        M = M.reshape(R, O, k, -1, k).transpose(0, 2, 1, 4, 3).reshape(R, k, O, CK)  # (R, kh, O, kw*C)
    norms = xp.empty((R, N))
    for block in record_blocks(N, R * (s * T * CK + T * O + O * CK)):
        L = lowered_records(layer, block, ws, *saved)  # (R, b, H + 2p, OW, kw*C)
        D = records_first(dY[..., block], "D", ws).reshape(R, -1, T, O)
        A = [L[:, :, i : i + s * (OH - 1) + 1 : s].reshape(R, -1, T, CK) for i in range(k)]
        norms[:, block] = place_norms(A, D, layer.b is not None, M, ws)
    return norms


@singledispatch
def lowered_records(layer: Conv2D, block: slice, ws: Workspace, L: Any, X_shape: tuple[int, ...]) -> Any:
    """L of a block of records, records first: (R, b, H + 2p, OW, kw*C) float64."""
    L = records_first(L[..., block], "L", ws)  # (R, b, H + 2p, OW, kw, C)
    return L.reshape(*L.shape[:4], -1)
