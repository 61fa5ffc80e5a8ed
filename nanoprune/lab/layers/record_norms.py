"""Squared norms of per-record gradients for the layers of `nanoprune.lab.layers`, see `defend.record_norms`."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoprune.backend import product, xp
from nanoprune.defend.place_norms import place_norms, record_blocks, records_first
from nanoprune.defend.record_norms import record_norms
from nanoprune.lab.layers.batchnorm import BatchNorm
from nanoprune.lab.layers.depthwise import DepthwiseConv2D
from nanoprune.lab.layers.embedding import Embedding
from nanoprune.lab.layers.groupnorm import GroupNorm
from nanoprune.lab.layers.layernorm import LayerNorm
from nanoprune.lab.layers.pointwise import Pointwise
from nanoprune.lab.layers.positions import PositionalEncoding
from nanoprune.lab.layers.tokendense import TokenDense
from nanoprune.nn import Workspace
from nanoprune.nn.registry import refuse

record_norms.register(
    BatchNorm, refuse("mixes the records of a batch, so single records cannot be clipped; use GroupNorm")
)


@record_norms.register
def _(layer: Pointwise, dY: Any, ws: Workspace, saved: tuple, support: dict) -> Any:
    """A record's gradient is D^T A, with A its T input pixels and D the gradients of its T output pixels."""
    R, OH, O, OW, N = dY.shape
    C, T = layer.channels, OH * OW
    M = support[layer.W][:, None] if layer.W in support else None  # (R, 1, O, C)
    norms, A = xp.empty((R, N)), saved[0].reshape(R, OH, C, OW, N)
    for block in record_blocks(N, R * (T * C + T * O + O * C)):
        X = records_first(A[..., block], "X", ws).reshape(R, -1, T, C)
        D = records_first(dY[..., block], "D", ws).reshape(R, -1, T, O)
        norms[:, block] = place_norms([X], D, layer.b is not None, M, ws)
    return norms


@record_norms.register
def _(layer: DepthwiseConv2D, dY: Any, ws: Workspace, saved: tuple, support: dict) -> Any:
    """dW_n[c, ij] = sum_yx dY T_ij, one kernel entry after another."""
    P, rows = saved[0], slice(0, dY.shape[1])
    norms = xp.zeros((dY.shape[0], dY.shape[-1]))
    for ij in range(layer.size**2):
        T = layer.view(P, ij, rows, dY.shape)  # (R, OH, C, OW, N)
        dW = xp.sum(xp.multiply(dY, T, dtype=np.float64), axis=(1, 3))  # (R, C, N)
        if layer.W in support:
            dW *= support[layer.W][:, :, ij, None]
        norms += xp.sum(dW * dW, axis=1)
    if layer.b:
        db = xp.sum(dY, axis=(1, 3), dtype=np.float64)  # (R, C, N)
        norms += xp.sum(db * db, axis=1)
    return norms


@record_norms.register
def _(layer: GroupNorm, dY: Any, ws: Workspace, saved: tuple, support: dict) -> Any:
    D, x = layer.grouped(dY), saved[0]  # (R, H, G, C/G, W, N)
    dbeta = xp.sum(D, axis=(1, 4), dtype=np.float64)  # (R, G, C/G, N)
    dgamma = xp.sum(xp.multiply(D, x, dtype=np.float64), axis=(1, 4))
    return xp.sum(dbeta * dbeta + dgamma * dgamma, axis=(1, 2))


@record_norms.register
def _(layer: TokenDense, dY: Any, ws: Workspace, saved: tuple, support: dict) -> Any:
    """A record's gradient is D^T A, with A (T, in) its tokens and D (T, out) the gradients of its outputs."""
    R, T, O, N = dY.shape
    (X,), C = saved, layer.inputs
    M = support[layer.W][:, None] if layer.W in support else None  # (R, 1, out, in)
    norms = xp.empty((R, N))
    for block in record_blocks(N, R * (T * C + T * O + O * C)):
        A, D = records_first(X[..., block], "X", ws), records_first(dY[..., block], "D", ws)
        norms[:, block] = place_norms([A], D, True, M, ws)
    return norms


@record_norms.register
def _(layer: LayerNorm, dY: Any, ws: Workspace, saved: tuple, support: dict) -> Any:
    dbeta, dgamma = layer.per_record(dY, *saved)  # (R, E, N)
    return xp.sum(dbeta * dbeta + dgamma * dgamma, axis=1)


@record_norms.register
def _(layer: PositionalEncoding, dY: Any, ws: Workspace, saved: tuple, support: dict) -> Any:
    return xp.sum(xp.multiply(dY, dY, dtype=np.float64), axis=(1, 2))  # a record's gradient is its dY


@record_norms.register
def _(layer: Embedding, dY: Any, ws: Workspace, saved: tuple, support: dict) -> Any:
    r"""$\sum_v \|\sum_{t: x_t = v} d_t\|^2 = \sum_{ts: x_t = x_s} \langle d_t, d_s \rangle$."""
    (index,) = saved  # (R, T, N)
    R, T, E, N = dY.shape
    norms = xp.empty((R, N))
    for block in record_blocks(N, R * (T * E + T * T)):
        D = records_first(dY[..., block], "D", ws)  # (R, b, T, E)
        tokens = index[..., block].swapaxes(1, 2)  # (R, b, T)
        if layer.W in support:
            for r in range(R):
                D[r] *= support[layer.W][r].T[tokens[r]]  # (b, T, E)
        gram = product(D, D.swapaxes(-1, -2), out=ws.scratch("DD", (*tokens.shape, T), np.float64))
        gram *= tokens[..., None] == tokens[:, :, None]
        norms[:, block] = xp.maximum(xp.sum(gram, axis=(2, 3)), 0)  # rounding may leave it below 0
    return norms
